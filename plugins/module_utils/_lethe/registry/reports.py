# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateways report: how far each of their interfaces has followed the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from .credentials import GATEWAY
from .schema import credentials, reports
from .store import Transaction

_GONE = delete(reports).where(
    reports.c.label == bindparam("of"), reports.c.interface.not_in(bindparam("kept", expanding=True))
)
_KEEP = {
    dialect: statement.on_conflict_do_update(
        index_elements=[reports.c.label, reports.c.interface],
        set_={column.name: statement.excluded[column.name] for column in reports.c if not column.primary_key},
    )
    for dialect, statement in (("postgresql", postgresql.insert(reports)), ("sqlite", sqlite.insert(reports)))
}


class InterfaceReport(NamedTuple):
    """Where one interface stands."""

    interface: str
    epoch: str
    revision: int  # applied: the kernel has it
    peers: int
    oldest_endpoint: float | None  # seconds since the handshake of the peer whose endpoint is the oldest
    drift: int  # peers that were not as they should be, and were put right, since the agent started


class Report(NamedTuple):
    """What a gateway says of all its interfaces."""

    interfaces: tuple[InterfaceReport, ...]
    version: str  # of Lethe
    at: int  # seconds since 1970: when it came


class Gateway(NamedTuple):
    label: str  # of its credential
    report: Report | None  # None: it has not reported yet


def keep(tx: Transaction, latest: Mapping[str, Report]) -> None:
    """Remember the latest report of each gateway, by label."""
    for label, report in sorted(latest.items()):  # always in this order: two processes do not block each other
        names = [each.interface for each in report.interfaces]
        tx.connection.execute(_GONE, {"of": label, "kept": names})
        rows = [
            {"label": label, "version": report.version, "at": report.at, **each._asdict()}
            for each in sorted(report.interfaces)
        ]
        if rows:
            tx.connection.execute(_KEEP[tx.connection.dialect.name], rows)


def gateways(tx: Transaction) -> list[Gateway]:
    """All gateways that have a credential, by label, and what each reported last."""
    labelled = select(credentials.c.label).where(credentials.c.label.is_not(None), credentials.c.kind == GATEWAY)
    rows: dict[str, list[InterfaceReport]] = {label: [] for label in tx.connection.execute(labelled).scalars()}
    about: dict[str, tuple[str, int]] = {}
    for row in tx.connection.execute(select(reports).order_by(reports.c.label, reports.c.interface)):
        if row.label in rows:
            about[row.label] = (row.version, row.at)
            rows[row.label].append(
                InterfaceReport(row.interface, row.epoch, row.revision, row.peers, row.oldest_endpoint, row.drift)
            )
    return [
        Gateway(label, Report(tuple(rows[label]), *about[label]) if label in about else None) for label in sorted(rows)
    ]


def forget_withdrawn(tx: Transaction) -> int:
    """Forget what gateways said whose credentials are gone; returns how many rows went."""
    there = select(credentials.c.label).where(credentials.c.label.is_not(None), credentials.c.kind == GATEWAY)
    return tx.connection.execute(delete(reports).where(reports.c.label.not_in(there))).rowcount
