# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from registry.support import Registry, key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import accounts
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import (
    AccountClosed,
    AccountSuspended,
    AccountUnknown,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import ADDED, REMOVED
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue


def test_creating_an_account_again_changes_nothing(registry: Registry) -> None:
    assert not registry.create("alice")
    assert registry.create("bob")
    assert registry.state("bob") == "active"


def test_a_limit_that_is_given_is_set_and_one_that_is_not_stays(registry: Registry) -> None:
    assert registry.create("alice", 7)
    assert not registry.create("alice", 7)
    assert not registry.create("alice")
    assert registry.store.read(lambda tx: accounts.show(tx, "alice")).device_limit == 7


def test_a_suspended_accounts_keys_leave_the_gateways_and_come_back_as_they_were(registry: Registry) -> None:
    registry.create("bob")
    registry.register("bob", key(9))
    for n in (1, 2):
        registry.register("alice", key(n))
    before, revision = registry.exported(), registry.position().revision

    assert registry.suspend("alice")
    assert not registry.suspend("alice")
    assert set(registry.exported()) == {key(9)}
    assert {(each.kind, each.public_key) for each in registry.changes(revision)} == {
        (REMOVED, key(1)),
        (REMOVED, key(2)),
    }

    revision = registry.position().revision
    assert registry.resume("alice")
    assert not registry.resume("alice")
    assert registry.exported() == before
    assert {(each.kind, each.public_key) for each in registry.changes(revision)} == {(ADDED, key(1)), (ADDED, key(2))}


def test_a_suspended_accounts_keys_still_expire(registry: Registry) -> None:
    registry.register("alice", key(1))
    registry.suspend("alice")
    registry.clock.move(days=31)

    assert registry.tidy() == 1
    registry.resume("alice")
    assert registry.exported() == {}


@pytest.mark.parametrize("suspended", [False, True])
def test_closing_removes_the_keys_and_is_remembered_as_long_as_changes(registry: Registry, *, suspended: bool) -> None:
    registry.register("alice", key(1))
    if suspended:
        registry.suspend("alice")
    registry.clock.move(seconds=4711)

    assert registry.close_account("alice")
    assert not registry.close_account("alice")
    assert registry.exported() == {}
    assert registry.state("alice") == "closed"

    # The day is remembered, not the second: the account is forgotten when all of that day is past the retention.
    registry.clock.move(days=1, seconds=86399 - 4711)
    registry.tidy()
    for attempt in (registry.create, registry.suspend, registry.resume):
        with pytest.raises(AccountClosed):
            attempt("alice")
    registry.clock.move(seconds=1)
    registry.tidy()
    with pytest.raises(AccountUnknown):
        registry.state("alice")
    assert registry.create("alice")


def test_a_suspended_account_is_not_created_anew(registry: Registry) -> None:
    registry.suspend("alice")
    with pytest.raises(AccountSuspended):
        registry.create("alice")


def test_an_account_that_is_not_there_is_said_to_be_unknown(registry: Registry) -> None:
    for attempt in (registry.suspend, registry.resume, registry.close_account, registry.state, registry.token):
        with pytest.raises(AccountUnknown):
            attempt("carol")


def test_accounts_are_counted_by_state(registry: Registry) -> None:
    for name, end in (("bob", registry.suspend), ("carol", registry.close_account), ("dave", registry.suspend)):
        registry.create(name)
        end(name)

    assert registry.store.read(accounts.count_by_state) == {"active": 1, "suspended": 2, "closed": 1}


@pytest.mark.parametrize("value", ["", "x" * 257, "a\nb", "\x00", "\u200b", None, 7, b"alice"])
def test_what_is_no_account_id_is_refused_without_being_shown(value: object) -> None:
    with pytest.raises(InvalidValue, match=r"^account: is not an account id") as problem:
        accounts.account_id_from(value)
    assert not value or str(value) not in str(problem.value)


@pytest.mark.parametrize("value", ["a", "4711-0815", "alice@example.com", "Zoë", "x" * 256])
def test_any_printable_text_is_an_account_id(value: str) -> None:
    assert accounts.account_id_from(value) == value
