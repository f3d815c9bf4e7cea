# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All use cases in any order, against a model that a person can check by reading."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from registry.postgresql_server import PostgresqlServer
from registry.support import Clock, Follower, Registry, key, seeded
from sqlalchemy import func, select

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import schema
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import (
    AccountClosed,
    AccountSuspended,
    AccountUnknown,
    DeviceLimitReached,
    KeyRemoved,
    KeyTaken,
    KeyUnknown,
    RangeFull,
    Refused,
    RotationConflict,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.history import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import DAY
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import ADDED, REMOVED
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey

IPV4, IPV6 = "10.0.0.0/27", "fd00::/122"
ADDRESSES = 29  # of IPv4, after one that is reserved
SETTINGS: dict[str, Any] = {
    "ipv4_ranges": (IPV4,),
    "ipv6_ranges": (IPV6,),
    "reserved": ("10.0.0.1",),
    "device_limit": 2,
    "key_days": 5,
    "rotation_grace": 3600,
    "address_rest_days": 2,
    "change_retention": 7200,
}

names = st.sampled_from(["alice", "bob", "carol"])
keys = st.integers(0, 11).map(key)


@dataclass
class Owned:
    """A registration, as the model has it."""

    account: str
    ipv4: object
    ipv6: object
    expires_day: int
    leaves_at: int | None = None
    replaces: PublicKey | None = None


@dataclass
class Model:
    """What a registry is, without a database."""

    states: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)  # the day
    registrations: dict[PublicKey, Owned] = field(default_factory=dict)
    resting: dict[object, int] = field(default_factory=dict)  # address -> first day on which it may be drawn
    log: list[tuple[int, PublicKey, int]] = field(default_factory=list)  # kind, key, time
    forgotten: int = 0  # changes that were pruned
    now: int = 0

    @property
    def today(self) -> int:
        return self.now // DAY

    def open(self, account: str) -> None:
        if account not in self.states:
            raise AccountUnknown
        if self.states[account] == "suspended":
            raise AccountSuspended
        if self.states[account] == "closed":
            raise AccountClosed

    def of(self, account: str) -> dict[PublicKey, Owned]:
        return {public_key: one for public_key, one in self.registrations.items() if one.account == account}

    def remembers(self, public_key: PublicKey) -> bool:
        return any(logged == public_key for _, logged, _ in self.log)

    def missing(self, public_key: PublicKey) -> KeyUnknown:
        """Of a key that another account has, nothing is said."""
        gone = public_key not in self.registrations and self.remembers(public_key)
        return KeyRemoved() if gone else KeyUnknown()

    def record(self, kind: int, public_key: PublicKey) -> None:
        self.log.append((kind, public_key, self.now))

    def remove(self, public_key: PublicKey) -> None:
        one = self.registrations.pop(public_key)
        for other in self.registrations.values():
            if other.replaces == public_key:
                other.replaces = None
        for address in (one.ipv4, one.ipv6):
            self.resting[address] = self.today + SETTINGS["address_rest_days"]
        self.record(REMOVED, public_key)

    def partners(self, public_key: PublicKey) -> list[PublicKey]:
        """A key and the one that is there only because of the same rotation."""
        replaces = self.registrations[public_key].replaces
        successors = [other for other, one in self.registrations.items() if one.replaces == public_key]
        return [*successors, *([] if replaces is None else [replaces]), public_key]

    def create(self, account: str, limit: int | None) -> None:
        if account in self.states:
            self.open(account)
        self.states[account] = "active"
        if limit is not None:
            self.limits[account] = limit

    def set_state(self, account: str, state: str) -> bool:
        if account not in self.states:
            raise AccountUnknown
        before = self.states[account]
        if before == state:
            return False
        if before == "closed":
            raise AccountClosed
        for public_key in list(self.of(account)):
            if state == "closed":
                self.remove(public_key)
            else:
                self.record(ADDED if state == "active" else REMOVED, public_key)
        self.states[account] = state
        if state == "closed":
            self.closed[account] = self.today
        return True

    def register(self, account: str, public_key: PublicKey) -> bool:
        """Whether it will be new."""
        self.open(account)
        if public_key in self.registrations:
            if self.registrations[public_key].account != account:
                raise KeyTaken
            return False
        if self.remembers(public_key):
            raise KeyTaken
        if sum(one.leaves_at is None for one in self.of(account).values()) >= self.limits.get(account, 2):
            raise DeviceLimitReached
        return True

    def begin(self, account: str, public_key: PublicKey, successor: PublicKey) -> bool:
        self.open(account)
        new = self.registrations.get(successor)
        if new is not None:
            if new.account != account:
                raise KeyTaken
            if new.leaves_at is not None or new.replaces != (public_key if public_key in self.registrations else None):
                raise RotationConflict
            return False
        if public_key not in self.of(account):
            raise self.missing(public_key)
        if self.remembers(successor):
            raise KeyTaken
        for superseded in [other for other, one in self.registrations.items() if one.replaces == public_key]:
            self.remove(superseded)
        if (before := self.registrations[public_key].replaces) is not None:
            self.remove(before)
        self.registrations[public_key].leaves_at = self.now + SETTINGS["rotation_grace"]
        return True

    def confirm(self, account: str, successor: PublicKey) -> bool:
        self.open(account)
        if successor not in self.of(account):
            raise self.missing(successor)
        before = self.registrations[successor].replaces
        if before is not None:
            self.remove(before)
        return before is not None

    def delete(self, account: str, public_key: PublicKey) -> bool:
        self.open(account)
        if public_key in self.registrations and public_key not in self.of(account):
            raise KeyUnknown
        return self.revoke(public_key)

    def revoke(self, public_key: PublicKey) -> bool:
        if public_key not in self.registrations:
            return False
        for each in self.partners(public_key):
            self.remove(each)
        return True

    def has_expired(self, public_key: PublicKey) -> bool:
        """On its last day a key leaves when as much of the day is over as of all keys are below it."""
        day = self.registrations[public_key].expires_day
        share = int.from_bytes(public_key[:4], "big") / 2**32
        return self.now >= (day + share) * DAY

    def tidy(self) -> int:
        due = [
            public_key
            for public_key, one in self.registrations.items()
            if self.has_expired(public_key) or (one.leaves_at is not None and one.leaves_at <= self.now)
        ]
        for public_key in due:
            self.remove(public_key)
        before = self.now - SETTINGS["change_retention"]
        while self.log and self.log[0][2] < before:
            self.log.pop(0)
            self.forgotten += 1
        self.resting = {address: day for address, day in self.resting.items() if day > self.today}
        for account, day in list(self.closed.items()):
            if (day + 1) * DAY <= before:
                del self.closed[account], self.states[account]
                self.limits.pop(account, None)
        return len(due)


