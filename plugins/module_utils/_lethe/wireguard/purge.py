# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The purge policy: which peers must be deleted and reinstated, so that the kernel forgets them.

Pure: peer states, what was remembered from the last run and a clock reading in; whom to purge and what to
remember out.

*Idle*: the latest handshake is older than the session limit. The kernel stamps handshakes with the wall
clock, which can be set; ages are told by CLOCK_BOOTTIME. The difference of the two is remembered from
run to run; where it steps, a stamp is read as whichever of the two clocks makes it plausible, the younger
if both do. A stamp that fits neither is treated like a ghost.

*Ghost*: an endpoint without any handshake. The kernel stores the source address of a valid handshake
initiation, but the handshake's time only with the first data packet. It is purged when the same
endpoint has been seen, still without a handshake, for as long.

What is remembered lives in /run: keyed hashes, no key and no address.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .clock import ClockReading
from .errors import InvalidValue
from .keys import PublicKey
from .peers import Peer, PeerState

SESSION_LIMIT = 180
"""Seconds after which no session is valid any more: REJECT_AFTER_TIME, drivers/net/wireguard/messages.h."""

_SECOND = 1_000_000_000
_STEP = _SECOND // 10  # a change of the clocks' difference between two runs that is more than slewing
_SLACK = _SECOND  # how far a stamp may lie outside its segment: a dump is read after the clocks are
_FORMAT = 1
_SALT_BYTES = 16


def idle_after_from(value: int) -> int:
    """Seconds of silence after which a peer is purged. Raises InvalidValue below SESSION_LIMIT."""
    if value < SESSION_LIMIT:
        raise InvalidValue(
            "idle_after",
            f"is {value} s, less than WireGuard's session limit",
            f"give {SESSION_LIMIT} or more: a session that is younger may be alive",
        )
    return value


class Segment(NamedTuple):
    """A time in which the wall clock did not step. Two overlap by the time between two runs: when in it the
    step was is not known.
    """

    start: int  # ns of CLOCK_BOOTTIME
    end: int | None  # ns of CLOCK_BOOTTIME; None: still going on
    offset: int  # ns: CLOCK_REALTIME - CLOCK_BOOTTIME


