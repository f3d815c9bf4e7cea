# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from concurrent.futures import wait
from functools import partial

import pytest
from registry.fixtures import MakeRegistry
from registry.support import Registry, key, register

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import registrations
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import (
    AccountClosed,
    AccountSuspended,
    AccountUnknown,
    DeviceLimitReached,
    KeyTaken,
    KeyUnknown,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import ADDED, REMOVED, Transaction


def test_a_registration_has_one_address_of_each_family(registry: Registry) -> None:
    made, new = registry.register("alice", key(1))

    assert new
    assert made.public_key == key(1)
    assert made.ipv4 is not None
    assert made.ipv6 is not None
    assert made.addresses == [f"{made.ipv4}/32", f"{made.ipv6}/128"]
    assert (made.preshared_key, made.leaves_at, made.replaces) == (None, None, None)


def test_the_same_key_sent_again_gets_the_same_and_changes_nothing(registry: Registry) -> None:
    first, _ = registry.register("alice", key(1))
    before = registry.position()

    again, new = registry.register("alice", key(1))

    assert not new
    assert again == first
    assert registry.position() == before


def test_an_account_sees_its_keys_and_no_others(registry: Registry) -> None:
    registry.create("bob")
    mine = {registry.register("alice", key(n))[0] for n in (1, 2)}
    registry.register("bob", key(3))

    assert set(registry.of("alice").values()) == mine
    assert set(registry.of("bob")) == {key(3)}
    assert registry.of("nobody") == {}


def test_a_key_of_another_account_is_refused_and_stays_where_it_is(registry: Registry) -> None:
    registry.create("bob")
    first, _ = registry.register("alice", key(1))

    with pytest.raises(KeyTaken):
        registry.register("bob", key(1))

    assert registry.of("alice") == {key(1): first}
    assert registry.of("bob") == {}


def test_another_accounts_key_cannot_be_deleted_confirmed_or_rotated(registry: Registry) -> None:
    registry.create("bob")
    registry.register("alice", key(1))
    registry.begin("alice", key(1), key(2))
    before = (registry.exported(), registry.position())

    for attempt in (
        lambda: registry.delete("bob", key(1)),
        lambda: registry.confirm("bob", key(2)),
        lambda: registry.begin("bob", key(1), key(3)),
    ):
        with pytest.raises(KeyUnknown):
            attempt()
    with pytest.raises(KeyTaken):
        registry.begin("bob", key(1), key(2))

    assert (registry.exported(), registry.position()) == before


@pytest.mark.parametrize("limit", [None, 2])
def test_an_account_has_no_more_keys_than_its_limit(make_registry: MakeRegistry, limit: int | None) -> None:
    registry = make_registry(device_limit=3)
    registry.create("alice", limit)
    most = limit or 3
    for n in range(most):
        registry.register("alice", key(n))

    with pytest.raises(DeviceLimitReached):
        registry.register("alice", key(most))
    assert set(registry.of("alice")) == {key(n) for n in range(most)}

    registry.register("alice", key(0))  # again, which is no further one
    registry.delete("alice", key(0))
    assert registry.register("alice", key(most))[1]


def test_a_rotation_needs_no_room_under_the_limit_and_makes_none(make_registry: MakeRegistry) -> None:
    registry = make_registry(device_limit=1)
    registry.create("alice")
    registry.register("alice", key(1))
    registry.begin("alice", key(1), key(2))

    with pytest.raises(DeviceLimitReached):
        registry.register("alice", key(3))


def test_a_deleted_key_is_gone_and_its_removal_is_the_next_change(registry: Registry) -> None:
    registry.register("alice", key(1))
    registry.register("alice", key(2))
    before = registry.position().revision

    assert registry.delete("alice", key(1))

    assert set(registry.of("alice")) == set(registry.exported()) == {key(2)}
    assert [(change.revision, change.kind, change.public_key) for change in registry.changes(before)] == [
        (before + 1, REMOVED, key(1))
    ]
    assert not registry.delete("alice", key(1))
    assert registry.position().revision == before + 1


@pytest.mark.parametrize("end", ["delete", "revoke", "close"])
@pytest.mark.parametrize("gone", [1, 2])
def test_a_key_that_goes_takes_its_rotations_other_key_along(registry: Registry, end: str, gone: int) -> None:
    registry.register("alice", key(9))
    registry.register("alice", key(1))
    registry.begin("alice", key(1), key(2))

    if end == "delete":
        assert registry.delete("alice", key(gone))
    elif end == "revoke":
        assert registry.revoke(key(gone))
    else:
        assert registry.close_account("alice")

    left = set() if end == "close" else {key(9)}
    assert set(registry.exported()) == left
    assert registry.resting() == 3 - len(left)
    assert sorted(change.public_key for change in registry.changes() if change.kind == REMOVED) == sorted(
        {key(1), key(2), key(9)} - left
    )


def test_revoking_asks_for_no_account(registry: Registry) -> None:
    registry.register("alice", key(1))
    registry.suspend("alice")

    assert registry.revoke(key(1))
    assert registry.of("alice") == {}
    assert not registry.revoke(key(1))
    assert not registry.revoke(key(2))


def test_a_removed_key_cannot_come_back_while_it_is_remembered(registry: Registry) -> None:
    registry.create("bob")
    registry.register("alice", key(1))
    registry.register("alice", key(2))
    registry.revoke(key(1))

    def attempts() -> None:
        for account in ("alice", "bob"):
            with pytest.raises(KeyTaken):
                registry.register(account, key(1))
        with pytest.raises(KeyTaken):
            registry.begin("alice", key(2), key(1))

    attempts()  # PostgreSQL: while the removal waits for its revision
    registry.settle()
    attempts()
    registry.clock.move(seconds=registry.store.environment.settings.change_retention)
    registry.tidy()
    attempts()
    registry.clock.move(seconds=1)
    registry.tidy()
    assert registry.register("bob", key(1))[1]


def test_a_key_expires_whatever_the_client_does(make_registry: MakeRegistry) -> None:
    registry = make_registry(key_days=30)
    registry.create("alice")
    registry.clock.move(seconds=4711)
    made, _ = registry.register("alice", key(1))
    registry.clock.move(days=1)
    registry.register("alice", key(2))

    registry.clock.move(days=29, seconds=-4711)  # the expiry is a day, not a moment that tells when it began
    assert made.expires_day == registry.clock.now // 86400
    assert registry.tidy() == 0
    registry.clock.move(days=1)
    assert registry.tidy() == 1
    assert set(registry.exported()) == {key(2)}


def test_keys_that_expire_on_one_day_leave_all_day_long_in_an_order_that_is_their_own(
    make_registry: MakeRegistry,
) -> None:
    registry = make_registry(key_days=1)
    registry.create("alice", 1000)
    keys = [key(n) for n in range(400)]
    registry.store.write(lambda tx: [register(tx, "alice", each) for each in keys])
    registry.clock.move(days=1)

    removed = []
    for _ in range(24):
        before = set(registry.exported())
        registry.clock.move(seconds=3600)
        registry.tidy()
        removed.append(sorted(before - set(registry.exported())))

    assert [each for hour in removed for each in hour] == sorted(keys)
    assert min(len(hour) for hour in removed) > 0
    assert max(len(hour) for hour in removed) < 40


def test_keys_need_not_expire(make_registry: MakeRegistry) -> None:
    registry = make_registry(key_days=0)
    registry.create("alice")
    assert registry.register("alice", key(1))[0].expires_day is None

    registry.clock.move(days=10_000)

    assert registry.tidy() == 0
    assert set(registry.exported()) == {key(1)}


def test_many_keys_that_fall_due_at_once_all_go(make_registry: MakeRegistry) -> None:
    registry = make_registry(key_days=1)
    registry.create("alice", 1000)
    wait([registry.store.submit(partial(register, account="alice", public_key=key(n))) for n in range(450)])
    registry.clock.move(days=2)

    assert registry.tidy() == 450
    assert registry.exported() == {}
    assert registry.tidy() == 0


def test_who_may_not_do_anything_is_told_why(registry: Registry) -> None:
    registry.register("alice", key(1))
    for how, problem in (
        (lambda: registry.suspend("alice"), AccountSuspended),
        (lambda: registry.close_account("alice"), AccountClosed),
    ):
        how()
        for attempt in (
            lambda: registry.register("alice", key(2)),
            lambda: registry.begin("alice", key(1), key(2)),
            lambda: registry.confirm("alice", key(1)),
            lambda: registry.delete("alice", key(1)),
        ):
            with pytest.raises(problem):
                attempt()
    with pytest.raises(AccountUnknown):
        registry.register("carol", key(2))


def test_additions_and_removals_are_logged_in_order(registry: Registry) -> None:
    registry.register("alice", key(1))
    registry.begin("alice", key(1), key(2))
    registry.confirm("alice", key(2))
    registry.register("alice", key(3))
    registry.revoke(key(3))

    assert [(change.kind, change.public_key) for change in registry.changes()] == [
        (ADDED, key(1)),
        (ADDED, key(2)),
        (REMOVED, key(1)),
        (ADDED, key(3)),
        (REMOVED, key(3)),
    ]


def test_what_fails_leaves_no_trace(registry: Registry) -> None:
    """A use case that raises after it has changed something has changed nothing."""
    registry.register("alice", key(1))
    before = (registry.position(), registry.exported(), registry.resting())

    def fails(tx: Transaction) -> None:
        register(tx, "alice", key(2))
        registrations.revoke(tx, key(1))
        raise KeyUnknown

    with pytest.raises(KeyUnknown):
        registry.store.write(fails)

    assert (registry.position(), registry.exported(), registry.resting()) == before
    assert registry.register("alice", key(2))[1]
