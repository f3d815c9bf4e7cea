# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry as an agent sees it: signed snapshots and batches of peers that tests make up."""

from __future__ import annotations

import time
from collections.abc import Iterable

from device_contract import ips
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import batch as batches
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import snapshot as snapshots
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.batch import Draft
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.signing import Signer, SigningKey, VerifyKeys
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.snapshot import Snapshot
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.packed import pack, record
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer

SIGNING = SigningKey(bytes(range(32)))
KEYS = VerifyKeys([SIGNING.verify_key()])
STRANGER = Signer(SigningKey(bytes(range(1, 33))))
EPOCH, LATER_EPOCH = f"{1:08x}" + "5e" * 12, f"{2:08x}" + "00" * 12


def name(number: int) -> PublicKey:
    return PublicKey.from_text(key(number))


def peer(number: int, address: int | None = None, *, preshared: bool = False) -> Peer:
    """Always the same for a number; with another one's ``address`` if that is given."""
    host = number if address is None else address
    secret = PresharedKey.from_text(key(number, "preshared")) if preshared else NO_PRESHARED_KEY
    hosts = ips(f"10.{64 + (host >> 16)}.{host >> 8 & 255}.{host & 255}/32", f"fd00::{host + 1:x}/128")
    return Peer(name(number), secret, 0, hosts)


class SignedRegistry:
    """Peers, a revision for every change, and all that was ever signed."""

    def __init__(self, peers: Iterable[Peer] = (), *, epoch: str = EPOCH) -> None:
        self.signer = Signer(SIGNING)
        self.epoch = epoch
        self.peers: dict[PublicKey, Peer] = {each.public_key: each for each in peers}
        self.revision = len(self.peers)
        self._beats = 0

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.revision)

    def change(self, *, removed: Iterable[PublicKey] = (), peers: Iterable[Peer] = ()) -> bytes:
        """The batch of these changes, which are made."""
        removed, peers = tuple(removed), tuple(peers)
        after = self.revision
        self.revision += len(removed) + len(peers)
        for one in removed:
            self.peers.pop(one, None)
        self.peers |= {each.public_key: each for each in peers}
        return self.batch(after, removed, peers)

    def batch(
        self, after: int, removed: Iterable[PublicKey] = (), peers: Iterable[Peer] = (), signer: Signer | None = None
    ) -> bytes:
        """From a revision to the present one."""
        records = [record(each, "peer") for each in peers]
        made = Draft(Position(self.epoch, after), self.position, self._now(), tuple(removed), records)
        return batches.encode(made, signer or self.signer)

    def heartbeat(self) -> bytes:
        return self.batch(self.revision)

    def snapshot(self, signer: Signer | None = None) -> bytes:
        shapes: dict[bool, dict[PublicKey, Peer]] = {}
        for each in self.peers.values():
            shapes.setdefault(each.preshared_key != NO_PRESHARED_KEY, {})[each.public_key] = each
        blocks = tuple(pack(alike) for alike in shapes.values())
        return snapshots.encode(Snapshot(self.position, self._now(), blocks), signer or self.signer)

    def begin_epoch(self) -> None:
        self.epoch = f"{int(self.epoch[:8], 16) + 1:08x}" + self.epoch[8:]

    def _now(self) -> int:
        """Milliseconds since 1970; never the same twice."""
        self._beats += 1
        return int(time.time() * 1000) + self._beats