@dataclass(frozen=True, slots=True)
class Figures:
    """One run in numbers: all that is ever reported of it."""

    peers: int = 0
    idle: int = 0  # purged for an old handshake
    ghosts: int = 0  # purged for an endpoint without a handshake
    waiting_ghosts: int = 0  # seen, not yet for long enough
    oldest_endpoint_age: float | None = None  # seconds, of what is left; None: no endpoint is left
    duration: float = 0.0  # seconds, the whole run
    longest_lock: float = 0.0  # seconds for which one message held the interface

    @property
    def purged(self) -> int:
        return self.idle + self.ghosts

    def sentence(self) -> str:
        oldest = "none" if self.oldest_endpoint_age is None else f"{self.oldest_endpoint_age:.0f} s"
        return (
            f"{self.peers} peers, {self.purged} purged ({self.idle} idle, {self.ghosts} ghosts), "
            f"{self.waiting_ghosts} ghosts waiting, oldest endpoint {oldest}, "
            f"took {self.duration * 1000:.0f} ms, longest lock {self.longest_lock * 1000:.0f} ms"
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """What one run leaves to the next."""

    salt: bytes = field(default_factory=lambda: secrets.token_bytes(_SALT_BYTES), repr=False)
    last_run: int | None = None  # ns of CLOCK_BOOTTIME
    segments: tuple[Segment, ...] = ()  # oldest first
    sightings: Mapping[str, int] = field(default_factory=dict)  # keyed hash -> ns of CLOCK_BOOTTIME first seen
    figures: Figures | None = None

    def as_json(self) -> dict[str, Any]:
        figures = self.figures
        return {
            "format": _FORMAT,
            "salt": self.salt.hex(),
            "last_run": self.last_run,
            "segments": [list(segment) for segment in self.segments],
            "sightings": dict(self.sightings),
            "figures": {name: getattr(figures, name) for name in Figures.__slots__} if figures else None,
        }

    @classmethod
    def from_json(cls, document: Any) -> Memory:
        """Raises ValueError, KeyError or TypeError if it is not what as_json gave."""
        if document["format"] != _FORMAT:
            raise ValueError("another format")
        salt = bytes.fromhex(document["salt"])
        if len(salt) != _SALT_BYTES:
            raise ValueError("another salt")
        last_run, figures = document["last_run"], document["figures"]
        return cls(
            salt=salt,
            last_run=None if last_run is None else _whole(last_run),
            segments=tuple(
                Segment(_whole(start), None if end is None else _whole(end), _whole(offset))
                for start, end, offset in document["segments"]
            ),
            sightings={name: _whole(seen) for name, seen in document["sightings"].items()},
            figures=None if figures is None else Figures(**{name: _number(value) for name, value in figures.items()}),
        )


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _number(value: Any) -> Any:
    if value is not None and not isinstance(value, (int, float)):
        raise TypeError("not a number")
    return value


class Selection(NamedTuple):
    """What one look at the peers has decided."""

    peers: list[Peer]  # to delete and reinstate, as they should be afterwards
    addresses: frozenset[bytes]  # at which they were, 4 or 16 bytes each
    memory: Memory
    figures: Figures


def select(
    states: Iterable[PeerState | None],
    memory: Memory,
    now: ClockReading,
    *,
    idle_after: int = SESSION_LIMIT,
    exempt: Container[PublicKey] = (),
) -> Selection:
    """Whom to purge. ``states`` has None for a peer that was never heard from; ``now`` is read before they are.

    ``idle_after``: seconds, see idle_after_from. ``exempt``: peers with an endpoint of their own
    (site-to-site), which are left alone and not counted among the endpoints.
    """
    limit = idle_after * _SECOND
    if memory.last_run is not None and memory.last_run > now.boottime:
        memory = Memory()  # of another boot
    segments = _segments(memory, now)
    sightings: dict[str, int] = {}
    purge: list[Peer] = []
    addresses: set[bytes] = set()
    peers = idle = ghosts = waiting = 0
    oldest = -1  # ns
    for state in states:
        peers += 1
        if state is None:
            continue
        handshake = state.handshake
        if (not handshake and state.endpoint is None) or state.public_key in exempt:
            continue
        stamp = _boottime_of(handshake, segments, now) if handshake else None
        if stamp is not None:
            age = now.boottime - stamp
            due = age > limit
        else:
            name = _sighting(memory.salt, state)
            first_seen = memory.sightings.get(name, now.boottime)
            age = now.boottime - first_seen
            due = age >= limit
            if not due:
                sightings[name] = first_seen
                waiting += not handshake
        if not due:
            oldest = max(oldest, age)
            continue
        purge.append(Peer(*state[:4]))
        if state.endpoint is not None:
            addresses.add(state.endpoint.address)
        if handshake:
            idle += 1
        else:
            ghosts += 1
    figures = Figures(peers, idle, ghosts, waiting, oldest / _SECOND if oldest >= 0 else None)
    # A segment that ended longer ago than the limit has just been looked at for the last time: all its
    # handshakes were due.
    recent = tuple(s for s in segments if s.end is None or now.boottime - s.end <= limit)
    left = Memory(memory.salt, now.boottime, recent, sightings, figures)
    return Selection(purge, frozenset(addresses), left, figures)


def _segments(memory: Memory, now: ClockReading) -> tuple[Segment, ...]:
    """The remembered segments with the present one at the end."""
    if not memory.segments or memory.last_run is None:
        return (Segment(0, None, now.offset),)
    *past, present = memory.segments
    if abs(now.offset - present.offset) <= _STEP:
        return (*past, present._replace(offset=now.offset))
    return (*past, present._replace(end=now.boottime), Segment(memory.last_run, None, now.offset))


def _boottime_of(handshake: int, segments: Iterable[Segment], now: ClockReading) -> int | None:
    """When a handshake was, in ns of CLOCK_BOOTTIME: the latest moment that its stamp can mean, or None if
    it fits no segment.
    """
    latest = None
    for start, end, offset in segments:
        moment = handshake - offset
        if start - _SLACK <= moment <= (now.boottime if end is None else end) + _SLACK:
            moment = min(moment, now.boottime)
            latest = moment if latest is None else max(latest, moment)
    return latest


def _sighting(salt: bytes, state: PeerState) -> str:
    """A name for "this peer with this endpoint, or this unreadable stamp" that tells neither."""
    stamp = state.handshake.to_bytes(8, "little", signed=True)
    where = b"" if state.handshake or state.endpoint is None else state.endpoint
    return hashlib.blake2b(state.public_key + stamp + where, key=salt, digest_size=16).hexdigest()
