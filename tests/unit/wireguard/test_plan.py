# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: what they contain, and what comes of them on a device with the kernel's rules."""

from __future__ import annotations

import copy
import random

import pytest
from device_contract import ENDPOINT, ENDPOINT6, OTHER_PSK, PSK, A, B, C, add, fresh, ips, states
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st
from strategies import fleets

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue, ShrinkRefused
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer, PeerState
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import (
    PeerUpdate,
    Plan,
    check_shrink,
    plan_peers,
)

Fleet = dict[PublicKey, Peer]
seeds = st.integers(0, 1000)


def device_with(fleet: Fleet) -> MemoryDevice:
    device = MemoryDevice()
    add(device, *fleet.values())
    return device


def plan_for(device: MemoryDevice, wanted: Fleet, *, remove_unlisted: bool = True) -> Plan:
    return device.read(lambda found: plan_peers(wanted, found, remove_unlisted=remove_unlisted))


def shuffled(fleet: Fleet, seed: int) -> Fleet:
    items = list(fleet.items())
    random.Random(seed).shuffle(items)
    return dict(items)


def comparable(state: Peer | PeerState) -> tuple[object, ...]:
    return (*state[:3], frozenset(state.allowed_ips.nests()))


def is_as(device: MemoryDevice, wanted: Fleet, before: Fleet) -> bool:
    """Whether the device has just the wanted peers; an endpoint that was not given stays what it was."""
    found = states(device)
    return found.keys() == wanted.keys() and all(
        comparable(found[name]) == comparable(peer)
        and found[name].endpoint == (peer.endpoint or (before[name].endpoint if name in before else None))
        for name, peer in wanted.items()
    )


@given(fleets(), fleets(), seeds)
def test_a_plan_leads_to_what_is_wanted_whatever_the_order(before: Fleet, wanted: Fleet, seed: int) -> None:
    device = device_with(shuffled(before, seed))
    device.apply(plan_for(device, shuffled(wanted, seed + 1)))
    assert is_as(device, wanted, before)


@given(fleets(), fleets(), seeds)
def test_the_order_inside_a_plan_does_not_matter(before: Fleet, wanted: Fleet, seed: int) -> None:
    device = device_with(before)
    plan = plan_for(device, wanted)
    for part in (plan.added, plan.updated, plan.removed):
        random.Random(seed).shuffle(part)  # type: ignore[arg-type]
    device.apply(plan)
    assert is_as(device, wanted, before)


@given(fleets(), fleets())
def test_a_second_plan_is_empty(before: Fleet, wanted: Fleet) -> None:
    device = device_with(before)
    device.apply(plan_for(device, wanted))
    again = plan_for(device, wanted)
    assert not again.changed
    assert again == Plan(unchanged=len(wanted))


@given(fleets(), seeds)
def test_another_order_of_allowed_ips_is_no_change(fleet: Fleet, seed: int) -> None:
    device = device_with(fleet)
    order = random.Random(seed)
    turned = {
        name: peer._replace(allowed_ips=ips(*order.sample(peer.allowed_ips.texts, len(peer.allowed_ips.texts))))
        for name, peer in fleet.items()
    }
    assert not plan_for(device, turned).changed


@given(fleets(), fleets())
def test_peers_that_are_as_wanted_are_not_in_the_plan(before: Fleet, wanted: Fleet) -> None:
    device = device_with(before)
    found = states(device)
    plan = plan_for(device, wanted)
    touched = [*(peer.public_key for peer in plan.added), *(one.public_key for one in plan.updated), *plan.removed]
    assert len(set(touched)) == len(touched)
    for name in found.keys() & wanted.keys():
        same = comparable(found[name]) == comparable(wanted[name])
        same_endpoint = wanted[name].endpoint in (None, found[name].endpoint)
        assert (name in touched) == (not (same and same_endpoint))
    assert set(plan.removed) == found.keys() - wanted.keys()
    assert {peer.public_key for peer in plan.added} == wanted.keys() - found.keys()
    assert plan.current == len(found)
    assert plan.unchanged == len(found) - len(plan.updated) - len(plan.removed)


@given(fleets(), fleets())
def test_an_update_names_only_what_differs(before: Fleet, wanted: Fleet) -> None:
    device = device_with(before)
    found = states(device)
    for update in plan_for(device, wanted).updated:
        old, new = found[update.public_key], wanted[update.public_key]
        assert (update.preshared_key is not None) == (old.preshared_key != new.preshared_key)
        assert (update.persistent_keepalive is not None) == (old.persistent_keepalive != new.persistent_keepalive)
        assert (update.endpoint is not None) == (new.endpoint not in (None, old.endpoint))
        assert (update.allowed_ips is not None) == (set(old.allowed_ips.nests()) != set(new.allowed_ips.nests()))


@given(fleets(), fleets())
def test_kept_peers_stay_as_they_are_or_the_plan_is_refused(before: Fleet, wanted: Fleet) -> None:
    device = device_with(before)
    kept = {name: state for name, state in states(device).items() if name not in wanted}
    claimed = {nest for peer in wanted.values() for nest in peer.allowed_ips.nests()}
    taken = any(claimed & set(state.allowed_ips.nests()) for state in kept.values())
    if taken:
        with pytest.raises(InvalidValue, match=r"^allowed_ips: "):
            plan_for(device, wanted, remove_unlisted=False)
        return
    plan = plan_for(device, wanted, remove_unlisted=False)
    assert plan.removed == []
    device.apply(plan)
    after = states(device)
    assert {name: after.pop(name) for name in kept} == kept
    assert after.keys() == wanted.keys()
    assert {comparable(state) for state in after.values()} == {comparable(peer) for peer in wanted.values()}


