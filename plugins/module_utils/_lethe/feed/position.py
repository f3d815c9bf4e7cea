# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a reader stands in the registry's history: an epoch and a revision, ``EPOCH.REVISION`` as text.

An epoch is 32 hexadecimal digits, of which the first 8 are the time at which it began: epochs are ordered, and so
are positions.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..wireguard.errors import InvalidValue

EPOCH_BYTES = 16
LARGEST_REVISION = 2**63 - 1  # what both databases can hold

_TEXT = re.compile(rf"([0-9a-f]{{{2 * EPOCH_BYTES}}})\.(0|[1-9][0-9]{{0,18}})", re.ASCII)


class Position(NamedTuple):
    """Compares as the history goes: a later epoch is after every revision of an earlier one."""

    epoch: str  # 32 lower-case hexadecimal digits
    revision: int  # of the latest change

    @classmethod
    def from_text(cls, text: Any, field: str = "position") -> Position:
        """Raises InvalidValue, which names ``field``."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None or int(match[2]) > LARGEST_REVISION:
            raise InvalidValue(field, "is not a position", "write it as EPOCH.REVISION, as the registry gave it")
        return cls(match[1], int(match[2]))

    @property
    def text(self) -> str:
        return f"{self.epoch}.{self.revision}"
