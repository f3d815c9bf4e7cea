# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rest of the program needs of a WireGuard interface, and the real one.

The in-memory one is in memory_device.py; both pass the same contract tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from . import dumps, messages, paths
from .bulk import collection_paused
from .errors import DumpInterrupted, KernelRefused
from .keys import PrivateKey
from .lock import LOCK, exclusive
from .netlink import Interrupted, WireGuardSocket
from .peers import DeviceSettings, Peer, PeerState
from .plan import Plan

T = TypeVar("T")

MAX_PEERS = 1 << 20
"""Peers an interface can hold: MAX_PEERS_PER_DEVICE, drivers/net/wireguard/messages.h."""

# The kernel works through one message under rtnl and the device's lock. A message takes as many peers as
# the last one has shown to fit into this time, so that a slow machine holds the lock no longer.
_LOCK_TARGET = 0.004  # seconds
_LOCK_BYTES = 16 * 1024
_FIRST_PIECES = 16
_CLOCK_TICK = 1e-6  # seconds

_DUMP_ATTEMPTS = 20
_DUMP_PAUSE = 0.01  # seconds, times the attempt


class Device(Protocol):
    """A WireGuard interface that exists. All methods may raise the errors of the kernel (errors.py)."""

    name: str

    def settings(self) -> DeviceSettings:
        """The interface's own settings."""

    def read(self, fold: Callable[[Iterator[PeerState]], T]) -> T:
        """``fold`` over all peers in one consistent state. It is called anew for every attempt, so what it
        returns must depend on that call alone. Raises DumpInterrupted when the peers never stand still.
        """

    def read_heard(self, fold: Callable[[Iterator[PeerState | None]], T]) -> T:
        """As read, but with None for most of the peers that were never heard from: no endpoint, no handshake."""

    def compare(self, expected: dict[bytes, bytes], fold: Callable[[Iterator[PeerState], dict[bytes, bytes]], T]) -> T:
        """As read, but of the peers that are as ``expected`` (public key -> Configuration, peers.py) says, most
        are left out. ``fold`` also gets what of ``expected`` was not found so; complete when all peers are read.
        """

    def configure(
        self, *, private_key: PrivateKey | None = None, listen_port: int | None = None, fwmark: int | None = None
    ) -> None:
        """Set what is given. A private key that is the present one must not be sent: it costs work per peer."""

    def apply(self, plan: Plan) -> None:
        """Carry out a plan: removals, then updates, then additions."""

    def reinstate(self, peers: Sequence[Peer]) -> float:
        """Delete and reinstate peers: each keeps what is given here and loses all else. Returns the longest
        time, in seconds, for which the interface was locked.
        """

    def forget_paths(self, addresses: Set[bytes]) -> None:
        """Remove what the host keeps of the paths to addresses (4 or 16 bytes each) at which no peer is any more."""

    def become(self, private_key: PrivateKey, peer: Peer) -> None:
        """Have this key, and this peer alone and made anew, with one message: there is no moment at which a peer sees a
        key that is not meant for it. Sessions end; what is sent from then on waits for a new one.
        """

    def flush(self) -> None:
        """Remove all peers at once."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep Lethe's other writers away (lock.py)."""


class KernelDevice:
    """An interface of the running kernel, in the network namespace of this process."""

    def __init__(self, name: str, *, lock: Path = LOCK) -> None:
        self.name = name
        self._lock = lock

    def settings(self) -> DeviceSettings:
        with WireGuardSocket(self.name) as kernel:
            return kernel.settings()

    def read(self, fold: Callable[[Iterator[PeerState]], T]) -> T:
        return self._fold_dump(lambda bodies: fold(dumps.peer_states(bodies)))

    def read_heard(self, fold: Callable[[Iterator[PeerState | None]], T]) -> T:
        return self._fold_dump(lambda bodies: fold(dumps.heard_peer_states(bodies)))

    def compare(self, expected: dict[bytes, bytes], fold: Callable[[Iterator[PeerState], dict[bytes, bytes]], T]) -> T:
        def compared(bodies: Iterator[bytes]) -> T:
            left = dict(expected)
            return fold(dumps.differing_peer_states(bodies, left), left)

        return self._fold_dump(compared)

    @collection_paused()
    def _fold_dump(self, fold: Callable[[Iterator[bytes]], T]) -> T:
        for attempt in range(_DUMP_ATTEMPTS):
            try:
                with WireGuardSocket(self.name) as kernel:
                    return fold(kernel.dump())
            except Interrupted:
                time.sleep(_DUMP_PAUSE * attempt)
        raise DumpInterrupted(self.name, _DUMP_ATTEMPTS)

    def configure(
        self, *, private_key: PrivateKey | None = None, listen_port: int | None = None, fwmark: int | None = None
    ) -> None:
        if private_key is None and listen_port is None and fwmark is None:
            return
        with WireGuardSocket(self.name) as kernel:
            kernel.set("set up the interface", private_key=private_key, listen_port=listen_port, fwmark=fwmark)

    def apply(self, plan: Plan) -> None:
        if plan.removes_all:
            self.flush()
            removals: Iterable[bytes] = ()
        else:
            removals = map(messages.encode_removal, plan.removed)
        updates = chain.from_iterable(
            messages.encode_update(
                update.public_key,
                preshared_key=update.preshared_key,
                persistent_keepalive=update.persistent_keepalive,
                endpoint=update.endpoint,
                allowed_ips=update.allowed_ips,
                keep_other_allowed_ips=update.keep_other_allowed_ips,
            )
            for update in plan.updated
        )
        additions = messages.encode_peers(plan.added)
        self._send(chain(removals, updates, additions))

    def reinstate(self, peers: Sequence[Peer]) -> float:
        try:
            return self._send(chain.from_iterable(map(messages.encode_reinstatement, peers)))
        except KernelRefused as refusal:
            # The removal came first, and was done.
            raise KernelRefused(
                "reinstate peers that it has deleted", refusal.errno, "push the peers again (site.yml): some are gone"
            ) from None

    def forget_paths(self, addresses: Set[bytes]) -> None:
        paths.forget_paths(addresses)

    def become(self, private_key: PrivateKey, peer: Peer) -> None:
        (piece,) = messages.encode_peer(peer)
        with WireGuardSocket(self.name) as kernel:
            # The kernel removes the peers, takes the key and adds the peer, in this order (wg_set_device()).
            kernel.set("change its key", private_key=private_key, replace_peers=True, peers=piece)

    def flush(self) -> None:
        with WireGuardSocket(self.name) as kernel:
            kernel.set("remove all peers", replace_peers=True)

    def exclusive(self) -> AbstractContextManager[None]:
        return exclusive(self.name, self._lock)

    def _send(self, pieces: Iterable[bytes]) -> float:
        """Send encoded peers in as few messages as the lock allows; the longest one's seconds."""
        longest = 0.0
        limit = _FIRST_PIECES
        with WireGuardSocket(self.name) as kernel:

            def send(batch: list[bytes]) -> float:
                begin = time.perf_counter()
                kernel.set("change peers", peers=b"".join(batch))
                return time.perf_counter() - begin

            batch: list[bytes] = []
            size = 0
            for piece in pieces:
                if batch and (len(batch) >= limit or size + len(piece) > _LOCK_BYTES):
                    took = send(batch)
                    longest = max(longest, took)
                    # A clock may stand still for as long as one message takes.
                    limit = max(1, min(2 * limit, int(len(batch) * _LOCK_TARGET / max(took, _CLOCK_TICK))))
                    batch, size = [], 0
                batch.append(piece)
                size += len(piece)
            if batch:
                longest = max(longest, send(batch))
        return longest
