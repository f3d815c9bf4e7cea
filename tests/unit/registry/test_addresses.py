# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tunnel addresses as registrations get them: unique, rested, none that is left out, and an end when all are taken."""

from __future__ import annotations

import ipaddress
import itertools
import time
from collections.abc import Callable, Iterator

import pytest
from registry.fixtures import MakeRegistry, NewDatabase
from registry.support import Clock, Registry, key, seeded

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import (
    DeviceLimitReached,
    RangeFull,
)

TINY = {"ipv4_ranges": ("10.0.0.0/28",), "ipv6_ranges": ("fd00::/124",), "device_limit": 1000}


def fill(registry: Registry, numbers: Iterator[int], account: str = "alice") -> int:
    """Register until nothing is free; returns how many."""
    for count, number in enumerate(numbers):
        try:
            registry.register(account, key(number))
        except RangeFull:
            return count
    raise AssertionError("it never ends")


def test_all_addresses_but_those_left_out_are_given_and_each_once(make_registry: MakeRegistry) -> None:
    registry = make_registry(**TINY, reserved=("10.0.0.1", "10.0.0.12/30", "fd00::1"))
    registry.create("alice")

    assert fill(registry, itertools.count()) == 10

    given = registry.exported().values()
    assert {str(each.ipv4) for each in given} == {f"10.0.0.{n}" for n in range(2, 12)}
    assert len({each.ipv6 for each in given}) == 10
    assert {each.ipv6 for each in given} <= {ipaddress.IPv6Address(f"fd00::{n:x}") for n in range(2, 16)}


def test_a_full_range_is_an_error_at_once_and_changes_nothing(make_registry: MakeRegistry) -> None:
    registry = make_registry(**TINY)
    registry.create("alice")
    fill(registry, itertools.count())
    before = (registry.position(), registry.exported(), registry.resting())
    begun = time.monotonic()

    with pytest.raises(RangeFull):
        registry.register("alice", key(1000))
    with pytest.raises(RangeFull):
        registry.begin("alice", key(0), key(1000))

    assert time.monotonic() - begun < 10
    assert (registry.position(), registry.exported(), registry.resting()) == before


def test_a_full_range_is_found_out_with_few_statements_and_no_insert(
    make_registry: MakeRegistry, on_statements: Callable[..., None]
) -> None:
    registry = make_registry(**TINY, rotation_grace=60)
    registry.create("alice")
    fill(registry, itertools.count())
    statements: list[str] = []
    on_statements(registry, before=statements.append, after=lambda _: None)

    with pytest.raises(RangeFull):
        registry.register("alice", key(1000))

    assert 0 < len(statements) < 20
    assert sum(statement.startswith("INSERT") for statement in statements) <= 1


def test_the_last_free_address_of_a_crowded_range_is_found(make_registry: MakeRegistry) -> None:
    registry = make_registry(ipv4_ranges=("10.0.0.0/27",), ipv6_ranges=(), device_limit=1000, address_rest_days=0)
    registry.create("alice")
    fill(registry, itertools.count())
    freed = registry.of("alice")[key(3)].ipv4
    registry.delete("alice", key(3))

    assert registry.register("alice", key(1000))[0].ipv4 == freed


def test_a_range_whose_addresses_all_rest_is_full(make_registry: MakeRegistry) -> None:
    registry = make_registry(**TINY)
    registry.create("alice")
    count = fill(registry, itertools.count())
    registry.close_account("alice")
    registry.create("bob")

    with pytest.raises(RangeFull):
        registry.register("bob", key(1000))
    assert registry.resting() == 2 * count

    registry.clock.move(days=7)
    registry.tidy()
    assert registry.resting() == 0
    assert registry.register("bob", key(1000))[1]


