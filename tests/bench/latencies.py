# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When requests are due, and what their latencies say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction


def due_times(rate: int, seconds: float, generator: int, generators: int) -> Iterator[float]:
    """Seconds from the start at which one of several generators has to send: together they send ``rate`` times in
    each second, evenly. They depend on nothing that happens on the way: a latency counts from here, so that what
    waits behind a slow answer is counted as slow too.
    """
    for number in range(generator, math.floor(rate * seconds), generators):
        yield number / rate


def percentile(ordered: Sequence[float], percent: str) -> float:
    """The least of the ascending values that at least so many percent of them do not exceed (nearest rank).

    ``percent`` is text, like "99.9", because no float is exactly that.
    """
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    return ordered[max(0, math.ceil(len(ordered) * Fraction(percent) / 100) - 1)]
