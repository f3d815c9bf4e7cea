# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One purge run on a device in memory: what it does to the peers, and what it leaves in the state file."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator, Set
from pathlib import Path

import pytest
from device_contract import ENDPOINT, ENDPOINT6, PSK, A, B, C, add, fresh, ips, states

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.clock import ClockReading, read_clocks
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import (
    InvalidValue,
    KernelRefused,
    LetheError,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.purge_run import (
    StateUnusable,
    purge,
    read_memory,
)

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND
IDLE = Peer(A, PSK, 25, ips("10.0.0.1/32"))
ALIVE = Peer(B, PSK, 0, ips("10.0.0.2/32"))
GHOST = Peer(C, PSK, 0, ips("10.0.0.3/32"))


def clock(seconds: float) -> ClockReading:
    return ClockReading(WALL + round(seconds * SECOND), round(seconds * SECOND))


@pytest.fixture
def device() -> MemoryDevice:
    """At 1000 s after boot: one peer is idle, one has just completed a handshake, one is a ghost."""
    device = MemoryDevice()
    add(device, *(peer._replace(endpoint=ENDPOINT) for peer in (IDLE, ALIVE, GHOST)))
    for name, handshake in ((A, 700), (B, 990)):
        device.hear(name, handshake=clock(handshake).realtime, sent=5, received=6)
    return device


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "purge" / "wg0.json"


def test_a_run_purges_the_idle_and_remembers_the_ghosts(device: MemoryDevice, path: Path) -> None:
    alive = states(device)[B]
    figures = purge(device, state_directory=path.parent, now=clock(1000))
    assert (figures.peers, figures.idle, figures.ghosts, figures.waiting_ghosts) == (3, 1, 0, 1)
    assert figures.oldest_endpoint_age == 10
    assert figures.duration > 0
    assert states(device)[A] == fresh(IDLE)
    assert states(device)[B] == alive
    assert states(device)[C].endpoint == ENDPOINT

    device.hear(B, handshake=clock(1179).realtime)
    figures = purge(device, state_directory=path.parent, now=clock(1180))
    assert (figures.idle, figures.ghosts, figures.waiting_ghosts) == (0, 1, 0)
    assert states(device)[C] == fresh(GHOST)


class Travelled(MemoryDevice):
    """One whose host remembers paths."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: list[Set[bytes]] = []

    def forget_paths(self, addresses: Set[bytes]) -> None:
        self.forgotten.append(addresses)


def test_paths_to_purged_peers_are_forgotten_and_no_others(path: Path) -> None:
    device = Travelled()
    add(device, IDLE._replace(endpoint=ENDPOINT6), ALIVE._replace(endpoint=ENDPOINT))
    for name, handshake in ((A, 700), (B, 990)):
        device.hear(name, handshake=clock(handshake).realtime)

    purge(device, state_directory=path.parent, now=clock(1000), check=True)
    assert device.forgotten == []
    purge(device, state_directory=path.parent, now=clock(1000))
    purge(device, state_directory=path.parent, now=clock(1001))

    assert device.forgotten == [{socket.inet_pton(socket.AF_INET6, "2001:db8::1")}, set()]


def test_check_mode_counts_and_changes_nothing(device: MemoryDevice, path: Path) -> None:
    before = states(device)
    figures = purge(device, state_directory=path.parent, check=True, now=clock(1000))
    assert (figures.idle, figures.waiting_ghosts) == (1, 1)
    assert states(device) == before
    assert not path.parent.exists()


def test_check_mode_uses_what_is_remembered_and_leaves_it(device: MemoryDevice, path: Path) -> None:
    purge(device, state_directory=path.parent, now=clock(1000))
    content = path.read_bytes()
    assert purge(device, state_directory=path.parent, check=True, now=clock(1180)).ghosts == 1
    assert path.read_bytes() == content


def test_check_mode_takes_no_lock(device: MemoryDevice, path: Path) -> None:
    def refuse() -> None:
        raise AssertionError("locked")

    device.exclusive = refuse  # type: ignore[assignment,method-assign]
    purge(device, state_directory=path.parent, check=True, now=clock(1000))


def test_an_exempt_peer_is_spared(device: MemoryDevice, path: Path) -> None:
    figures = purge(device, exempt={A}, state_directory=path.parent, now=clock(1000))
    assert figures.purged == 0
    assert states(device)[A].endpoint == ENDPOINT


def test_a_limit_below_that_of_a_session_is_refused_before_anything_is_done(device: MemoryDevice, path: Path) -> None:
    before = states(device)
    with pytest.raises(InvalidValue, match=r"^idle_after: "):
        purge(device, idle_after=179, state_directory=path.parent, now=clock(1000))
    assert states(device) == before
    assert not path.parent.exists()


def test_the_present_time_is_read_when_none_is_given(device: MemoryDevice, path: Path) -> None:
    before = read_clocks()
    purge(device, state_directory=path.parent)
    memory = read_memory(path)
    assert memory is not None
    assert memory.last_run is not None
    assert before.boottime <= memory.last_run <= read_clocks().boottime


# --- the state file -----------------------------------------------------------------------------------


def test_the_state_is_for_its_owner_and_group(device: MemoryDevice, path: Path) -> None:
    before = os.umask(0)
    try:
        purge(device, state_directory=path.parent, now=clock(1000))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_writes_by_hand_belongs_to_the_service(device: MemoryDevice, path: Path) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 12345, 23456)
    purge(device, state_directory=path.parent, now=clock(1000))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_the_state_names_no_peer(device: MemoryDevice, path: Path) -> None:
    device.hear(A, endpoint=ENDPOINT6, handshake=0)
    purge(device, state_directory=path.parent, now=clock(1000))
    content = path.read_text(encoding="ascii")
    document = json.loads(content)
    assert document.keys() == {"format", "salt", "last_run", "segments", "sightings", "figures"}
    assert len(document["sightings"]) == 2
    for peer in (IDLE, ALIVE, GHOST):
        assert peer.public_key.text not in content
        assert peer.public_key.hex() not in content
    assert "192.0.2" not in content
    assert ENDPOINT.hex() not in content


def test_the_figures_of_the_last_run_can_be_read(device: MemoryDevice, path: Path) -> None:
    assert read_memory(path) is None
    figures = purge(device, state_directory=path.parent, now=clock(1000))
    memory = read_memory(path)
    assert memory is not None
    assert memory.figures == figures


UNUSABLE = [b"", b"{", b"[]", b"null", b'{"format": 1}', b"\xff\xfe", b"[" * 100_000, b'{"format": 1, "salt": 5}']


@pytest.mark.parametrize("content", UNUSABLE, ids=lambda content: repr(content[:20]))
def test_an_unusable_state_is_named_to_who_reads_it_and_replaced_by_the_next_run(
    device: MemoryDevice, path: Path, content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StateUnusable, match=r"wg0\.json is not what a purge run writes; it may be removed"):
        read_memory(path)
    assert purge(device, state_directory=path.parent, now=clock(1000)).idle == 1
    assert read_memory(path) is not None


def test_a_state_that_cannot_be_read_does_not_stop_the_run(device: MemoryDevice, path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StateUnusable, match="cannot be read"):
        read_memory(path)
    with pytest.raises(StateUnusable, match="cannot be written"):
        purge(device, state_directory=path.parent, now=clock(1000))
    assert states(device)[A] == fresh(IDLE)


def test_a_state_that_cannot_be_written_is_an_error_and_leaves_no_remains(
    device: MemoryDevice, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    purge(device, state_directory=path.parent, now=clock(1000))
    content = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StateUnusable, match=r"cannot be written \(No space left on device\)"):
        purge(device, state_directory=path.parent, now=clock(1015))
    assert path.read_bytes() == content
    assert [one.name for one in path.parent.iterdir()] == ["wg0.json"]


def test_each_interface_has_a_state_of_its_own(path: Path) -> None:
    for name in ("wg0", "wg1"):
        purge(MemoryDevice(name), state_directory=path.parent, now=clock(1000))
    assert sorted(one.name for one in path.parent.iterdir()) == ["wg0.json", "wg1.json"]


# --- errors -------------------------------------------------------------------------------------------


@pytest.fixture
def refusing(device: MemoryDevice, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryDevice]:
    def refuse(peers: object) -> float:
        raise KernelRefused("change peers", 12)

    monkeypatch.setattr(device, "reinstate", refuse)
    return device


def test_an_error_of_the_kernel_is_not_remembered_as_a_purge(refusing: MemoryDevice, path: Path) -> None:
    with pytest.raises(LetheError, match="ENOMEM"):
        purge(refusing, state_directory=path.parent, now=clock(1000))
    assert not path.exists()
    with refusing.exclusive():
        pass


def test_the_lock_is_held_from_reading_to_remembering(device: MemoryDevice, path: Path) -> None:
    events: list[str] = []

    class Lock:
        def __enter__(self) -> None:
            assert not path.exists()
            assert states(device)[A].endpoint == ENDPOINT
            events.append("lock")

        def __exit__(self, *_: object) -> None:
            assert path.exists()
            assert states(device)[A].endpoint is None
            events.append("unlock")

    device.exclusive = Lock  # type: ignore[method-assign,assignment]
    purge(device, state_directory=path.parent, now=clock(1000))
    assert events == ["lock", "unlock"]
