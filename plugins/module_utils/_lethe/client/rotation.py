# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation as a state machine. Pure: a state in, what has happened, the next state out.

What makes it safe to lose any message, and to stop at any point:

- A state is stored before anything is done because of it. A private key is so on this host before its public key is
  known to anybody else, and whatever was sent can be sent again: the registry answers the same.
- Until a gateway has answered a key, the key before it is kept here; in the registry too, but there not for longer than
  its time of grace. Gateways carry out the registry's changes in its order, so each has the key before or its
  successor, whatever it lags behind: a client that has both, and tries them in turn, can always connect.
- That a gateway has a key is not believed but seen: by a handshake. What the registry says of its gateways only tells
  when to try.

======================  ====================================================================================
REGISTERING             a key pair is stored; whether the registry knows it is not known here
SETTLED                 the registry knows the one key
ROTATING                a successor is stored; whether the registry knows it is not known here
WAITING                 the registry knows both; the interface has the key before, gateways may lack the successor
TRYING                  the interface has the successor; no gateway has answered it yet. If none does: WAITING
CONFIRMING              one has. The key before is gone from this host, and the registry is to remove it everywhere
STOPPED                 the registry has removed the key before its time: somebody did that
LEAVING                 the registry is to remove the key; then this host does
======================  ====================================================================================
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import NamedTuple

from ..wireguard.keys import NO_PRESHARED_KEY, PresharedKey, PrivateKey, PublicKey
from ..wireguard.links import Address

DAY = 86_400  # seconds


class Stage(enum.Enum):
    """Where a rotation stands; the table above says what each means."""

    REGISTERING = "registering"
    SETTLED = "settled"
    ROTATING = "rotating"
    WAITING = "waiting"
    TRYING = "trying"
    CONFIRMING = "confirming"
    STOPPED = "stopped"
    LEAVING = "leaving"


class Registration(NamedTuple):
    """What the registry gave to a key."""

    addresses: tuple[Address, ...]  # in the tunnel
    preshared_key: PresharedKey = NO_PRESHARED_KEY
    expires_day: int | None = None  # days since 1970, in the course of which the key expires; None: never

    def __repr__(self) -> str:
        return "<Registration>"


@dataclass(frozen=True, slots=True)
class Own:
    """A key pair of this client, and what it got for it."""

    private_key: PrivateKey
    registration: Registration | None = None  # None: not known here

    @property
    def public_key(self) -> PublicKey:
        return self.private_key.public_key()

    def has_expired(self, now: float) -> bool:
        """Whether the registry may have removed it for its age. ``now``: seconds since 1970."""
        day = None if self.registration is None else self.registration.expires_day
        return day is not None and now >= day * DAY


@dataclass(frozen=True, slots=True)
class State:
    """All that a client has to remember."""

    stage: Stage
    key: Own
    successor: Own | None = None  # while ROTATING, WAITING, TRYING; and LEAVING from there
    due: float = 0.0
    """Seconds since 1970. SETTLED: when to rotate; WAITING: when to try, whatever is known of the gateways; TRYING:
    when to give up; CONFIRMING: when to confirm.
    """

    @property
    def in_use(self) -> Own | None:
        """What the interface should have; None: nothing yet."""
        own = self.successor if self.stage is Stage.TRYING else self.key
        return None if own is None or own.registration is None else own

    @property
    def own(self) -> tuple[Own, ...]:
        """Every key of this client that the registry may know."""
        return (self.key,) if self.successor is None else (self.successor, self.key)

    @property
    def next_key(self) -> Own:
        """The key that the rotation leads to."""
        return self.key if self.successor is None else self.successor


def begin(private_key: PrivateKey) -> State:
    """A new client; or one whose key is gone for a reason that is none of anybody's will."""
    return State(Stage.REGISTERING, Own(private_key))


def registered(state: State, registration: Registration, rotate_at: float) -> State:
    _expect(state, Stage.REGISTERING)
    return State(Stage.SETTLED, dataclasses.replace(state.key, registration=registration), due=rotate_at)


def rotate(state: State, private_key: PrivateKey) -> State:
    """Begin a rotation; or go on with another successor, if the registry does not take the one before, or lost it."""
    _expect(state, Stage.SETTLED, Stage.ROTATING, Stage.WAITING)
    return State(Stage.ROTATING, state.key, Own(private_key))


def added(state: State, registration: Registration, try_at: float) -> State:
    """The registry has the successor beside the key."""
    _expect(state, Stage.ROTATING)
    successor = dataclasses.replace(_successor(state), registration=registration)
    return State(Stage.WAITING, state.key, successor, try_at)


def attempt(state: State, until: float) -> State:
    """Use the successor and see."""
    _expect(state, Stage.WAITING)
    return dataclasses.replace(state, stage=Stage.TRYING, due=until)


def unanswered(state: State, try_at: float) -> State:
    """No gateway has answered the successor: back to the key before."""
    _expect(state, Stage.TRYING)
    return dataclasses.replace(state, stage=Stage.WAITING, due=try_at)


def answered(state: State, confirm_at: float) -> State:
    """A gateway has: the key before is not needed any more."""
    _expect(state, Stage.TRYING)
    return State(Stage.CONFIRMING, _successor(state), due=confirm_at)


def confirmed(state: State, rotate_at: float) -> State:
    _expect(state, Stage.CONFIRMING)
    return State(Stage.SETTLED, state.key, due=rotate_at)


def removed(state: State) -> State:
    """The registry has removed the key, which had not expired. What is there stays, so that nothing goes past a tunnel
    that somebody has closed.
    """
    return State(Stage.STOPPED, state.next_key)


def leave(state: State) -> State:
    return State(Stage.LEAVING, state.key, state.successor)


def postponed(state: State, due: float) -> State:
    """The same, due at another time."""
    return dataclasses.replace(state, due=due)


def _successor(state: State) -> Own:
    if state.successor is None:
        raise ValueError(f"{state.stage.value} without a successor")
    return state.successor


def _expect(state: State, *stages: Stage) -> None:
    if state.stage not in stages:
        raise ValueError(f"cannot go on so from {state.stage.value}")
