# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine itself: if this fails, no other kernel test means anything."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def namespace() -> Iterator[str]:
    name = "smoke"
    _run("ip", "netns", "add", name)
    yield name
    _run("ip", "netns", "del", name)


@pytest.mark.parametrize("module", ["wireguard", "veth", "nf_tables", "nf_conntrack"])
def test_kernel_module_loads(module: str) -> None:
    _run("modprobe", module)


def test_wireguard_interface_exists_in_a_namespace_of_its_own(namespace: str) -> None:
    _run("ip", "-n", namespace, "link", "add", "wg0", "type", "wireguard")
    assert _run("ip", "netns", "exec", namespace, "wg", "show", "interfaces").split() == ["wg0"]


def test_nftables_and_connection_tracking_answer(namespace: str) -> None:
    _run("ip", "netns", "exec", namespace, "nft", "add table inet smoke")
    assert "table inet smoke" in _run("ip", "netns", "exec", namespace, "nft", "list", "ruleset")
    _run("ip", "netns", "exec", namespace, "conntrack", "-L")
