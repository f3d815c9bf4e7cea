# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconcile: desired peers and current peers in, the changes that lead from one to the other out.

Pure: no socket, no clock. Applying a plan is the device's work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .addresses import AllowedIPs, Endpoint
from .errors import InvalidValue, ShrinkRefused
from .keys import PresharedKey, PublicKey
from .peers import Peer, PeerState

SHRINK_LIMIT = 50
"""Percent of the peers that a plan may remove without being allowed to explicitly."""
SHRINK_FLOOR = 10
"""Peers that a plan may always remove."""


class PeerUpdate(NamedTuple):
    """What of a peer is to change; None: left alone."""

    public_key: PublicKey
    preshared_key: PresharedKey | None = None
    persistent_keepalive: int | None = None  # seconds
    endpoint: Endpoint | None = None
    allowed_ips: AllowedIPs | None = None
    keep_other_allowed_ips: bool = False  # only add: packets of the peer's other addresses are never dropped

    @property
    def fields(self) -> list[str]:
        """The names of what changes."""
        names = ("preshared_key", "persistent_keepalive", "endpoint", "allowed_ips")
        return [name for name in names if getattr(self, name) is not None]


@dataclass(slots=True)
class Plan:
    """Changes as plain data. Applied in the order removed, updated, added, the result does not depend on
    the order within them: an allowed IP that moves is given up before, or taken by, its new peer.
    """

    added: Collection[Peer] = field(default_factory=list)
    updated: list[PeerUpdate] = field(default_factory=list)
    removed: list[PublicKey] = field(default_factory=list)
    unchanged: int = 0  # peers that are as wanted, or not listed and kept

    @property
    def changed(self) -> bool:
        return bool(self.added or self.updated or self.removed)

    @property
    def current(self) -> int:
        """Peers before the plan is applied."""
        return self.unchanged + len(self.updated) + len(self.removed)

    @property
    def removes_all(self) -> bool:
        """Nothing that is there stays."""
        return bool(self.removed) and not self.unchanged and not self.updated

    def counts(self) -> dict[str, int]:
        return {
            "added": len(self.added),
            "updated": len(self.updated),
            "removed": len(self.removed),
            "unchanged": self.unchanged,
        }


def plan_peers(wanted: Mapping[PublicKey, Peer], current: Iterable[PeerState], *, remove_unlisted: bool = True) -> Plan:
    """What has to change so that the interface has the ``wanted`` peers and, unless ``remove_unlisted`` is
    false, no others. An endpoint that is not given is left alone.

    Raises InvalidValue if a peer that is not listed and is kept has an allowed IP that a listed one wants:
    the kernel would move it silently.
    """
    plan = Plan()
    missing = dict(wanted)
    unlisted: list[PeerState] = []
    unchanged = 0
    for state in current:
        peer = missing.pop(state.public_key, None)
        if peer is None:
            if remove_unlisted:
                plan.removed.append(state.public_key)
            else:
                unlisted.append(state)
        elif peer[:4] == state[:4] and (peer.endpoint is None or peer.endpoint == state.endpoint):
            unchanged += 1
        elif update := _update(peer, state):
            plan.updated.append(update)
        else:
            unchanged += 1
    # Neighbours in the kernel's address trie one after the other: its path stays in the cache.
    plan.added = sorted(missing.values(), key=_allowed_ips)
    plan.unchanged = unchanged + len(unlisted)
    _refuse_taken_addresses(plan, unlisted)
    return plan


def _allowed_ips(peer: Peer) -> AllowedIPs:
    return peer.allowed_ips


def _update(peer: Peer, state: PeerState) -> PeerUpdate | None:
    """The real differences, or None: the kernel may hold the same allowed IPs in another order."""
    allowed_ips: AllowedIPs | None = None
    only_more = False
    if peer.allowed_ips != state.allowed_ips:
        want, have = peer.allowed_ips.nests(), set(state.allowed_ips.nests())
        more = [nest for nest in want if nest not in have]
        only_more = have <= set(want)
        if more and only_more:
            allowed_ips = AllowedIPs(b"".join(more))
        elif more or not only_more:
            allowed_ips = peer.allowed_ips
    update = PeerUpdate(
        peer.public_key,
        preshared_key=peer.preshared_key if peer.preshared_key != state.preshared_key else None,
        persistent_keepalive=(
            peer.persistent_keepalive if peer.persistent_keepalive != state.persistent_keepalive else None
        ),
        endpoint=peer.endpoint if peer.endpoint != state.endpoint else None,
        allowed_ips=allowed_ips,
        keep_other_allowed_ips=allowed_ips is not None and only_more,
    )
    return update if update.fields else None


def _refuse_taken_addresses(plan: Plan, kept: list[PeerState]) -> None:
    if not kept:
        return
    claims = {nest for peer in plan.added for nest in peer.allowed_ips.nests()}
    for update in plan.updated:
        if update.allowed_ips is not None:
            claims.update(update.allowed_ips.nests())
    if claims and any(not claims.isdisjoint(state.allowed_ips.nests()) for state in kept):
        raise InvalidValue(
            "allowed_ips",
            "one of the addresses already belongs to another peer of this interface",
            "remove that peer first, or give both in one list",
        )


def check_shrink(plan: Plan, limit: int = SHRINK_LIMIT) -> None:
    """Raise ShrinkRefused if the plan removes more than ``limit`` percent of the peers, and more than
    SHRINK_FLOOR: an empty or truncated inventory must never empty a gateway.
    """
    removed = len(plan.removed)
    if removed > SHRINK_FLOOR and removed * 100 > plan.current * limit:
        raise ShrinkRefused(removed, plan.current, limit)