@pytest.mark.parametrize("released_by", ["delete", "revoke", "close", "rotate", "supersede", "expire", "grace"])
def test_a_released_address_rests_whatever_released_it(make_registry: MakeRegistry, released_by: str) -> None:
    registry = make_registry(ipv4_ranges=("10.0.0.0/29",), ipv6_ranges=(), key_days=10, device_limit=100)
    registry.create("alice")
    registry.create("bob", 100)
    lost, _ = registry.register("alice", key(1))
    if released_by == "delete":
        registry.delete("alice", key(1))
    elif released_by == "revoke":
        registry.revoke(key(1))
    elif released_by == "close":
        registry.close_account("alice")
    elif released_by == "rotate":
        registry.begin("alice", key(1), key(2))
        registry.confirm("alice", key(2))
    elif released_by == "grace":
        registry.begin("alice", key(1), key(2))
        registry.clock.move(seconds=3600)
        registry.tidy()
    elif released_by == "supersede":
        lost, _ = registry.begin("alice", key(1), key(2))
        registry.begin("alice", key(1), key(3))
    else:
        registry.clock.move(days=11)
        registry.tidy()

    numbers = itertools.count(100)

    def taken() -> set[ipaddress.IPv4Address | None]:
        fill(registry, numbers, "bob")
        return {each.ipv4 for each in registry.exported().values()}

    assert lost.ipv4 not in taken()
    registry.clock.move(days=6)
    registry.tidy()
    assert lost.ipv4 not in taken()
    registry.clock.move(days=1)
    registry.tidy()
    assert lost.ipv4 in taken()


def test_no_rest_can_be_asked_for(make_registry: MakeRegistry) -> None:
    registry = make_registry(ipv4_ranges=("10.0.0.0/30",), ipv6_ranges=(), address_rest_days=0)
    registry.create("alice")
    for n in range(20):
        registry.register("alice", key(n))
        registry.delete("alice", key(n))
    assert registry.resting() == 0


@pytest.mark.parametrize("family", [4, 6])
def test_a_registry_can_do_without_one_family(make_registry: MakeRegistry, family: int) -> None:
    registry = make_registry(**{f"ipv{10 - family}_ranges": ()})
    registry.create("alice")
    made, _ = registry.register("alice", key(1))
    assert [ipaddress.ip_network(text).version for text in made.addresses] == [family]
    assert registry.exported() == {key(1): made}
    registry.delete("alice", key(1))


def test_an_address_that_is_taken_is_drawn_again(make_registry: MakeRegistry) -> None:
    """The first draws all hit what is taken."""
    draws = itertools.chain([0] * 25, itertools.repeat(1))
    registry = make_registry(**TINY, randbelow=lambda _: next(draws))
    registry.create("alice")
    first, _ = registry.register("alice", key(1))

    second, _ = registry.register("alice", key(2))

    assert (str(first.ipv4), str(second.ipv4)) == ("10.0.0.1", "10.0.0.2")
    assert registry.of("alice") == {key(1): first, key(2): second}


def test_addresses_say_nothing_of_key_or_account(new_database: NewDatabase) -> None:
    """The same key of the same account, in registries whose draws differ: other addresses."""
    given = set()
    for seed in (1, 2):
        registry = Registry.open(new_database(), Clock(), seeded(seed))
        registry.create("alice")
        given.update(registry.register("alice", key(1))[0].addresses)
        registry.close()
    assert len(given) == 4


def test_draws_come_from_the_operating_systems_random_source(new_database: NewDatabase) -> None:
    """Two registries that nobody has told how to draw do not draw alike."""
    given = set()
    for _ in range(2):
        registry = Registry.open(new_database(), Clock())
        registry.create("alice")
        given.update(registry.register("alice", key(1))[0].addresses)
        registry.close()
    assert len(given) == 4


@pytest.mark.parametrize("database", ["postgresql"])
def test_an_address_released_between_look_and_insert_is_not_given(
    make_registry: MakeRegistry, interpose: Callable[..., None]
) -> None:
    draws = itertools.chain([0, 0], itertools.repeat(1))
    registry = make_registry(
        ipv4_ranges=("10.0.0.0/29",), ipv6_ranges=(), device_limit=9, randbelow=lambda _: next(draws)
    )
    registry.create("alice")
    registry.create("bob")
    released, _ = registry.register("alice", key(1))
    interpose(registry, before="INSERT INTO registrations", do=lambda: registry.revoke(key(1)))

    given, _ = registry.register("bob", key(2))

    assert released.ipv4 != given.ipv4
    assert registry.exported() == {key(2): given}


def test_an_account_at_its_limit_is_told_so_even_if_the_range_is_full(make_registry: MakeRegistry) -> None:
    registry = make_registry(**{**TINY, "device_limit": 1})
    registry.create("alice")
    registry.register("alice", key(1))
    registry.create("bob", 1000)
    fill(registry, itertools.count(2), "bob")
    with pytest.raises(DeviceLimitReached):
        registry.register("alice", key(1000))
