# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconciling: lock, read, plan, guard, apply, on a device in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from device_contract import ENDPOINT, ENDPOINT6, OTHER_PSK, PRIVATE, PSK, A, B, C, add, fresh, ips, states
from hypothesis import given
from made_up import key
from strategies import fleets

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import reconcile
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue, ShrinkRefused
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import NO_PRESHARED_KEY, PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.packed import PackedPeers, pack
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.reconcile import (
    PeerOptions,
    ensure_peer,
    follow_peers,
    reconcile_peers,
    remove_peer,
)


class Watched(MemoryDevice):
    """Notes in which order it is locked, read and changed."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        self.events.append("lock")
        yield
        self.events.append("unlock")

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        return self._held()

    def read(self, fold: Callable[..., Any]) -> Any:
        self.events.append("read")
        return super().read(fold)

    def compare(self, expected: dict[bytes, bytes], fold: Callable[..., Any]) -> Any:
        self.events.append("read")
        return super().compare(expected, fold)

    def apply(self, plan: Plan) -> None:
        self.events.append("apply")
        super().apply(plan)


@pytest.fixture
def device() -> Watched:
    device = Watched()
    device.configure(private_key=PRIVATE)
    add(device, Peer(A, PSK, 25, ips("10.0.0.1/32"), ENDPOINT), Peer(B, allowed_ips=ips("10.0.0.2/32")))
    device.events.clear()
    return device


Operation = Callable[..., Plan]
OPERATIONS: list[Operation] = [
    lambda device, **options: reconcile_peers(device, {C: Peer(C)}, **options),
    lambda device, **options: reconcile_peers(device, PackedPeers(pack({C: Peer(C)})), **options),
    lambda device, **options: ensure_peer(device, PeerOptions(A, persistent_keepalive=1), **options),
    lambda device, **options: remove_peer(device, A, **options),
]
operations = pytest.mark.parametrize("operation", OPERATIONS, ids=["peers", "packed peers", "peer", "removal"])


@operations
def test_a_change_holds_the_lock_from_reading_to_the_last_message(device: Watched, operation: Operation) -> None:
    operation(device)
    assert device.events == ["lock", "read", "apply", "unlock"]


@operations
def test_nothing_to_do_is_nothing_done(device: Watched, operation: Operation) -> None:
    operation(device)
    device.events.clear()
    before = states(device)
    device.events.clear()
    assert not operation(device).changed
    assert device.events == ["lock", "read", "unlock"]
    assert states(device) == before


@operations
def test_check_mode_takes_no_lock_changes_nothing_and_says_the_same(device: Watched, operation: Operation) -> None:
    before = states(device)
    device.events.clear()
    planned = operation(device, check=True)
    assert device.events == ["read"]
    assert states(device) == before
    assert planned == operation(device)


@operations
def test_an_error_in_applying_gives_the_lock_back(device: MemoryDevice, operation: Operation) -> None:
    device = MemoryDevice()
    add(device, Peer(A, PSK))

    def fail(plan: Plan) -> None:
        raise RuntimeError("the kernel refused")

    device.apply = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        operation(device)
    with device.exclusive():
        pass


@given(fleets(), fleets())
def test_packed_peers_lead_where_listed_ones_do(before: dict[PublicKey, Peer], wanted: dict[PublicKey, Peer]) -> None:
    hosts = {name: Peer(name, PSK, 0, ips(f"10.1.0.{n}/32", f"fd01::{n}/128")) for n, name in enumerate(wanted)}
    outcomes = []
    for form in (hosts, PackedPeers(pack(hosts))):
        for keep in (True, False):
            device = MemoryDevice()
            add(device, *before.values(), *list(hosts.values())[::2])
            plan = reconcile_peers(device, form, remove_unlisted=keep)
            outcomes.append((plan.counts(), states(device)))
            assert not reconcile_peers(device, form, remove_unlisted=keep).changed
    assert outcomes[:2] == outcomes[2:]


def test_unlisted_peers_are_removed_unless_they_are_to_be_kept(device: Watched) -> None:
    wanted = {C: Peer(C, allowed_ips=ips("10.0.0.3/32"))}
    reconcile_peers(device, wanted, remove_unlisted=False)
    assert states(device).keys() == {A, B, C}
    reconcile_peers(device, wanted)
    assert states(device).keys() == {C}


def test_a_refused_shrink_changes_nothing_even_in_check_mode(device: Watched) -> None:
    fleet = {name: Peer(name) for name in (PublicKey.from_text(key(n)) for n in range(100, 130))}
    reconcile_peers(device, fleet)
    before = states(device)
    for check in (True, False):
        with pytest.raises(ShrinkRefused):
            reconcile_peers(device, {}, check=check)
        with pytest.raises(ShrinkRefused):
            reconcile_peers(device, dict(list(fleet.items())[:19]), shrink_limit=36, check=check)
    assert states(device) == before
    assert "apply" not in device.events[device.events.index("apply") + 1 :]
    reconcile_peers(device, dict(list(fleet.items())[:19]), shrink_limit=37)
    reconcile_peers(device, {}, allow_shrink=True)
    assert states(device) == {}


def test_packed_peers_are_guarded_as_well(device: Watched) -> None:
    fleet = {name: Peer(name) for name in (PublicKey.from_text(key(n)) for n in range(100, 130))}
    reconcile_peers(device, PackedPeers(pack(fleet)))
    with pytest.raises(ShrinkRefused):
        reconcile_peers(device, PackedPeers(pack({})))
    assert states(device).keys() == fleet.keys()


@pytest.mark.parametrize("check", [True, False])
def test_the_interfaces_own_key_is_refused(device: Watched, check: bool) -> None:
    own = PRIVATE.public_key()
    before = states(device)
    for attempt in (
        lambda: reconcile_peers(device, {own: Peer(own)}, check=check),
        lambda: reconcile_peers(device, PackedPeers(pack({own: Peer(own)})), check=check),
        lambda: ensure_peer(device, PeerOptions(own), check=check),
    ):
        with pytest.raises(InvalidValue, match="is the public key of wg0 itself") as caught:
            attempt()
        assert own.text not in str(caught.value)
    assert states(device) == before


def test_removing_the_interfaces_own_key_is_nothing_to_do(device: Watched) -> None:
    assert not remove_peer(device, PRIVATE.public_key()).changed


def test_more_peers_than_an_interface_takes_are_refused_before_anything_is_read(
    device: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "MAX_PEERS", 1)
    with pytest.raises(InvalidValue, match=r"^peers: has 2 peers; an interface takes at most 1"):
        reconcile_peers(device, {B: Peer(B), C: Peer(C)})
    assert device.events == []


# --- one peer -----------------------------------------------------------------------------------------

WHOLE = Peer(A, PSK, 25, ips("10.0.0.1/32"), ENDPOINT)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"preshared_key": OTHER_PSK},
        {"preshared_key": NO_PRESHARED_KEY},
        {"persistent_keepalive": 0},
        {"allowed_ips": ips()},
        {"allowed_ips": ips("10.0.0.7/32", "fd00::7/128")},
        {"endpoint": ENDPOINT6},
        {"preshared_key": OTHER_PSK, "endpoint": ENDPOINT6},
    ],
    ids=lambda said: ", ".join(said) or "nothing",
)
def test_what_is_not_said_of_a_peer_stays_and_other_peers_too(device: Watched, said: dict[str, Any]) -> None:
    other = states(device)[B]
    plan = ensure_peer(device, PeerOptions(A, **said))
    assert states(device) == {A: fresh(WHOLE._replace(**said)), B: other}
    assert [update.fields for update in plan.updated] == ([sorted(said, key=list(said).index)] if said else [])
    assert plan.unchanged == (1 if said else 2)


def test_a_new_peer_gets_defaults_for_what_is_not_said(device: Watched) -> None:
    plan = ensure_peer(device, PeerOptions(C, allowed_ips=ips("10.0.0.3/32")))
    assert plan.added == [Peer(C, NO_PRESHARED_KEY, 0, ips("10.0.0.3/32"))]
    assert states(device)[C] == fresh(Peer(C, allowed_ips=ips("10.0.0.3/32")))


@pytest.mark.parametrize("name", [A, C], ids=["existing", "new"])
def test_an_address_of_another_peer_is_refused(device: Watched, name: PublicKey) -> None:
    before = states(device)
    with pytest.raises(InvalidValue, match="already belongs to another peer"):
        ensure_peer(device, PeerOptions(name, allowed_ips=ips("10.0.0.2/32")))
    assert states(device) == before


def test_removing_a_peer_leaves_the_others(device: Watched) -> None:
    plan = remove_peer(device, A)
    assert plan.counts() == {"added": 0, "updated": 0, "removed": 1, "unchanged": 1}
    assert states(device).keys() == {B}


def test_peers_that_are_left_alone_are_neither_added_nor_changed_nor_removed(device: Watched) -> None:
    before = states(device)[A]
    for wanted, changed in (({A: Peer(A), B: Peer(B)}, True), ({C: Peer(C)}, True), ({}, False)):
        # The second removes all others at once, which must not take them along.
        plan = follow_peers(device, PackedPeers(pack(wanted)), left_alone=[A, C])
        assert states(device) == {A: before} | {name: fresh(wanted[name]) for name in wanted.keys() & {B}}
        assert plan.changed == changed


def test_following_is_guarded_by_the_limit_that_is_given(device: Watched) -> None:
    fleet = {name: Peer(name) for name in (PublicKey.from_text(key(n)) for n in range(100, 130))}
    follow_peers(device, PackedPeers(pack(fleet)))
    with pytest.raises(ShrinkRefused):
        follow_peers(device, PackedPeers(pack({})))
    assert states(device).keys() == fleet.keys()
    follow_peers(device, PackedPeers(pack({})), shrink_limit=None)
    assert states(device) == {}
