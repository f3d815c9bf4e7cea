# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two clocks that the age of a handshake is told from."""

from __future__ import annotations

import time
from typing import NamedTuple


class ClockReading(NamedTuple):
    """Both clocks at one moment, in nanoseconds."""

    realtime: int  # CLOCK_REALTIME: what the kernel stamps handshakes with; can be set
    boottime: int  # CLOCK_BOOTTIME: since boot, counts suspend; never steps

    @property
    def offset(self) -> int:
        return self.realtime - self.boottime


def read_clocks() -> ClockReading:
    return ClockReading(time.clock_gettime_ns(time.CLOCK_REALTIME), time.clock_gettime_ns(time.CLOCK_BOOTTIME))
