# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the peers of an interface to what is wanted: lock, read, plan, guard, apply."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from .addresses import AllowedIPs, Endpoint
from .bulk import collection_paused
from .device import MAX_PEERS, Device
from .errors import InvalidValue
from .keys import PresharedKey, PublicKey
from .packed import ConfiguredPeers
from .peers import ConfiguredPeersInOrder, Peer, PeerState
from .plan import SHRINK_LIMIT, Plan, check_shrink, plan_peers


class PeerOptions(NamedTuple):
    """One peer of which only some things are said; None: as it is, or the default for a new peer."""

    public_key: PublicKey
    preshared_key: PresharedKey | None = None
    persistent_keepalive: int | None = None  # seconds
    allowed_ips: AllowedIPs | None = None
    endpoint: Endpoint | None = None


@collection_paused()
def reconcile_peers(
    device: Device,
    wanted: Mapping[PublicKey, Peer],
    *,
    remove_unlisted: bool = True,
    shrink_limit: int = SHRINK_LIMIT,
    allow_shrink: bool = False,
    check: bool = False,
) -> Plan:
    """Make the interface have the ``wanted`` peers; with ``check``, only say what would be done.

    Raises ShrinkRefused unless ``allow_shrink``, and InvalidValue; then nothing has been changed.
    """
    if len(wanted) > MAX_PEERS:
        raise InvalidValue(
            "peers", f"has {len(wanted)} peers", f"an interface takes at most {MAX_PEERS}: spread them over several"
        )

    def plan(states: Iterator[PeerState]) -> Plan:
        return plan_peers(wanted, states, remove_unlisted=remove_unlisted)

    _refuse_own_key(device, wanted)
    limit = None if allow_shrink else shrink_limit
    if isinstance(wanted, ConfiguredPeers):
        return _carry_out(device, lambda: _plan_configured(device, wanted, remove_unlisted), check, limit)
    return _carry_out(device, lambda: device.read(plan), check, limit)


@collection_paused()
def follow_peers(
    device: Device,
    wanted: ConfiguredPeers,
    *,
    left_alone: Collection[bytes] = (),
    shrink_limit: int | None = SHRINK_LIMIT,
    check: bool = False,
) -> Plan:
    """As reconcile_peers, for one who cannot give anything back to have it corrected: peers whose public keys are
    ``left_alone`` are neither added nor changed nor removed. ``shrink_limit``: None for no guard.
    """
    return _carry_out(device, lambda: _plan_configured(device, wanted, True, left_alone), check, shrink_limit)


def _plan_configured(
    device: Device, wanted: ConfiguredPeers, remove_unlisted: bool, left_alone: Collection[bytes] = ()
) -> Plan:
    """As plan_peers, but only over the peers that differ."""

    def plan(states: Iterator[PeerState], left: dict[bytes, bytes]) -> Plan:
        found = list(states)  # only then is what is left complete
        differing = [state for state in found if state.public_key not in left_alone] if left_alone else found
        as_wanted = len(wanted) - len(left)
        for key in left_alone:
            left.pop(key, None)
        if remove_unlisted:
            changed = {state.public_key for state in differing} & left.keys()
            made = plan_peers(wanted.among(changed), differing)
            made.added = ConfiguredPeersInOrder(item for item in left.items() if item[0] not in changed)
        else:
            made = plan_peers(wanted.among(left), differing, remove_unlisted=False)
        # Those that are left alone stay: a plan that removes all would take them along.
        made.unchanged += as_wanted + len(found) - len(differing)
        return made

    return device.compare(wanted.configurations, plan)


def ensure_peer(device: Device, options: PeerOptions, *, check: bool = False) -> Plan:
    """Make the interface have this peer, leaving what is not said, and every other peer, as it is."""

    def plan(states: Iterator[PeerState]) -> Plan:
        others: list[PeerState] = []
        own: list[PeerState] = []
        for state in states:
            (own if state.public_key == options.public_key else others).append(state)
        default = Peer(*own[0][:4]) if own else Peer(options.public_key)
        said = {name: value for name, value in options._asdict().items() if value is not None}
        peer = default._replace(**said)
        return plan_peers({peer.public_key: peer}, own + others, remove_unlisted=False)

    _refuse_own_key(device, {options.public_key: Peer(options.public_key)})
    return _carry_out(device, lambda: device.read(plan), check)


def remove_peer(device: Device, public_key: PublicKey, *, check: bool = False) -> Plan:
    """Make the interface not have this peer: its session and all the kernel knew of it are gone."""

    def plan(states: Iterator[PeerState]) -> Plan:
        made = Plan()
        for state in states:
            if state.public_key == public_key:
                made.removed.append(public_key)
            else:
                made.unchanged += 1
        return made

    return _carry_out(device, lambda: device.read(plan), check)


def _carry_out(device: Device, plan: Callable[[], Plan], check: bool, shrink_limit: int | None = None) -> Plan:
    with contextlib.nullcontext() if check else device.exclusive():
        made = plan()
        if shrink_limit is not None:
            check_shrink(made, shrink_limit)
        if made.changed and not check:
            device.apply(made)
    return made


def _refuse_own_key(device: Device, wanted: Mapping[PublicKey, Peer]) -> None:
    own = device.settings().public_key
    if own is not None and own in wanted:
        raise InvalidValue(
            "public_key",
            f"is the public key of {device.name} itself",
            "give the other end's key; the kernel silently ignores a peer with the interface's own",
        )