def test_the_refusal_of_a_taken_address_does_not_show_it() -> None:
    device = device_with({A: Peer(A, allowed_ips=ips("10.0.0.1/32"))})
    with pytest.raises(InvalidValue, match="already belongs to another peer") as caught:
        plan_for(device, {B: Peer(B, allowed_ips=ips("10.0.0.1/32"))}, remove_unlisted=False)
    assert "10.0.0" not in told_by(caught.value)


def test_more_allowed_ips_are_added_without_taking_away_those_that_are_there() -> None:
    device = device_with({A: Peer(A, allowed_ips=ips("10.0.0.1/32"))})
    (update,) = plan_for(device, {A: Peer(A, allowed_ips=ips("10.0.0.1/32", "10.0.0.2/32"))}).updated
    assert update == PeerUpdate(A, allowed_ips=ips("10.0.0.2/32"), keep_other_allowed_ips=True)


@pytest.mark.parametrize("wanted", [(), ("10.0.0.2/32",), ("10.0.0.1/32", "10.0.0.3/32")])
def test_fewer_or_other_allowed_ips_replace_those_that_are_there(wanted: tuple[str, ...]) -> None:
    device = device_with({A: Peer(A, allowed_ips=ips("10.0.0.1/32", "10.0.0.2/32"))})
    (update,) = plan_for(device, {A: Peer(A, allowed_ips=ips(*wanted))}).updated
    assert update == PeerUpdate(A, allowed_ips=ips(*wanted))


def test_an_endpoint_that_is_not_given_is_left_alone() -> None:
    device = device_with({A: Peer(A, endpoint=ENDPOINT)})
    assert not plan_for(device, {A: Peer(A)}).changed
    (update,) = plan_for(device, {A: Peer(A, endpoint=ENDPOINT6)}).updated
    assert update.fields == ["endpoint"]
    (update,) = plan_for(device, {A: Peer(A, PSK)}).updated
    assert update.fields == ["preshared_key"]


def test_the_handshake_and_the_counters_of_a_peer_are_no_difference() -> None:
    alive = fresh(Peer(A, PSK, endpoint=ENDPOINT))._replace(handshake=17, sent=5, received=9)
    assert not plan_peers({A: Peer(A, PSK)}, [alive]).changed


def test_planning_changes_nothing_of_what_it_is_given() -> None:
    wanted = {A: Peer(A, PSK), C: Peer(C)}
    current = [fresh(Peer(A, OTHER_PSK)), fresh(Peer(B))]
    before = copy.deepcopy((wanted, current))
    plan_peers(wanted, current)
    assert (wanted, current) == before


def test_counts_and_what_they_are_of() -> None:
    plan = plan_peers({A: Peer(A, PSK), C: Peer(C)}, [fresh(Peer(A, OTHER_PSK)), fresh(Peer(B))])
    assert plan.counts() == {"added": 1, "updated": 1, "removed": 1, "unchanged": 0}
    assert plan.current == 2
    assert plan.changed


@pytest.mark.parametrize(
    ("plan", "removes_all"),
    [
        (Plan(), False),
        (Plan(removed=[A]), True),
        (Plan(removed=[A], added=[Peer(B)]), True),
        (Plan(removed=[A], unchanged=1), False),
        (Plan(removed=[A], updated=[PeerUpdate(B, PSK)]), False),
        (Plan(added=[Peer(B)]), False),
    ],
)
def test_a_plan_removes_all_when_nothing_that_was_there_stays(plan: Plan, removes_all: bool) -> None:
    assert plan.removes_all == removes_all


# --- the shrink guard ---------------------------------------------------------------------------------


def shrinking(removed: int, current: int) -> Plan:
    return Plan(removed=[A] * removed, unchanged=current - removed)


@pytest.mark.parametrize(
    ("removed", "current", "limit", "refused"),
    [
        (10, 10, 50, False),  # ten may always go
        (10, 10, 0, False),
        (11, 11, 50, True),
        (11, 22, 50, False),  # just half
        (12, 23, 50, True),
        (50, 100, 50, False),
        (51, 100, 50, True),
        (51, 101, 50, True),
        (100, 100, 99, True),
        (100, 100, 100, False),  # a limit of 100 allows everything
        (11, 1_000_000, 0, True),
        (500_001, 1_000_000, 50, True),
        (0, 0, 0, False),
    ],
)
def test_a_plan_that_shrinks_too_much_is_refused(removed: int, current: int, limit: int, refused: bool) -> None:
    plan = shrinking(removed, current)
    if not refused:
        check_shrink(plan, limit)
        return
    with pytest.raises(ShrinkRefused) as caught:
        check_shrink(plan, limit)
    assert str(caught.value).startswith(
        f"this would remove {removed} of {current} peers, more than the shrink limit of {limit} %"
    )
    assert (caught.value.removed, caught.value.current) == (removed, current)


def test_peers_that_are_added_do_not_make_up_for_those_that_go() -> None:
    """A list of other keys altogether is as likely a mistake as an empty one."""
    plan = shrinking(11, 11)
    plan.added = [Peer(B)] * 11
    with pytest.raises(ShrinkRefused):
        check_shrink(plan)


def test_updated_peers_count_as_there() -> None:
    plan = shrinking(11, 11)
    plan.updated = [PeerUpdate(B, PSK)] * 11
    check_shrink(plan)
