# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AddressPool: which addresses can be drawn, and how evenly."""

from __future__ import annotations

import ipaddress
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.allocation import AddressPool
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue


def pool4(*ranges: str, reserved: tuple[str, ...] = ()) -> AddressPool[ipaddress.IPv4Address]:
    return AddressPool(ipaddress.IPv4Address, ranges, reserved)


def pool6(*ranges: str, reserved: tuple[str, ...] = ()) -> AddressPool[ipaddress.IPv6Address]:
    return AddressPool(ipaddress.IPv6Address, ranges, reserved)


def everything(pool: AddressPool[ipaddress.IPv4Address]) -> list[str]:
    return [str(pool.nth(n)) for n in range(pool.size)]


def test_network_and_broadcast_addresses_are_left_out() -> None:
    assert everything(pool4("10.0.0.0/29")) == [f"10.0.0.{n}" for n in range(1, 7)]
    assert everything(pool4("10.0.0.0/30", "192.168.1.0/30")) == [
        "10.0.0.1",
        "10.0.0.2",
        "192.168.1.1",
        "192.168.1.2",
    ]


def test_of_ipv6_only_the_routers_anycast_address_is_left_out() -> None:
    assert everything(pool6("fd00::/126")) == ["fd00::1", "fd00::2", "fd00::3"]  # RFC 4291, section 2.6.1


@pytest.mark.parametrize("ranges", [("10.0.0.0/28", "10.0.0.8/29"), ("10.0.0.8/29", "10.0.0.0/28")])
def test_ranges_that_overlap_count_once_in_whatever_order(ranges: tuple[str, ...]) -> None:
    assert everything(pool4(*ranges)) == [f"10.0.0.{n}" for n in range(1, 15) if n != 8]


def test_reserved_addresses_and_networks_are_left_out() -> None:
    reserved = ("10.0.0.1", "10.0.0.4/31", "fd00::1", "192.168.0.0/16")
    assert everything(pool4("10.0.0.0/28", reserved=reserved)) == [
        f"10.0.0.{n}" for n in (2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14)
    ]
    assert everything(pool6("fd00::/126", reserved=reserved)) == ["fd00::2", "fd00::3"]


def test_the_defaults_are_huge_and_reach_from_end_to_end() -> None:
    pool = pool4("10.0.0.0/8")
    assert pool.size == 2**24 - 2
    assert (str(pool.nth(0)), str(pool.nth(pool.size - 1))) == ("10.0.0.1", "10.255.255.254")
    large = pool6("fd6c:6574:6865::/48")
    assert large.size == 2**80 - 1
    assert str(large.nth(large.size - 1)) == "fd6c:6574:6865:ffff:ffff:ffff:ffff:ffff"


def test_only_ranges_that_could_be_drawn_again_rest() -> None:
    assert pool4("10.0.0.0/8").rests
    assert pool6("fd00::/64").rests
    assert not pool6("fd00::/63").rests


def test_no_range_is_an_empty_pool() -> None:
    assert pool4(reserved=("10.0.0.1", "fd00::1")).size == 0


@pytest.mark.parametrize(
    ("ranges", "reserved"), [(("10.0.0.0/31",), ()), (("10.1.2.3",), ()), (("10.0.0.0/30",), ("10.0.0.0/24",))]
)
def test_ranges_of_which_nothing_is_left_are_refused(ranges: tuple[str, ...], reserved: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValue, match=r"^ipv4_ranges: has no address that can be drawn"):
        pool4(*ranges, reserved=reserved)


@pytest.mark.parametrize(
    ("family", "bad", "problem"),
    [
        (4, "8.8.8.0/24", "is not private"),
        (4, "10.0.0.0/7", "is not private"),
        (4, "fd00::/64", "is not an IPv4 network"),
        (4, "ten", "is not a network"),
        (4, "10.0.0.0/33", "is not a network"),
        (4, "", "is not a network"),
        (6, "2001:db8::/48", "is not private"),
        (6, "fe80::/64", "is not private"),
        (6, "10.0.0.0/8", "is not an IPv6 network"),
        (6, "fd00::/129", "is not a network"),
    ],
)
def test_a_bad_range_is_named_by_its_place(family: int, bad: str, problem: str) -> None:
    make, good = (pool4, "10.0.0.0/8") if family == 4 else (pool6, "fd00::/48")
    with pytest.raises(InvalidValue, match=rf"^ipv{family}_ranges\[1\]: {problem}"):
        make(good, bad)


def test_a_bad_reserved_address_is_named_by_its_place() -> None:
    with pytest.raises(InvalidValue, match=r"^reserved\[2\]: is not a network"):
        pool4("10.0.0.0/8", reserved=("10.0.0.1", "fd00::1", "nonsense"))


@given(
    st.lists(st.tuples(st.integers(0, 1023), st.integers(24, 30)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 1023), st.integers(26, 32)), max_size=4),
)
def test_the_pool_is_the_ranges_without_what_is_left_out(
    ranges: list[tuple[int, int]], reserved: list[tuple[int, int]]
) -> None:
    """Against sets of addresses, made by Python's own library."""

    def networks(parts: list[tuple[int, int]]) -> list[ipaddress.IPv4Network]:
        return [ipaddress.IPv4Network((0x0A000000 + start, length), strict=False) for start, length in parts]

    expected = {address for network in networks(ranges) for address in network}
    expected -= {end for network in networks(ranges) for end in (network[0], network[-1])}
    expected -= {address for network in networks(reserved) for address in network}
    arguments = (list(map(str, networks(ranges))), list(map(str, networks(reserved))))
    if not expected:
        with pytest.raises(InvalidValue):
            AddressPool(ipaddress.IPv4Address, *arguments)
        return

    pool = AddressPool(ipaddress.IPv4Address, *arguments)

    assert [pool.nth(n) for n in range(pool.size)] == sorted(expected)


def test_every_address_is_drawn_equally_often() -> None:
    """Chi-square over a pool of three pieces: a draw that favours ends or pieces fails by far."""
    pool = pool4("10.0.0.0/25", "172.16.0.0/26", "192.168.0.0/27", reserved=("10.0.0.64/28",))
    draws = 200 * pool.size
    randbelow = random.Random(20261122).randrange
    drawn = Counter(pool.draw(randbelow) for _ in range(draws))

    expected = draws / pool.size
    statistic = sum((drawn[pool.nth(n)] - expected) ** 2 / expected for n in range(pool.size))

    # The statistic's mean is its degrees of freedom f, its variance 2 f: five deviations are one in millions.
    freedom = pool.size - 1
    assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5
    assert sum(drawn.values()) == draws


def test_draws_follow_each_other_in_no_order() -> None:
    pool = pool4("10.0.0.0/8")
    randbelow = random.Random(1).randrange
    drawn = [int(pool.draw(randbelow)) for _ in range(2000)]

    steps = [after - before for before, after in itertools.pairwise(drawn)]
    assert 900 < sum(step > 0 for step in steps) < 1100
    assert min(map(abs, steps)) > 16  # neighbours would be a miracle
    assert len(set(drawn)) > 1990
