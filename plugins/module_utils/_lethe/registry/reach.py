# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the gateways that clients connect to have a key: for the client whose it is. It says nothing of anybody
else, not even how many changes there have been.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from ..gateways import Gateway
from ..wireguard.keys import PublicKey
from . import history, reports
from .schema import changes, outbox
from .store import Transaction

APPLIED, PENDING, AWAY = "applied", "pending", "away"
FRESH = 90  # seconds: agents report twice a minute; whoever has missed two reports is away

_WAITS = select(outbox.c.public_key).where(outbox.c.public_key == bindparam("public_key")).limit(1)
_CHANGED_AT = select(func.max(changes.c.revision)).where(changes.c.public_key == bindparam("public_key"))


class Reach(NamedTuple):
    """How one gateway stands to a key."""

    gateway: Gateway
    state: str  # applied; pending: it is connected, and lacks it; away: it has not reported lately, or never does


def of_key(tx: Transaction, public_key: PublicKey) -> list[Reach]:
    """How each gateway stands to a registered key, by its own reports."""
    waits = tx.has_outbox and tx.first(_WAITS, {"public_key": bytes(public_key)}) is not None
    position = history.position(tx)
    # A change that is not retained any more was at the horizon or before it.
    revision = tx.first(_CHANGED_AT, {"public_key": bytes(public_key)})[0] or position.horizon
    standing = {
        (gateway.label, each.interface): each
        for gateway in reports.gateways(tx)
        if gateway.report is not None and tx.now - gateway.report.at <= FRESH
        for each in gateway.report.interfaces
    }

    def state(gateway: Gateway) -> str:
        report = standing.get((gateway.name, gateway.interface))
        if report is None:
            return AWAY
        has_it = not waits and report.epoch == position.epoch and report.revision >= revision
        return APPLIED if has_it else PENDING

    return [Reach(gateway, state(gateway)) for gateway in tx.gateways]


def is_everywhere(reached: list[Reach]) -> bool:
    """Whether a client may use the key: some gateway has it, and none that is connected lacks it."""
    states = {each.state for each in reached}
    return APPLIED in states and PENDING not in states
