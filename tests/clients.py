# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client under test, between a real registry and gateways that follow its change log: the way there can lose and
double what is sent, and the client's host can lose its power.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from made_up import key as key_text
from registry.site import Site
from registry.support import Follower, Registry

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.memory import Memory
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.registry import Answer, Away, Http
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.registry import Registry as ClientsRegistry
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.rotation import DAY, Own, State
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.runner import Runner
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.gateways import Gateway
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, reports
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.reports import InterfaceReport, Report
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey

GATEWAYS = tuple(Gateway(f"gateway{n}", PublicKey.from_text(key_text(900 + n)), "192.0.2.1", 51820) for n in (1, 2))
DELIVERED, LOST, UNANSWERED, DOUBLED, DOUBLED_LATER = "delivered", "lost", "unanswered", "doubled", "doubled later"
KEPT_BACK = 12 * 3600  # seconds, at most
HANDSHAKE = 12  # seconds that a gateway may take to answer
FATES = (DELIVERED, LOST, UNANSWERED, DOUBLED, DOUBLED_LATER)


def gateways_file(directory: Path, gateways: Iterable[Gateway] = GATEWAYS) -> str:
    """What the registry tells clients of the gateways."""
    path = directory / "gateways.json"
    path.write_text(json.dumps({"gateways": [gateway.as_json() for gateway in gateways]}))
    return str(path)


class PowerCut(Exception):
    """The client's host is off at this very moment."""


class Way:
    """From the client to the registry: each request has the next fate."""

    def __init__(self, url: str, token: str, clock: Callable[[], float], context: ssl.SSLContext | None = None) -> None:
        self._http = Http(url, token, context)
        self._clock = clock
        self.fates: list[str] = []
        self.late: list[tuple[float, tuple[str, str, bytes | None]]] = []
        self.asked: list[str] = []
        self.told: list[bytes] = []

    def ask(self, method: str, path: str, body: bytes | None) -> Answer:
        self.asked.append(path.rpartition("/")[2])
        fate = self.fates.pop(0) if self.fates else DELIVERED
        if fate == LOST:
            raise Away("the request was lost")
        answer = self._http.ask(method, path, body)
        if fate == DOUBLED:
            answer = self._http.ask(method, path, body)
        elif fate == DOUBLED_LATER:
            self.late.append((self._clock(), (method, path, body)))
        elif fate == UNANSWERED:
            raise Away("the answer was lost")
        self.told.append(answer.body)
        return answer

    def deliver_late(self) -> None:
        """What the network has kept back. No connection lives for as long as the registry remembers a removed key."""
        for at, request in self.late:
            if self._clock() - at <= KEPT_BACK:
                self._http.ask(*request)
        self.late.clear()


class FollowingGateway:
    """A gateway that has what the change log says, as far as it has read it."""

    def __init__(self, registry: Registry, gateway: Gateway) -> None:
        self.gateway = gateway
        self._registry = registry
        self._follower = Follower(registry.position(), registry.exported())

    @property
    def keys(self) -> set[PublicKey]:
        return self._follower.keys

    def follow(self) -> None:
        position = self._registry.position()
        if position.horizon > self._follower.revision:
            self._follower = Follower(position, self._registry.exported())
        self._follower.apply(self._registry.changes(self._follower.revision))

    def report(self) -> None:
        epoch, revision = self._registry.position().epoch, self._follower.revision
        one = InterfaceReport(self.gateway.interface, epoch, revision, len(self.keys), None, 0)
        latest = {self.gateway.name: Report((one,), "1.0.0", int(self._registry.clock.now))}
        self._registry.store.write(lambda tx: reports.keep(tx, latest))


class MemoryTunnel:
    """An interface whose handshakes succeed with gateways that have its key, and of which it has the present key. What
    it is to be is in force when it was brought to it.
    """

    def __init__(self, gateways: list[FollowingGateway], clock: Callable[[], float]) -> None:
        self.own: Own | None = None
        self.gateway: Gateway | None = None  # in use
        self._by_name = {each.gateway.name: each for each in gateways}
        self._clock = clock
        self._turn = 0
        self._since = 0.0  # seconds since 1970

    def bring(self, own: Own, gateways: tuple[Gateway, ...]) -> None:
        gateway = gateways[self._turn % len(gateways)]
        if (own, gateway) != (self.own, self.gateway):
            self.own, self.gateway, self._since = own, gateway, self._clock()

    def is_answered(self) -> bool:
        if self.own is None or self.gateway is None:
            return False
        there = self._by_name[self.gateway.name]
        return there.gateway.public_key == self.gateway.public_key and self.own.public_key in there.keys

    def is_silent(self) -> bool:
        return self.own is not None and not self.is_answered() and not 0 <= self._clock() - self._since < HANDSHAKE

    def take_another(self, gateways: tuple[Gateway, ...]) -> None:
        self._turn += 1

    def take_down(self) -> None:
        self.own = None


class FailingMemory(Memory):
    """Its host can lose its power just before, or just after, something is on the disk."""

    cut: str = ""  # before, after

    def write(self, state: State) -> None:
        cut, self.cut = self.cut, ""
        if cut == "before":
            raise PowerCut
        super().write(state)
        if cut == "after":
            raise PowerCut


class Client:
    """One client, its way and its disk."""

    def __init__(
        self,
        site: Site,
        gateways: list[FollowingGateway],
        directory: Path,
        account: str,
        seed: int = 0,
        days: float = 7,
    ) -> None:
        site.registry.create(account)
        token = site.registry.token(account)
        site.named |= {account, token}
        self.way = Way(site.url, token, site.registry.clock)
        self.memory = FailingMemory(directory)
        self.random = Random(seed)
        self._site = site
        self._gateways = gateways
        self._period = days * DAY
        self.start()

    def start(self, clock: Callable[[], float] | None = None) -> None:
        """As after its host was off: what the kernel had is gone. ``clock``: its own, if that is not the registry's."""
        clock = clock or self._site.registry.clock
        self.memory.cut = ""
        self.tunnel = MemoryTunnel(self._gateways, clock)
        self.runner = Runner(
            ClientsRegistry(self.way),
            self.tunnel,
            self.memory,
            self._period,
            clock=clock,
            uniform=self.random.uniform,
        )

    def step(self) -> float:
        try:
            return self.runner.step()
        except PowerCut:
            self.start()
            return 0

    @property
    def keys(self) -> set[PublicKey]:
        """Those whose private halves are on the disk."""
        state = self.memory.read()
        return set() if state is None else {own.public_key for own in state.own}


def following(registry: Registry) -> list[FollowingGateway]:
    """Both gateways, with credentials to report."""
    for gateway in GATEWAYS:
        registry.store.write(lambda tx, name=gateway.name: credentials.issue(tx, credentials.GATEWAY, name))  # type: ignore[misc]
    return [FollowingGateway(registry, gateway) for gateway in GATEWAYS]


def private_keys_in(directory: Path) -> Iterator[str]:
    """The texts of all private keys that the files of a directory hold."""

    def found(value: Any, name: str = "") -> Iterator[str]:
        if isinstance(value, dict):
            for each, inner in value.items():
                yield from found(inner, each)
        elif name == "private_key":
            yield value

    for path in directory.rglob("*"):
        if path.is_file():
            yield from found(json.loads(path.read_text()))
