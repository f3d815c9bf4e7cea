# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A WireGuard interface in memory, for simulated fleets and for tests of what uses a device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from itertools import starmap
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from .addresses import AllowedIPs, Endpoint
from .bulk import collection_paused
from .keys import PrivateKey, PublicKey
from .peers import (
    Configuration,
    ConfiguredPeersInOrder,
    DeviceSettings,
    Peer,
    PeerState,
    configured_peer,
    nests_of,
)
from .plan import PeerUpdate, Plan

T = TypeVar("T")


class _Heard(NamedTuple):
    """What a peer's state has beside its Configuration."""

    endpoint: Endpoint | None = None
    handshake: int = 0  # ns of CLOCK_REALTIME
    received: int = 0  # bytes
    sent: int = 0  # bytes


_NOTHING = _Heard()


class MemoryDevice:
    """Keeps the kernel's rules: an allowed IP belongs to the peer that took it last; an update of a peer
    that is gone does nothing; reinstating forgets endpoint, handshake and counters; no peer has the interface's
    own key.
    """

    def __init__(self, name: str = "wg0") -> None:
        self.name = name
        # Peers as bytes: they are what a snapshot of a million peers is read into, and a state is seldom asked for.
        self._configurations: dict[bytes, bytes] = {}  # public key -> Configuration
        self._heard: dict[bytes, _Heard] = {}  # public key -> what else there is; of most peers nothing
        self._owners: dict[bytes, bytes] = {}  # allowed IP -> public key of the peer that has it
        self._settings = DeviceSettings(None, 0, 0)
        self._lock = threading.RLock()

    @property
    def peers(self) -> Mapping[PublicKey, PeerState]:
        """The peers as they are now, also for another thread than the one that is changing them."""
        now = tuple(self._configurations.items())
        return MappingProxyType({PublicKey(key): self._state(key, configuration) for key, configuration in now})

    def hear(self, public_key: bytes, **what: Any) -> None:
        """Have heard this of a peer: its ``endpoint``, ``handshake``, ``received``, ``sent``, as they are in its state.
        What is not given stays.
        """
        with self._lock:
            if public_key not in self._configurations:
                raise ValueError("no peer has this public key")
            self._heard[public_key] = self._heard.get(public_key, _NOTHING)._replace(**what)

    def settings(self) -> DeviceSettings:
        return self._settings

    def read(self, fold: Callable[[Iterator[PeerState]], T]) -> T:
        with self._lock:
            return fold(starmap(self._state, self._configurations.items()))

    def read_heard(self, fold: Callable[[Iterator[PeerState | None]], T]) -> T:
        with self._lock:
            return fold(
                self._state(key, configuration) if key in self._heard else None
                for key, configuration in self._configurations.items()
            )

    def compare(self, expected: dict[bytes, bytes], fold: Callable[[Iterator[PeerState], dict[bytes, bytes]], T]) -> T:
        left = dict(expected)

        def differing() -> Iterator[PeerState]:
            for key, configuration in self._configurations.items():
                if left.get(key) == configuration:
                    del left[key]
                else:
                    yield self._state(key, configuration)

        with self._lock:
            return fold(differing(), left)

    def configure(
        self, *, private_key: PrivateKey | None = None, listen_port: int | None = None, fwmark: int | None = None
    ) -> None:
        with self._lock:
            old = self._settings
            self._settings = DeviceSettings(
                public_key=old.public_key if private_key is None else private_key.public_key(),
                listen_port=old.listen_port if listen_port is None else listen_port,
                fwmark=old.fwmark if fwmark is None else fwmark,
            )
            if self._settings.public_key is not None:
                self._remove(self._settings.public_key)

    @collection_paused()
    def apply(self, plan: Plan) -> None:
        with self._lock:
            if plan.removes_all:
                self.flush()
            for public_key in plan.removed:
                self._remove(public_key)
            for update in plan.updated:
                self._update(update)
            if isinstance(plan.added, ConfiguredPeersInOrder):
                for key, configuration in plan.added.configurations:
                    self._put(key, configuration)
            else:
                for peer in plan.added:
                    self._put_peer(peer)

    def reinstate(self, peers: Sequence[Peer]) -> float:
        with self._lock:
            for peer in peers:
                self._remove(peer.public_key)
                self._put_peer(peer)
        return 0.0

    def forget_paths(self, addresses: Set[bytes]) -> None:
        """Nothing is ever sent, so there are none."""

    def become(self, private_key: PrivateKey, peer: Peer) -> None:
        with self._lock:
            self.flush()
            self.configure(private_key=private_key)
            self._put_peer(peer)

    def flush(self) -> None:
        with self._lock:
            self._configurations.clear()
            self._heard.clear()
            self._owners.clear()

    def exclusive(self) -> AbstractContextManager[None]:
        return self._lock  # type: ignore[return-value]

    def _state(self, public_key: bytes, configuration: bytes) -> PeerState:
        heard = self._heard.get(public_key, _NOTHING)
        return PeerState(*configured_peer(public_key, configuration)[:4], *heard)

    def _put_peer(self, peer: Peer) -> None:
        self._put(peer.public_key, Configuration.of(peer), peer.endpoint)

    def _put(self, public_key: bytes, configuration: bytes, endpoint: Endpoint | None = None) -> None:
        if public_key == self._settings.public_key:
            return
        if public_key in self._configurations:
            self._release(public_key)
        self._configurations[public_key] = configuration
        owners = self._owners
        for nest in nests_of(configuration):
            if nest in owners:
                self._withdraw(nest)
            owners[nest] = public_key
        if endpoint is not None:
            self.hear(public_key, endpoint=endpoint)

    def _update(self, update: PeerUpdate) -> None:
        configuration = self._configurations.get(update.public_key)
        if configuration is None:
            return
        peer = configured_peer(update.public_key, configuration)
        said = {name: getattr(update, name) for name in update.fields}
        if update.allowed_ips is not None and update.keep_other_allowed_ips:
            said["allowed_ips"] = AllowedIPs(peer.allowed_ips + update.allowed_ips)
        self._put_peer(peer._replace(**said))

    def _remove(self, public_key: bytes) -> None:
        if public_key in self._configurations:
            self._release(public_key)
            del self._configurations[public_key]
            self._heard.pop(public_key, None)

    def _release(self, public_key: bytes) -> None:
        for nest in nests_of(self._configurations[public_key]):
            del self._owners[nest]

    def _withdraw(self, nest: bytes) -> None:
        """Take an allowed IP from the peer that has it; the first, if it is being given the same one twice."""
        owner = self._owners[nest]
        peer = configured_peer(owner, self._configurations[owner])
        left = peer.allowed_ips.nests()
        left.remove(nest)
        self._configurations[owner] = Configuration.of(peer._replace(allowed_ips=AllowedIPs(b"".join(left))))
