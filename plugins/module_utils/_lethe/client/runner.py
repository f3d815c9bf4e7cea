# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does what is due, one thing at a time: asks the registry, brings the interface to what the state says, looks whether
a gateway answers. What it decides is in rotation.py and schedule.py; the waiting is the caller's.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..gateways import Gateway
from ..wireguard.errors import LetheError
from ..wireguard.keys import PrivateKey, generate_private_key
from . import rotation, schedule
from .memory import Memory
from .registry import Away, KeyGone, KeyRefused, Refused, Registry
from .rotation import DAY, Own, Stage, State
from .schedule import Uniform

_log = logging.getLogger(__name__)

_LOOK = 3600.0  # seconds between looks whether the registry still has the key, and at its gateways; give or take half
_POLL = (5.0, 10.0)  # seconds between questions whether gateways have a key: they tell the registry twice a minute
_PATIENCE = 600.0  # seconds after which a successor is tried whatever is known: some gateways report to nobody
_TRIAL = 12.0  # seconds; WireGuard repeats an initiation every 5: REKEY_TIMEOUT in drivers/net/wireguard/messages.h
_TRIAL_LOOK = 0.2  # seconds
_UNANSWERED = (60.0, 900.0)  # seconds before another attempt: after the first one, and at most
_UNANSWERED_EITHER = 60.0  # seconds, where the key before is not answered any more either
_LINGER = 120.0  # seconds, at most, before the key before is removed: gateways see the moment, and it is drawn
_LONGEST_PAUSE = 900.0  # seconds
_LONGEST_PAUSE_WITHOUT_KEY = 60.0  # nothing works until it is registered
_LONGEST_PAUSE_WITHOUT_TUNNEL = 60.0
_LONGEST_PAUSE_FOR_PEOPLE = 3600.0  # where somebody has to do something first
_LOOK_AFTER_SILENCE = (60.0, 900.0)  # seconds, at most: at first, and after gateway upon gateway that does not answer

# In which it goes on with the key that it has, whatever the registry says or does not say.
_GOING_ON = (Stage.SETTLED, Stage.ROTATING, Stage.WAITING, Stage.CONFIRMING)
_REMOVED = (
    "the registry has removed this client's key before its time: somebody revoked or deleted it. "
    "For a new one: lethe client rotate"
)


class Tunnel(Protocol):
    """The interface. All methods raise LetheError."""

    def bring(self, own: Own, gateways: tuple[Gateway, ...]) -> None:
        """Make it have this key, and one of the gateways as its peer. What is so already is not touched."""

    def is_answered(self) -> bool:
        """Whether a gateway has completed a handshake with the present key. Looking makes it begin one."""

    def is_silent(self) -> bool:
        """Whether the gateway has ceased to answer."""

    def take_another(self, gateways: tuple[Gateway, ...]) -> None:
        """Go on with the next key of the gateway in use, if it has one; else with another gateway, if there is one."""

    def take_down(self) -> None:
        """Make there be no such interface."""


@dataclass(slots=True)
class Standing:
    """How the client stands, with the registry or with its interface: for people. It names nobody."""

    problem: str = ""  # why it does not go on, and what to do
    slug: str = ""  # the registry's name for it
    failures: int = 0  # in a row
    until: float = 0.0  # seconds since 1970: it is not tried again before

    def is_pausing(self, now: float) -> bool:
        return now < self.until <= now + _LONGEST_PAUSE_FOR_PEOPLE


