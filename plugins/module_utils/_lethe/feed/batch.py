# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batch: what leads from one revision to a later one. A signed document:

    16 bytes  epoch
    8 bytes   the revision that it follows
    8 bytes   the revision that it leads to
    8 bytes   when it was made, milliseconds since 1970
    4 bytes   number of records
    records   1 byte: 0x80 for a key that is removed, else what the record has as in packed peers (wireguard/packed.py);
              then the public key, and what was said

Integers are in network byte order. A key has one record at most, its last state; one that came and went within the
batch, or has gone since it, need not be there. Removals come first: an address may move. A batch that leads
nowhere and has no records is a heartbeat.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..wireguard import packed
from ..wireguard.errors import InvalidValue
from ..wireguard.keys import KEY_BYTES, PublicKey
from ..wireguard.peers import Peer
from .errors import DocumentRefused, cut_off
from .position import EPOCH_BYTES, LARGEST_REVISION, Position
from .signing import Signer, VerifyKeys

MAGIC = b"LETHEBT1"
MOST_CHANGES = 5000
"""From which a batch is made: it stays well under events.LARGEST."""

_HEADER = struct.Struct(f">{EPOCH_BYTES}sQQQI")
_REMOVED = 0x80
_WHAT = "the batch"


class Draft(NamedTuple):
    """A batch that is to be signed. Its peers are records: the registry has no need of them otherwise."""

    after: Position  # that a reader must have applied
    position: Position  # that it then has, of the same epoch
    made: int  # milliseconds since 1970
    removed: Sequence[bytes]  # public keys
    records: Sequence[tuple[int, bytes]]  # as packed.record gives them


class Batch(NamedTuple):
    """One that was read."""

    epoch: str
    after: int  # the revision that a reader must have applied
    revision: int  # the revision that it then has
    made: int  # milliseconds since 1970
    removed: tuple[PublicKey, ...]  # applied first
    peers: tuple[Peer, ...]  # added, or changed to this

    @property
    def position(self) -> Position:
        """Where a reader stands once it has applied the batch."""
        return Position(self.epoch, self.revision)

    @property
    def is_heartbeat(self) -> bool:
        return self.after == self.revision


def encode(draft: Draft, signer: Signer) -> bytes:
    epoch, revision = draft.position
    count = len(draft.removed) + len(draft.records)
    parts = [_HEADER.pack(bytes.fromhex(epoch), draft.after.revision, revision, draft.made, count)]
    parts += [bytes([_REMOVED]) + key for key in draft.removed]
    parts += [bytes([has]) + record for has, record in draft.records]
    return signer.sealed(MAGIC, b"".join(parts))


def decode(document: bytes, keys: VerifyKeys) -> Batch:
    """Raises NotGenuine and DocumentRefused."""
    content = keys.content(MAGIC, document, _WHAT)
    if len(content) < _HEADER.size:
        raise cut_off(_WHAT)
    epoch, after, revision, made, count = _HEADER.unpack_from(content)
    at = _HEADER.size
    removed: list[PublicKey] = []
    peers: list[Peer] = []
    for dummy in range(count):
        if at >= len(content):
            raise cut_off(_WHAT)
        has = content[at]
        at += 1
        try:
            size = KEY_BYTES if has == _REMOVED else packed.record_bytes(has)
            if len(content) - at < size:
                raise cut_off(_WHAT)
            record = bytes(content[at : at + size])
            if has == _REMOVED:
                removed.append(PublicKey(record))
            else:
                peers.append(packed.peer_of(has, record))
        except InvalidValue:
            raise cut_off(_WHAT) from None
        at += size
    if at != len(content) or not after <= revision <= LARGEST_REVISION or (after == revision and count):
        raise cut_off(_WHAT)
    if len({*removed, *(peer.public_key for peer in peers)}) != count:
        raise DocumentRefused(_WHAT, "has a public key twice", "use one version of Lethe on all hosts")
    addresses = [ip for peer in peers for ip in peer.allowed_ips.ips()]
    if len(set(addresses)) != len(addresses):
        raise DocumentRefused(_WHAT, "has an address twice", "use one version of Lethe on all hosts")
    return Batch(epoch.hex(), after, revision, made, tuple(removed), tuple(peers))
