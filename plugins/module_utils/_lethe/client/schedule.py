# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a client does what. Pure: now in, a time out; ``uniform`` draws evenly from between two numbers.

Each key lives for a time that is drawn anew, from 75 to 95 % of the period: what is left is for retries, so that a
client that is online has no key that is older than the period. The first key's time is drawn as if the client had been
rotating for ever (the forward recurrence time of a renewal process: Cox, Renewal Theory, 1962, section 5.1). However
many begin at once, as many rotate in one hour as in any other, from the first hour on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .rotation import DAY

Uniform = Callable[[float, float], float]

SHORTEST, LONGEST = 0.75, 0.95  # of the period
_BEFORE_EXPIRY = 0.9  # of what is left until the registry may remove a key
_MISSED = 300.0  # seconds late: the client was off, or asleep
_CATCHING_UP = 900.0  # seconds over which those that were off at the same time are spread
_FIRST_PAUSE = 2.0  # seconds


def first(now: float, period: float, expires_day: int | None, uniform: Uniform) -> float:
    """When a key that was just registered is rotated. Times in seconds (since 1970), ``expires_day`` since 1970."""
    low, high = SHORTEST * period, LONGEST * period
    # The life that is cut at a random moment is drawn in proportion to its length; the moment, evenly from it.
    life = math.sqrt(uniform(low * low, high * high))
    return now + _limited(uniform(0, life), now, expires_day, uniform)


def following(now: float, period: float, expires_day: int | None, uniform: Uniform) -> float:
    """When a key that has just taken another's place is rotated."""
    life = uniform(SHORTEST * period, LONGEST * period)
    return now + _limited(life, now, expires_day, uniform)


def in_bounds(due: float, now: float, period: float, uniform: Uniform) -> float:
    """The time of a rotation, put right: after one that was missed, not all who were off come at once; after a clock
    that was set back by days, it is not put off for as long.
    """
    late = now - due
    if late > _MISSED:
        return now + uniform(0, min(late, _CATCHING_UP))
    if -late > period:
        return now + uniform(0, period)
    return due


def pause(failures: int, longest: float, uniform: Uniform, least: float = 0.0) -> float:
    """Seconds before another attempt, after so many that failed (1 and more): twice as long each time, and never as
    long as the next client.
    """
    grown = min(longest, _FIRST_PAUSE * 2 ** min(failures - 1, 20))
    return max(least, uniform(0.5 * grown, grown))


def _limited(life: float, now: float, expires_day: int | None, uniform: Uniform) -> float:
    """In time before the registry removes the key for its age. One that it has just given has not expired: if it looks
    so, this host's clock is wrong.
    """
    if expires_day is None or expires_day * DAY <= now:
        return life
    left = (expires_day * DAY - now) * _BEFORE_EXPIRY
    return life if life <= left else uniform(0.5 * left, left)
