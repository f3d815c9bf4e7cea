# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools

import pytest
from registry.fixtures import MakeRegistry
from registry.support import Registry, key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import (
    KeyTaken,
    KeyUnknown,
    RotationConflict,
)

GRACE = 3600


@pytest.fixture
def registry(make_registry: MakeRegistry) -> Registry:
    """With an account ``alice`` that has key 1."""
    one = make_registry(rotation_grace=GRACE)
    one.create("alice")
    one.register("alice", key(1))
    return one


def test_beginning_puts_a_new_key_with_new_addresses_beside_the_old_one(registry: Registry) -> None:
    old = registry.of("alice")[key(1)]

    new, begun = registry.begin("alice", key(1), key(2))

    assert begun
    assert new.replaces == key(1)
    assert new.leaves_at is None
    assert new.ipv4 != old.ipv4
    assert new.ipv6 != old.ipv6
    leaving = old._replace(leaves_at=int(registry.clock.now) + GRACE)
    assert registry.exported() == registry.of("alice") == {key(1): leaving, key(2): new}


def test_confirming_removes_the_old_key_at_once(registry: Registry) -> None:
    new, _ = registry.begin("alice", key(1), key(2))

    confirmed, left = registry.confirm("alice", key(2))

    assert left
    assert confirmed == new._replace(replaces=None)
    assert registry.of("alice") == {key(2): confirmed}


def test_the_grace_period_ends_without_a_confirmation(registry: Registry) -> None:
    new, _ = registry.begin("alice", key(1), key(2))

    registry.clock.move(seconds=GRACE - 1)
    assert registry.tidy() == 0
    registry.clock.move(seconds=1)
    assert registry.tidy() == 1
    assert registry.of("alice") == {key(2): new._replace(replaces=None)}


def test_a_key_that_is_rotated_out_can_expire_before_its_grace_ends(make_registry: MakeRegistry) -> None:
    registry = make_registry(rotation_grace=30 * 86400, key_days=2)
    registry.create("alice")
    registry.register("alice", key(1))
    registry.clock.move(days=1)
    registry.begin("alice", key(1), key(2))
    registry.clock.move(days=2)

    assert registry.tidy() == 1
    assert set(registry.of("alice")) == {key(2)}
    assert registry.of("alice")[key(2)].replaces is None


def test_every_step_can_be_sent_again_at_any_later_moment(registry: Registry) -> None:
    """An answer that is lost, at any point, is no reason for anything to go wrong."""
    new, _ = registry.begin("alice", key(1), key(2))
    revision = registry.position().revision
    assert registry.begin("alice", key(1), key(2)) == (new, False)
    assert registry.register("alice", key(2)) == (new, False)
    assert registry.position().revision == revision

    registry.confirm("alice", key(2))
    revision = registry.position().revision
    settled = new._replace(replaces=None)
    assert registry.confirm("alice", key(2)) == (settled, False)
    assert registry.begin("alice", key(1), key(2)) == (settled, False)
    assert registry.register("alice", key(2)) == (settled, False)
    assert registry.position().revision == revision
    assert registry.of("alice") == {key(2): settled}


def test_the_same_begin_after_the_grace_period_gets_the_same(registry: Registry) -> None:
    new, _ = registry.begin("alice", key(1), key(2))
    registry.clock.move(seconds=GRACE)
    registry.tidy()

    assert registry.begin("alice", key(1), key(2)) == (new._replace(replaces=None), False)
    assert registry.confirm("alice", key(2))[1] is False


def test_another_successor_supersedes_one_that_was_not_confirmed(registry: Registry) -> None:
    registry.begin("alice", key(1), key(2))
    registry.clock.move(seconds=600)

    registry.begin("alice", key(1), key(3))

    assert set(registry.of("alice")) == {key(1), key(3)}
    assert registry.of("alice")[key(3)].replaces == key(1)
    assert registry.of("alice")[key(1)].leaves_at == int(registry.clock.now) + GRACE  # counted from this begin
    with pytest.raises(KeyTaken):  # the superseded one is remembered
        registry.begin("alice", key(1), key(2))
    with pytest.raises(KeyUnknown):
        registry.confirm("alice", key(2))
    assert registry.confirm("alice", key(3))[1]
    assert set(registry.of("alice")) == {key(3)}


def test_going_on_from_a_key_that_was_never_confirmed_confirms_it(registry: Registry) -> None:
    registry.begin("alice", key(1), key(2))

    registry.begin("alice", key(2), key(3))

    assert set(registry.of("alice")) == {key(2), key(3)}
    assert registry.of("alice")[key(2)].replaces is None
    assert registry.of("alice")[key(3)].replaces == key(2)
    registry.clock.move(seconds=GRACE)
    registry.tidy()
    assert set(registry.of("alice")) == {key(3)}


def test_an_unknown_key_cannot_be_rotated(registry: Registry) -> None:
    with pytest.raises(KeyUnknown):
        registry.begin("alice", key(7), key(2))
    with pytest.raises(KeyUnknown):
        registry.confirm("alice", key(2))
    assert set(registry.of("alice")) == {key(1)}


@pytest.mark.parametrize("successor", [1, 5, 6])
def test_a_successor_must_be_the_successor_of_this_key(registry: Registry, successor: int) -> None:
    """Key 5 is another device's; 6 is what another device rotates to."""
    registry.register("alice", key(5))
    registry.begin("alice", key(5), key(6))
    before = (registry.position(), registry.of("alice"))

    with pytest.raises(RotationConflict):
        registry.begin("alice", key(1), key(successor))

    assert (registry.position(), registry.of("alice")) == before


def test_a_key_that_never_rotated_has_nothing_to_confirm(registry: Registry) -> None:
    assert registry.confirm("alice", key(1))[1] is False
    assert set(registry.of("alice")) == {key(1)}


@pytest.mark.parametrize("lost", list(itertools.product((False, True), repeat=4)))
def test_a_client_that_tries_again_converges_whatever_is_lost(registry: Registry, lost: tuple[bool, ...]) -> None:
    """Two rotations in a row, of which any answer may be lost: the client then asks the same again."""
    steps = [
        lambda: registry.begin("alice", key(1), key(2)),
        lambda: registry.confirm("alice", key(2)),
        lambda: registry.begin("alice", key(2), key(3)),
        lambda: registry.confirm("alice", key(3)),
    ]
    for step, answer_lost in zip(steps, lost, strict=True):
        first = step()[0]
        if answer_lost:
            assert step()[0] == first
        assert first.public_key in registry.exported()

    assert set(registry.of("alice")) == {key(3)}
    assert [change.public_key for change in registry.changes()] == [key(1), key(2), key(1), key(3), key(2)]
    assert registry.resting() == 2