class Runner:
    """One client. It does nothing by itself: ``step`` it."""

    def __init__(
        self,
        registry: Registry,
        tunnel: Tunnel,
        memory: Memory,
        period: float,
        *,
        clock: Callable[[], float] = time.time,
        uniform: Uniform = random.uniform,
        new_key: Callable[[], PrivateKey] = generate_private_key,
    ) -> None:
        """``period``: seconds after which no key is in use any more. Raises StateUnusable."""
        self.keys = 0  # that it came to use since it was started
        self._registry = registry
        self._tunnel = tunnel
        self._memory = memory
        self._period = period
        self._clock = clock
        self._uniform = uniform
        self._new_key = new_key
        self._state = memory.read()
        self._gateways = memory.read_gateways()
        self._with_registry, self._with_tunnel = Standing(), Standing()
        self._look_at = 0.0  # seconds since 1970: when to look whether the registry has the key
        self._silences = 0  # after which it looked sooner, since a gateway answered
        self._poll_at = 0.0  # seconds since 1970: when to ask whether gateways have the successor
        self._attempts = 0  # to use a successor that no gateway answered
        self._attempted_at = 0.0  # seconds since 1970

    @property
    def state(self) -> State | None:
        """None: before the first step, and after having left."""
        return self._state

    @property
    def standing(self) -> Standing:
        if self._state is not None and self._state.stage is Stage.STOPPED:
            return Standing(_REMOVED, "key-removed")
        return self._with_registry if self._with_registry.failures else self._with_tunnel

    def is_connected(self) -> bool:
        """Whether a gateway answers the key that is in use."""
        try:
            return self._state is not None and self._tunnel.is_answered() and not self._tunnel.is_silent()
        except LetheError:
            return False

    def step(self) -> float:
        """Do what is due; returns the seconds after which something is. In between it is to be called every second or
        so all the same, for the gateway may cease to answer.
        """
        now = self._clock()
        state = self._state
        if state is None:
            state = self._keep(rotation.begin(self._new_key()))
        try:
            if self._has_to_try(state, now):
                return self._attempt(state, now)
            self._connect(state, now)
            if self._with_registry.is_pausing(now) and state.stage is not Stage.TRYING:
                return self._with_registry.until - now
            if state.stage in _GOING_ON and not now < self._look_at <= now + 2 * _LOOK:
                self._look(state, now)
            wait = self._STAGES[state.stage](self, state, now)
        except KeyGone as gone:
            return self._gone(state, gone, now)
        except LetheError as error:
            return self._failed(state, error, now)
        if self._with_registry.failures:
            _log.info("the registry does as it is asked again")
            self._with_registry = Standing()
        return wait

    def rotate(self) -> None:
        """Begin a rotation at the next step, or get a new key for one that was removed. Raises StateUnusable."""
        state = self._state
        if state is not None and state.stage is Stage.SETTLED:
            self._keep(rotation.postponed(state, 0))
        elif state is not None and state.stage is Stage.STOPPED:
            self._keep(rotation.begin(self._new_key()))
        self._with_registry.until = 0

    def leave(self) -> None:
        """From the next step on: have the key removed everywhere, then forget it. Raises StateUnusable."""
        if self._state is not None and self._state.stage is not Stage.LEAVING:
            self._keep(rotation.leave(self._state))
        self._with_registry.until = 0

    def forget(self) -> None:
        """Make there be no interface and no key on this host, whatever the registry has. Raises LetheError."""
        self._tunnel.take_down()
        self._memory.forget()
        self._state = None

    # --- the stages ------------------------------------------------------------------------------------

    def _register(self, state: State, now: float) -> float:
        try:
            registration = self._registry.register(state.key.public_key)
        except KeyRefused:
            self._keep(rotation.begin(self._new_key()))
            raise
        rotate_at = schedule.first(now, self._period, registration.expires_day, self._uniform)
        self._keep(rotation.registered(state, registration, rotate_at))
        self.keys += 1
        _log.info("registered; the key is changed in %.1f days", (rotate_at - now) / DAY)
        return 0

    def _settled(self, state: State, now: float) -> float:
        due = schedule.in_bounds(state.due, now, self._period, self._uniform) if state.due else now
        if due != state.due and due > now:
            self._keep(rotation.postponed(state, due))
            return 0
        if now >= due:
            self._keep(rotation.rotate(state, self._new_key()))
            return 0
        return min(due, self._look_at) - now

    def _look(self, state: State, now: float) -> None:
        """Learn what became of the key, and of the gateways."""
        self._registry.has_been_applied(_asked_about(state).public_key)
        self._list_gateways()
        self._look_at = now + self._uniform(0.5 * _LOOK, 1.5 * _LOOK)

    def _rotate(self, state: State, now: float) -> float:
        try:
            registration = self._registry.rotate(state.key.public_key, state.next_key.public_key)
        except KeyRefused:
            self._keep(rotation.rotate(state, self._new_key()))
            raise
        self._attempts = 0
        self._keep(rotation.added(state, registration, now + _PATIENCE))
        return 0

    def _wait(self, state: State, now: float) -> float:
        if self._attempts:  # in vain: what the registry says of its gateways is known not to be all
            return state.due - now
        if not now < self._poll_at <= now + _POLL[1]:
            if self._registry.has_been_applied(state.next_key.public_key):
                return self._attempt(state, now)
            self._poll_at = now + self._uniform(*_POLL)
        return min(self._poll_at, state.due) - now

    def _has_to_try(self, state: State, now: float) -> bool:
        """Whether the successor is tried whatever the registry says of the gateways."""
        if state.stage is not Stage.WAITING:
            return False
        if not now < state.due <= now + max(_PATIENCE, _UNANSWERED[1]):
            return True
        # The registry removes the key before when its time of grace is over, be the successor answered or not.
        return self._silences > 0 and not 0 <= now - self._attempted_at < _UNANSWERED_EITHER

    def _attempt(self, state: State, now: float) -> float:
        self._keep(rotation.attempt(state, now + _TRIAL))
        return 0

    def _try(self, state: State, now: float) -> float:
        if self._tunnel.is_answered():
            self._keep(rotation.answered(state, now + self._uniform(0, _LINGER)))
            self.keys += 1
            _log.info("a gateway answers the new key")
            return 0
        if now < state.due <= now + _TRIAL:
            return _TRIAL_LOOK
        self._attempts += 1
        self._attempted_at = self._look_at = now  # it may be the list of gateways
        first, longest = _UNANSWERED
        pause = min(longest, first * 2 ** min(self._attempts - 1, 10))
        self._keep(rotation.unanswered(state, now + self._uniform(0.5 * pause, pause)))
        _log.warning("no gateway answers the new key; it goes on with the one before")
        self._tunnel.take_another(self._gateways)
        return 0

    def _confirm(self, state: State, now: float) -> float:
        if now < state.due <= now + _LINGER:
            return state.due - now
        self._registry.confirm(state.key.public_key)
        expires_day = None if state.key.registration is None else state.key.registration.expires_day
        # From when the key came to use, about: the registry may have been away since.
        rotate_at = schedule.following(min(now, state.due), self._period, expires_day, self._uniform)
        self._keep(rotation.confirmed(state, rotate_at))
        _log.info("the key was changed; the next time is in %.1f days", (rotate_at - now) / DAY)
        return 0

    def _stopped(self, _state: State, _now: float) -> float:
        return math.inf

    def _leave(self, state: State, _now: float) -> float:
        for own in state.own:
            try:
                self._registry.delete(own.public_key)
            except KeyGone:
                pass
            except Refused as error:
                if error.slug not in ("account-closed", "account-unknown"):
                    raise
                # Its keys were removed with it.
        self.forget()
        _log.info("logged out: the key is gone from the registry and from this host")
        return math.inf

    _STAGES = {  # noqa: RUF012 - never changed
        Stage.REGISTERING: _register,
        Stage.SETTLED: _settled,
        Stage.ROTATING: _rotate,
        Stage.WAITING: _wait,
        Stage.TRYING: _try,
        Stage.CONFIRMING: _confirm,
        Stage.STOPPED: _stopped,
        Stage.LEAVING: _leave,
    }

    # --- what they share -------------------------------------------------------------------------------

    def _connect(self, state: State, now: float) -> None:
        """Make the interface what the state says, with a gateway that answers. Also while the registry is not to be
        asked: it may be behind that gateway.
        """
        own, trying = state.in_use, state.stage is Stage.TRYING
        if own is None or not self._gateways or state.stage is Stage.LEAVING or (trying and now >= state.due):
            return
        if self._with_tunnel.is_pausing(now) and not trying:
            return
        try:
            if state.stage in _GOING_ON:
                self._care(now)
            self._tunnel.bring(own, self._gateways)
        except LetheError as error:
            self._note(self._with_tunnel, error, now, _LONGEST_PAUSE_WITHOUT_TUNNEL)
            self._tunnel.take_another(self._gateways)  # that has an address, for one
            return
        if self._with_tunnel.failures:
            _log.info("the interface is as it should be again")
            self._with_tunnel = Standing()

    def _care(self, now: float) -> None:
        """Leave a gateway that does not answer, and ask the registry soon: it may be the key, or the list of gateways.
        The longer none answers the later: all clients of a fleet may be at it.
        """
        if self._tunnel.is_silent():
            self._tunnel.take_another(self._gateways)
            first, longest = _LOOK_AFTER_SILENCE
            within = min(longest, first * 2 ** min(self._silences, 10))
            if self._look_at > now + within:
                self._look_at = now + self._uniform(0, within)
                self._silences += 1
        elif self._silences and self._tunnel.is_answered():
            self._silences = 0

    def _list_gateways(self) -> None:
        gateways = self._registry.gateways()
        if not gateways and not self._gateways:
            raise Refused("the registry lists no gateway; the operator has to run site.yml with some in the inventory")
        if gateways and gateways != self._gateways:
            self._memory.write_gateways(gateways)
            self._gateways = gateways

    def _keep(self, state: State) -> State:
        """Stored first: whatever is done from here on is done because of it."""
        self._memory.write(state)
        self._state = state
        return state

    def _gone(self, state: State, gone: KeyGone, now: float) -> float:
        """The registry does not have the key that was asked about."""
        expired = _asked_about(state).has_expired(now)
        if gone.removed and not expired:
            _log.warning("the registry has removed the key before its time")
            self._keep(rotation.removed(state))
        elif state.stage is Stage.WAITING and not expired:
            # The registry was restored from a backup of before the rotation: it may have the key before.
            _log.warning("the new key is not known any more; another one is registered")
            self._keep(rotation.rotate(state, self._new_key()))
        else:
            # It has expired while this host was off; or the registry was restored from a backup that has it not.
            _log.warning("the key %s; a new one is registered", "has expired" if expired else "is not known any more")
            self._keep(rotation.begin(self._new_key()))
        return 0

    def _failed(self, state: State, error: LetheError, now: float) -> float:
        if isinstance(error, Refused):
            longest = _LONGEST_PAUSE_FOR_PEOPLE
        else:
            longest = _LONGEST_PAUSE if state.in_use else _LONGEST_PAUSE_WITHOUT_KEY
        return self._note(self._with_registry, error, now, longest)

    def _note(self, standing: Standing, error: LetheError, now: float, longest: float) -> float:
        """Returns the seconds until it is tried again."""
        standing.failures += 1
        if str(error) != standing.problem:
            _log.warning("%s", error)
        standing.problem = str(error)
        standing.slug = error.slug if isinstance(error, Refused) else ""
        least = error.retry_after if isinstance(error, Away) else 0
        standing.until = now + schedule.pause(standing.failures, longest, self._uniform, least)
        return standing.until - now


def _asked_about(state: State) -> Own:
    """The key that the registry is asked about: the one before a successor may be gone already."""
    return state.successor if state.stage is Stage.WAITING and state.successor else state.key
