# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshot: all peers that gateways should have, at one position in the registry's history. A signed document:

    16 bytes  epoch
    8 bytes   revision
    8 bytes   when it was made, milliseconds since 1970
    4 bytes   number of blocks
    blocks    length (8 bytes), then a file of packed peers (wireguard/packed.py): one for each shape of record

Integers are in network byte order. A million peers are 52 MB, and are compared with a kernel's as they are.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from .errors import cut_off
from .position import EPOCH_BYTES, LARGEST_REVISION, Position
from .signing import Signer, VerifyKeys

MAGIC = b"LETHESN1"
MEDIA_TYPE = "application/vnd.lethe.snapshot"
_HEADER = struct.Struct(f">{EPOCH_BYTES}sQQI")
_LENGTH = struct.Struct(">Q")
_WHAT = "the snapshot"


class Snapshot(NamedTuple):
    position: Position
    made: int  # milliseconds since 1970
    blocks: tuple[bytes, ...]  # for PackedPeers; a public key may be in one only


def encode(snapshot: Snapshot, signer: Signer) -> bytes:
    position = snapshot.position
    parts = [
        _HEADER.pack(bytes.fromhex(position.epoch), position.revision, snapshot.made, len(snapshot.blocks)),
        *(part for block in snapshot.blocks for part in (_LENGTH.pack(len(block)), block)),
    ]
    return signer.sealed(MAGIC, b"".join(parts))


def decode(document: bytes, keys: VerifyKeys) -> Snapshot:
    """Raises NotGenuine and DocumentRefused."""
    content = keys.content(MAGIC, document, _WHAT)
    if len(content) < _HEADER.size:
        raise cut_off(_WHAT)
    epoch, revision, made, count = _HEADER.unpack_from(content)
    at = _HEADER.size
    blocks = []
    for dummy in range(count):
        if len(content) - at < _LENGTH.size:
            raise cut_off(_WHAT)
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        if len(content) - at < length:
            raise cut_off(_WHAT)
        blocks.append(bytes(content[at : at + length]))
        at += length
    if at != len(content) or revision > LARGEST_REVISION:
        raise cut_off(_WHAT)
    return Snapshot(Position(epoch.hex(), revision), made, tuple(blocks))
