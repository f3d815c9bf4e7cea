# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are held open without a request."""

from __future__ import annotations

import socket
import time

import pytest
from registry.site import Serve, Site

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api import protocol


@pytest.fixture
def database() -> str:
    return "sqlite"


@pytest.fixture
def site(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(protocol, "_ARRIVES_WITHIN", 0.5)
    return serve()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /v1/registrations HTTP/1.1\r\nhost: x\r\n",
        b"POST /v1/registrations HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{",
    ],
)
def test_a_request_that_does_not_arrive_is_not_waited_for(site: Site, begun: bytes) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    before = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(begun)
        while connection.recv(65536):
            pass
    assert 0.3 < time.monotonic() - before < 25  # the server's own bound is 30 s


def test_a_connection_is_used_again_for_as_long_as_requests_come(site: Site) -> None:
    with site.caller() as caller:
        for _ in range(4):
            assert caller.get("/healthz").status_code == 200
            time.sleep(0.2)
        assert len(site.server.server_state.connections) == 1
