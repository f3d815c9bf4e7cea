# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A WireGuard interface in memory, for simulated fleets and for tests of what uses a device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from typing import TypeVar

from .addresses import AllowedIPs
from .bulk import collection_paused
from .keys import PrivateKey, PublicKey
from .peers import Configuration, DeviceSettings, Peer, PeerState
from .plan import Plan

T = TypeVar("T")


class MemoryDevice:
    """Keeps the kernel's rules: an allowed IP belongs to the peer that took it last; an update of a peer
    that is gone does nothing; reinstating forgets endpoint, handshake and counters; no peer has the interface's
    own key.
    """

    def __init__(self, name: str = "wg0") -> None:
        self.name = name
        self.peers: dict[PublicKey, PeerState] = {}
        self._owners: dict[bytes, PublicKey] = {}  # allowed IP -> the peer that has it
        self._settings = DeviceSettings(None, 0, 0)
        self._lock = threading.RLock()

    def settings(self) -> DeviceSettings:
        return self._settings

    def read(self, fold: Callable[[Iterator[PeerState]], T]) -> T:
        with self._lock:
            return fold(iter(self.peers.values()))

    def read_heard(self, fold: Callable[[Iterator[PeerState | None]], T]) -> T:
        with self._lock:
            return fold(s if s.handshake or s.endpoint else None for s in self.peers.values())

    def compare(self, expected: dict[bytes, bytes], fold: Callable[[Iterator[PeerState], dict[bytes, bytes]], T]) -> T:
        left = dict(expected)

        def differing() -> Iterator[PeerState]:
            for state in self.peers.values():
                if left.get(state.public_key) == Configuration.of(state):
                    del left[state.public_key]
                else:
                    yield state

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
                state = self.peers.get(update.public_key)
                if state is None:
                    continue
                if update.allowed_ips is not None:
                    if not update.keep_other_allowed_ips:
                        self._release(state)
                    taken = self._take(update.public_key, update.allowed_ips)
                    state = self.peers[update.public_key]
                    state = state._replace(allowed_ips=AllowedIPs(state.allowed_ips + taken))
                self.peers[update.public_key] = state._replace(
                    preshared_key=state.preshared_key if update.preshared_key is None else update.preshared_key,
                    persistent_keepalive=(
                        state.persistent_keepalive
                        if update.persistent_keepalive is None
                        else update.persistent_keepalive
                    ),
                    endpoint=state.endpoint if update.endpoint is None else update.endpoint,
                )
            for peer in plan.added:
                self._put(peer)

    def reinstate(self, peers: Sequence[Peer]) -> float:
        with self._lock:
            for peer in peers:
                self._remove(peer.public_key)
                self._put(peer)
        return 0.0

    def forget_paths(self, addresses: Set[bytes]) -> None:
        """Nothing is ever sent, so there are none."""

    def become(self, private_key: PrivateKey, peer: Peer) -> None:
        with self._lock:
            self.flush()
            self.configure(private_key=private_key)
            self._put(peer)

    def flush(self) -> None:
        with self._lock:
            self.peers.clear()
            self._owners.clear()

    def exclusive(self) -> AbstractContextManager[None]:
        return self._lock  # type: ignore[return-value]

    def _put(self, peer: Peer) -> None:
        if peer.public_key == self._settings.public_key:
            return
        state = self.peers.get(peer.public_key)
        if state is None:
            endpoint, handshake, received, sent = None, 0, 0, 0
        else:
            self._release(state)
            endpoint, handshake, received, sent = state[4:]
        key, preshared_key, keepalive, allowed_ips, other = peer
        taken = self._take(key, allowed_ips)
        self.peers[key] = PeerState(key, preshared_key, keepalive, taken, other or endpoint, handshake, received, sent)

    def _remove(self, public_key: PublicKey) -> None:
        state = self.peers.pop(public_key, None)
        if state is not None:
            for nest in state.allowed_ips.nests():
                del self._owners[nest]

    def _release(self, state: PeerState) -> None:
        for nest in state.allowed_ips.nests():
            del self._owners[nest]
        if state.public_key in self.peers:
            self.peers[state.public_key] = state._replace(allowed_ips=AllowedIPs())

    def _take(self, public_key: PublicKey, allowed_ips: AllowedIPs) -> AllowedIPs:
        """They are the peer's from now on, and of whoever had them no more; returns them, each once."""
        listed = allowed_ips.nests()
        nests = dict.fromkeys(listed, public_key)
        if len(nests) == len(listed) and self._owners.keys().isdisjoint(nests):
            self._owners.update(nests)
            return allowed_ips
        for nest in nests:
            if nest in self._owners:
                robbed = self.peers[self._owners[nest]]
                left = [n for n in robbed.allowed_ips.nests() if n != nest]
                self.peers[robbed.public_key] = robbed._replace(allowed_ips=AllowedIPs(b"".join(left)))
            self._owners[nest] = public_key
        return AllowedIPs(b"".join(nests))
