# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit is made of: checks, and what they find.

A finding is put together from numbers and this program's own words. Nothing that was read on the host is repeated in
it, but for the names of interfaces: a report goes to controllers, dashboards and tickets, and must not become another
place that knows a client.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .host import Host


class Severity(enum.IntEnum):
    """How bad it is that something is kept."""

    LOW = 1  # it could come to keep a client's address
    MEDIUM = 2  # it keeps some, or would at the next occasion, or lets a revoked client in
    HIGH = 3  # it knows where clients are or were

    @property
    def text(self) -> str:
        return self.name.lower()

    @classmethod
    def from_text(cls, text: str) -> Severity:
        """Raises KeyError."""
        return cls[text.upper()]


@dataclass(frozen=True, slots=True)
class Leak:
    """What a check has seen."""

    what: str
    evidence: str  # counts, ages, places
    fix: str


Look = Callable[["Host"], Iterable[Leak]]


@dataclass(frozen=True, slots=True)
class Check:
    """One question to a host."""

    id: str
    severity: Severity
    clean: str  # what is true where it finds nothing
    look: Look


def check(id_: str, severity: Severity, clean: str) -> Callable[[Look], Check]:
    """Makes a function that looks at a host a check."""
    return lambda look: Check(id_, severity, clean, look)


@dataclass(frozen=True, slots=True)
class Finding:
    """One leak, or one check that could not look: that is as bad as what it might have found."""

    check: str
    severity: Severity
    what: str
    evidence: str
    fix: str
    looked: bool = True
    accepted: bool = False  # the operator knows, and it does not count