class Machine(RuleBasedStateMachine):
    """Does the same to a registry and to the model, and compares all there is to see after each step."""

    def __init__(self, database: Callable[[], Any]) -> None:
        super().__init__()
        self._database = database()
        self.clock = Clock()
        self.registry = Registry.open(self._database.__enter__(), self.clock, seeded(0), **SETTINGS)
        self.model = Model(now=int(self.clock.now))
        self.exports: dict[int, set[PublicKey]] = {}  # what gateways had at a revision
        self.used: set[bytes] = set()  # all that must be forgotten in the end

    def both(self, of_model: Callable[[Model], Any], of_registry: Callable[[], Any]) -> Any:
        """The registry's result, if the model has one; the same refusal otherwise."""
        was = copy.deepcopy(self.model)
        try:
            expected = of_model(self.model)
        except Refused as refusal:
            self.model, removed = was, isinstance(refusal, KeyRemoved)
            with pytest.raises(type(refusal), check=lambda raised: isinstance(raised, KeyRemoved) is removed):
                of_registry()
            return None
        try:
            return expected, of_registry()
        except RangeFull:
            self.model = was  # what came before in the same transaction is undone
            assert self._free() <= 5, "a range is not full"
            return None

    def _free(self) -> int:
        # What a rotation would have removed first counts as used here: it rests at once.
        return ADDRESSES - sum(str(address).count(".") == 3 for address in self._taken())

    def _taken(self) -> set[object]:
        in_use = {address for one in self.model.registrations.values() for address in (one.ipv4, one.ipv6)}
        return in_use | set(self.model.resting)

    def _added(self, account: str, made: Any, replaces: PublicKey | None = None) -> None:
        assert {made.ipv4, made.ipv6}.isdisjoint(self._taken()), "an address was given that is in use, or rests"
        assert str(made.ipv4) not in ("10.0.0.0", "10.0.0.1", "10.0.0.31")
        assert str(made.ipv6) != "fd00::"
        self.model.registrations[made.public_key] = Owned(
            account, made.ipv4, made.ipv6, self.model.today + SETTINGS["key_days"], replaces=replaces
        )
        self.model.record(ADDED, made.public_key)
        self.used |= {bytes(made.public_key), made.ipv6.packed, self.registry.hash(account)}

    @rule(account=names, limit=st.none() | st.integers(1, 4))
    def create(self, account: str, limit: int | None) -> None:
        self.both(lambda model: model.create(account, limit), lambda: self.registry.create(account, limit))

    @rule(account=names)
    def suspend(self, account: str) -> None:
        self._same(lambda model: model.set_state(account, "suspended"), lambda: self.registry.suspend(account))

    @rule(account=names)
    def resume(self, account: str) -> None:
        self._same(lambda model: model.set_state(account, "active"), lambda: self.registry.resume(account))

    @precondition(lambda self: len(self.model.registrations) > 3)
    @rule(account=names)
    def close_account(self, account: str) -> None:
        self._same(lambda model: model.set_state(account, "closed"), lambda: self.registry.close_account(account))

    @rule(account=names, public_key=keys)
    def register(self, account: str, public_key: PublicKey) -> None:
        outcome = self.both(
            lambda model: model.register(account, public_key), lambda: self.registry.register(account, public_key)
        )
        if outcome is not None:
            expected, (made, new) = outcome
            assert new is expected
            if new:
                self._added(account, made)

    @rule(account=names, public_key=keys, successor=keys)
    def begin(self, account: str, public_key: PublicKey, successor: PublicKey) -> None:
        outcome = self.both(
            lambda model: model.begin(account, public_key, successor),
            lambda: self.registry.begin(account, public_key, successor),
        )
        if outcome is not None:
            expected, (made, begun) = outcome
            assert begun is expected
            if begun:
                self._added(account, made, public_key)

    @precondition(lambda self: self.model.registrations)
    @rule(data=st.data(), successor=keys)
    def begin_with_a_key_that_is_there(self, data: st.DataObject, successor: PublicKey) -> None:
        """Most keys drawn at random are not there."""
        public_key = data.draw(st.sampled_from(sorted(self.model.registrations)))
        self.begin(self.model.registrations[public_key].account, public_key, successor)

    @precondition(lambda self: self.model.registrations)
    @rule(data=st.data())
    def confirm_a_key_that_is_there(self, data: st.DataObject) -> None:
        public_key = data.draw(st.sampled_from(sorted(self.model.registrations)))
        self.confirm(self.model.registrations[public_key].account, public_key)

    @rule(account=names, successor=keys)
    def confirm(self, account: str, successor: PublicKey) -> None:
        outcome = self.both(
            lambda model: model.confirm(account, successor), lambda: self.registry.confirm(account, successor)
        )
        if outcome is not None:
            expected, (row, left) = outcome
            assert left is expected
            assert row.replaces is None

    @rule(account=names, public_key=keys)
    def delete(self, account: str, public_key: PublicKey) -> None:
        self._same(lambda model: model.delete(account, public_key), lambda: self.registry.delete(account, public_key))

    @rule(public_key=keys)
    def revoke(self, public_key: PublicKey) -> None:
        self._same(lambda model: model.revoke(public_key), lambda: self.registry.revoke(public_key))

    @rule(days=st.integers(0, 3), seconds=st.sampled_from([1, 600, 3600, 7200, 40_000]))
    def time_goes_by(self, days: int, seconds: int) -> None:
        self.clock.move(days=days, seconds=seconds)
        self.model.now = int(self.clock.now)

    @rule()
    def tidy(self) -> None:
        self._same(lambda model: model.tidy(), self.registry.tidy)

    @rule()
    def restart(self) -> None:
        url = self.registry.store.environment.settings.database
        self.registry.close()
        self.registry = Registry.open(url, self.clock, seeded(int(self.clock.now)), **SETTINGS)

    def _same(self, of_model: Callable[[Model], Any], of_registry: Callable[[], Any]) -> None:
        outcome = self.both(of_model, of_registry)
        if outcome is not None:
            assert outcome[0] == outcome[1]

    @invariant()
    def accounts_have_what_the_model_says(self) -> None:
        for account, state in self.model.states.items():
            assert self.registry.state(account) == state
            rows = self.registry.of(account)
            assert {
                public_key: Owned(account, row.ipv4, row.ipv6, row.expires_day or 0, row.leaves_at, row.replaces)
                for public_key, row in rows.items()
            } == self.model.of(account)

    @invariant()
    def the_log_has_no_gaps_and_says_what_happened(self) -> None:
        position, changes = self.registry.position(), self.registry.changes()
        assert position.horizon == self.model.forgotten
        assert position.revision == self.model.forgotten + len(self.model.log)
        assert [change.revision for change in changes] == list(range(position.horizon + 1, position.revision + 1))
        # What one request changes at one moment has no order of its own.
        actual = [(change.kind, change.public_key) for change in changes]
        wanted = [(kind, public_key) for kind, public_key, _ in self.model.log]
        assert sorted(actual) == sorted(wanted)
        for public_key in {public_key for _, public_key in wanted}:
            assert [kind for kind, one in actual if one == public_key] == [
                kind for kind, one in wanted if one == public_key
            ]

    @invariant()
    def the_log_leads_from_what_gateways_had_to_what_they_should_have(self) -> None:
        position, exported = self.registry.position(), set(self.registry.exported())
        assert exported == {
            public_key
            for public_key, one in self.model.registrations.items()
            if self.model.states[one.account] == "active"
        }
        self.exports[position.revision] = exported
        for revision, had in self.exports.items():
            if revision >= position.horizon:
                follower = Follower(Position("", revision, 0), had)
                follower.apply(self.registry.changes(revision))
                assert follower.keys == exported

    @invariant()
    def addresses_rest(self) -> None:
        assert self.registry.resting() == len(self.model.resting)

    def teardown(self) -> None:
        """All accounts are closed, all times run out: nothing is left."""
        try:
            for account in list(self.model.states):
                self.registry.close_account(account)
            self.registry.settle()
            self.clock.move(days=SETTINGS["address_rest_days"] + 1)
            self.registry.tidy()
            left = self.registry.store.read(
                lambda tx: {
                    table.name: tx.connection.execute(select(func.count()).select_from(table)).scalar_one()
                    for table in schema.metadata.tables.values()
                }
            )
            assert {name for name, count in left.items() if count} == {"history"}
            if self.registry.is_sqlite:
                path = self.registry.store.engine.url.database
                assert path is not None
                content = b"".join(Path(path + end).read_bytes() for end in ("", "-wal"))
                assert [one for one in self.used if one in content] == []
        finally:
            self.registry.close()
            self._database.__exit__(None, None, None)


def _profile(examples: int, steps: int) -> settings:
    """In CI the examples are always the same. How long a step takes is the machine's affair."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize="CI" in os.environ,
        suppress_health_check=[HealthCheck.too_slow],
    )


def run_on_sqlite(template: Path, examples: int, steps: int) -> None:
    """``template``: a database that has the schema and nothing else."""

    @contextmanager
    def database() -> Iterator[str]:
        with tempfile.TemporaryDirectory() as directory:
            shutil.copy(template, f"{directory}/registry.sqlite3")
            yield f"sqlite:///{directory}/registry.sqlite3"

    run_state_machine_as_test(partial(Machine, database), settings=_profile(examples, steps))


def run_on_postgresql(server: PostgresqlServer, template: str, examples: int, steps: int) -> None:
    name = server.new_database(template)
    tables = ", ".join(table for table in schema.metadata.tables if table != "history")

    @contextmanager
    def database() -> Iterator[str]:
        server.execute(f"TRUNCATE {tables}", name)
        server.execute("UPDATE history SET revision = 0", name)
        yield server.url(name)

    run_state_machine_as_test(partial(Machine, database), settings=_profile(examples, steps))
    server.drop_database(name)
