# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thirty days of a thousand clients that were all rolled out within ten minutes, in seconds."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable

import pytest

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client import runner, schedule
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.rotation import (
    DAY,
    Own,
    Registration,
    Stage,
    State,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.runner import Runner
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.gateways import Gateway
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.interface import address_from_text
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey

CLIENTS, DAYS, PERIOD, HOUR = 1000, 30, 7 * DAY, 3600
GATEWAY = Gateway("gateway1", PublicKey(bytes(range(32))), "192.0.2.1", 51820)
START = 20_000.0 * DAY
KEY_DAYS = 30


class FakeRegistry:
    """Gives everybody everything, and writes down when. The real one is in test_rotating.py."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.born: dict[PublicKey, float] = {}
        self.ages: list[float] = []  # seconds, of keys that were removed
        self.requests: Counter[int] = Counter()  # by hour, that change something

    def register(self, public_key: PublicKey) -> Registration:
        now = self._now()
        self.requests[int((now - START) // HOUR)] += 1
        self.born[public_key] = now
        return Registration((address_from_text("10.1.2.3/32"),), expires_day=int(now // DAY) + KEY_DAYS)

    def rotate(self, public_key: PublicKey, successor: PublicKey) -> Registration:
        assert public_key in self.born
        self._replaced = public_key
        return self.register(successor)

    def has_been_applied(self, public_key: PublicKey) -> bool:
        return True

    def gateways(self) -> tuple[Gateway, ...]:
        return (GATEWAY,)


class OwnRegistry(FakeRegistry):
    """As one client asks it: it knows which key a confirmation removes."""

    def __init__(self, shared: FakeRegistry) -> None:
        super().__init__(shared._now)
        self.born, self.ages, self.requests = shared.born, shared.ages, shared.requests

    def confirm(self, public_key: PublicKey) -> None:
        self.ages.append(self._now() - self.born.pop(self._replaced))


class OpenTunnel:
    """Every gateway answers at once."""

    def bring(self, own: Own, gateways: tuple[Gateway, ...]) -> None:
        pass

    def is_answered(self) -> bool:
        return True

    def is_silent(self) -> bool:
        return False

    def take_another(self, gateways: tuple[Gateway, ...]) -> None:
        pass

    def take_down(self) -> None:
        pass


class NoDisk:
    """Remembers nothing: no host of the simulation loses its power."""

    def read(self) -> State | None:
        return None

    def write(self, state: State) -> None:
        pass

    def read_gateways(self) -> tuple[Gateway, ...]:
        return ()

    def write_gateways(self, gateways: tuple[Gateway, ...]) -> None:
        pass


def test_the_load_is_flat_and_every_key_younger_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_LOOK", 2.0 * DAY)  # looks change nothing; a simulated one costs as much as a real one
    now = START
    drawn = random.Random(7)
    shared = FakeRegistry(lambda: now)
    clients = [
        Runner(OwnRegistry(shared), OpenTunnel(), NoDisk(), PERIOD, clock=lambda: now, uniform=drawn.uniform)  # type: ignore[arg-type]
        for _ in range(CLIENTS)
    ]
    due = [(START + drawn.uniform(0, 600), number) for number in range(CLIENTS)]
    heapq.heapify(due)
    while due[0][0] < START + DAYS * DAY:
        now, number = heapq.heappop(due)
        heapq.heappush(due, (now + max(clients[number].step(), 0.001), number))

    assert all(client.state is not None and client.state.stage is not Stage.STOPPED for client in clients)
    assert len(shared.born) - CLIENTS <= 20  # those that are just being rotated
    assert max(shared.ages) < PERIOD
    assert max(now - born for born in shared.born.values()) < PERIOD

    mean = CLIENTS * HOUR / ((schedule.SHORTEST + schedule.LONGEST) / 2 * PERIOD)
    hours = [shared.requests[hour] for hour in range(1, DAYS * 24)]  # without the one in which all registered
    # Each hour's number is spread as a Poisson variable is, at most: 6 standard deviations are never seen.
    assert max(hours) < mean + 6 * mean**0.5
    days = [sum(hours[day * 24 : (day + 1) * 24]) for day in range(DAYS - 1)]
    assert all(abs(each - 24 * mean) < 5 * (24 * mean) ** 0.5 for each in days)


@pytest.mark.parametrize("days", [1, 7, 30])
def test_a_key_is_rotated_before_the_period_and_before_it_expires(days: int) -> None:
    drawn = random.Random(3)
    for _ in range(2000):
        now = START + drawn.uniform(0, DAY)
        expires_day = int(now // DAY) + drawn.choice([1, 2, 7, 30])
        limit = min(now + days * DAY, expires_day * DAY)
        for when in (schedule.first, schedule.following):
            assert now <= when(now, days * DAY, expires_day, drawn.uniform) <= limit
        assert schedule.following(now, days * DAY, None, drawn.uniform) >= now + 0.75 * days * DAY


def test_pauses_grow_to_a_limit_and_differ() -> None:
    drawn = random.Random(3)
    pauses = [schedule.pause(n, 900, drawn.uniform) for n in range(1, 200)]
    assert 1 <= pauses[0] <= 2
    assert all(450 <= each <= 900 for each in pauses[10:])
    assert len(set(pauses)) == len(pauses)
    assert schedule.pause(1, 900, drawn.uniform, 60) == 60
