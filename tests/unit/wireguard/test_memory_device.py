# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device in memory keeps the contract that the kernel's keeps (tests/kernel/test_device.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from device_contract import *  # noqa: F403
from device_contract import ENDPOINT, A, B, add, ips

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import (
    Configuration,
    ConfiguredPeersInOrder,
    Peer,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan


@pytest.fixture
def device() -> MemoryDevice:
    return MemoryDevice()


class NotMade(ConfiguredPeersInOrder):
    """Peers for one who takes their bytes."""

    def __iter__(self) -> Iterator[Peer]:
        raise AssertionError("a peer was made")


def test_peers_that_come_as_configurations_are_not_made(device: MemoryDevice) -> None:
    peer = Peer(A, allowed_ips=ips("10.0.0.1/32"))
    device.apply(Plan(added=NotMade([(A, Configuration.of(peer))])))
    assert device.peers.keys() == {A}


def test_what_is_heard_of_a_peer_is_in_its_state_and_the_rest_stays(device: MemoryDevice) -> None:
    add(device, Peer(A, endpoint=ENDPOINT), Peer(B))
    device.hear(A, handshake=5, sent=7)
    assert device.peers[A][4:] == (ENDPOINT, 5, 0, 7)
    assert device.peers[B][4:] == (None, 0, 0, 0)


def test_nothing_is_heard_of_a_peer_that_is_not_there(device: MemoryDevice) -> None:
    with pytest.raises(ValueError, match="no peer has this public key"):
        device.hear(A, handshake=5)
