# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet.client import Client
from fleet.evidence import pytest_runtest_makereport  # noqa: F401 - a hook
from fleet.gateway import Gateway
from fleet.hosts import lab_hosts
from fleet.registry import Registry


@pytest.fixture(scope="session")
def machines() -> dict[str, list]:
    return lab_hosts()


@pytest.fixture(scope="session")
def registry(machines: dict[str, list]) -> Registry:
    return Registry(machines["registries"][0])


@pytest.fixture(scope="session")
def gateways(machines: dict[str, list]) -> tuple[Gateway, ...]:
    return tuple(Gateway(host, number) for number, host in enumerate(machines["gateways"], 1))


def _client(name: str, machines: dict[str, list], number: int) -> Client:
    """A client with a key of its own, and no address yet."""
    client = Client(name, machines["others"][0], number)
    client.create()
    return client


@pytest.fixture(scope="session")
def carol(machines: dict[str, list]) -> Client:
    """The client of the story."""
    return _client("carol", machines, 9)


@pytest.fixture(scope="session")
def dave(machines: dict[str, list]) -> Client:
    """Another device of the same account, for a while."""
    return _client("dave", machines, 10)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The operator's files."""
    return tmp_path_factory.mktemp("operator")
