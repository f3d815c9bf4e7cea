# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import statistics
from itertools import chain, pairwise

import pytest
from bench.latencies import due_times, percentile
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(("percent", "value"), [("0", 1), ("50", 500), ("99", 990), ("99.9", 999), ("100", 1000)])
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(percent: str, value: float) -> None:
    assert percentile(range(1, 1001), percent) == value


def test_between_two_ranks_the_higher_one_counts() -> None:
    assert percentile([1, 2, 3], "50") == 2
    assert percentile([1, 2, 3, 4], "99") == 4
    assert percentile([7], "50") == 7


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], "50")


@given(values=st.lists(st.floats(0, 1000), min_size=1).map(sorted), percent=st.integers(1, 100))
def test_a_percentile_has_so_many_values_below_or_at_it_and_no_fewer_would_do(
    values: list[float], percent: int
) -> None:
    found = percentile(values, str(percent))
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


def test_requests_are_due_evenly_from_the_start_to_the_end() -> None:
    assert list(due_times(4, 2, 0, 1)) == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]


@given(rate=st.integers(1, 300), seconds=st.integers(1, 20), generators=st.integers(1, 5))
def test_generators_share_the_requests_and_none_is_due_twice(rate: int, seconds: int, generators: int) -> None:
    shares = [list(due_times(rate, seconds, number, generators)) for number in range(generators)]
    assert sorted(chain.from_iterable(shares)) == list(due_times(rate, seconds, 0, 1))
    assert sum(map(len, shares)) == rate * seconds
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_gaps_are_equal() -> None:
    times = list(due_times(200, 30, 1, 2))
    assert len(times) == 3000
    assert statistics.pstdev(later - earlier for earlier, later in pairwise(times)) < 1e-9
