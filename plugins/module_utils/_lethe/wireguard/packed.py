# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packed peers: the file for fleets so large that reading text would cost more than comparing with the kernel.

A header and records of one fixed size, in network byte order:

    8 bytes   magic: LETHEPP1
    4 bytes   what each record has, in this order: bit 0 a preshared key, bit 1 an IPv4, bit 2 an IPv6 address
    4 bytes   number of records
    records   public key (32), then as said: preshared key (32), IPv4 address (4), IPv6 address (16)

Addresses are single ones; peers of any other shape (networks, keepalives, endpoints) need the text form
(inventory.py). A file of another length than its header says is refused: it was cut off.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, repeat
from typing import NamedTuple

from .addresses import AllowedIP
from .errors import InvalidValue
from .keys import KEY_BYTES, NO_PRESHARED_KEY, PublicKey
from .peers import Peer, configured_peer

MAGIC = b"LETHEPP1"
_HEADER = struct.Struct(">8sII")
PRESHARED_KEY, IPV4, IPV6 = 1, 2, 4
_ALL = PRESHARED_KEY | IPV4 | IPV6


class _Part(NamedTuple):
    """One optional part of a record."""

    bit: int
    size: int  # bytes
    before: bytes  # what stands before it in a peer's configuration
    otherwise: bytes  # what stands in its place where it is missing


# A configuration (peers.py) is the preshared key, the keepalive, the allowed IPs.
_PARTS = (
    _Part(PRESHARED_KEY, KEY_BYTES, b"", NO_PRESHARED_KEY),
    _Part(IPV4, 4, AllowedIP(bytes(4), 32).kernel_bytes[:-4], b""),
    _Part(IPV6, 16, AllowedIP(bytes(16), 128).kernel_bytes[:-16], b""),
)
_NO_KEEPALIVE = bytes(2)


class ConfiguredPeers(Mapping[PublicKey, Peer]):
    """Peers of single addresses, as what the kernel reports of them. Each becomes a Peer only when it is asked
    for: most of them never are, because the kernel has them already.
    """

    def __init__(self, configurations: dict[bytes, bytes]) -> None:
        self.configurations = configurations
        """Public key -> what the kernel reports of the peer when it is as it should be."""

    def __len__(self) -> int:
        return len(self.configurations)

    def __iter__(self) -> Iterator[PublicKey]:
        return map(PublicKey, self.configurations)

    def __contains__(self, public_key: object) -> bool:
        return public_key in self.configurations

    def __getitem__(self, public_key: PublicKey) -> Peer:
        return configured_peer(public_key, self.configurations[public_key])

    def among(self, raw_keys: Iterable[bytes]) -> dict[PublicKey, Peer]:
        """The peers of these public keys."""
        peers = (configured_peer(raw, self.configurations[raw]) for raw in raw_keys)
        return {peer.public_key: peer for peer in peers}


class PackedPeers(ConfiguredPeers):
    """The peers of a packed file."""

    def __init__(self, content: bytes, field: str = "file") -> None:
        """Raises InvalidValue, which names ``field`` and shows nothing of the content."""
        if len(content) < _HEADER.size or not content.startswith(MAGIC):
            raise InvalidValue(field, "is not a file of packed peers", "write it with: lethe pack")
        _magic, has, count = _HEADER.unpack_from(content)
        parts = [part for part in _PARTS if has & part.bit]
        size = KEY_BYTES + sum(part.size for part in parts)
        if has & ~_ALL or len(content) != _HEADER.size + count * size:
            raise InvalidValue(field, "has another length than its header says", "copy it again: it was cut off")
        records = memoryview(content)[_HEADER.size :]
        # Column by column, each as it is used: all values at once would take far more memory than what is kept.
        starts = dict(zip(parts, accumulate((part.size for part in parts), initial=KEY_BYTES), strict=False))

        def column(start: int, length: int) -> Iterator[bytes]:
            layout = struct.Struct(f"{start}x{length}s{size - start - length}x")
            return chain.from_iterable(layout.iter_unpack(records))

        given = {part: column(start, part.size) for part, start in starts.items()}
        super().__init__(dict(zip(column(0, KEY_BYTES), _configurations(given), strict=False)))
        if len(self.configurations) != count:
            raise InvalidValue(field, "has a public key twice", "list each peer once")
        for part, start in starts.items():
            if part.bit != PRESHARED_KEY and len(set(column(start, part.size))) != count:
                raise InvalidValue(field, "has an address twice", "give each address to one peer")


def _configurations(given: Mapping[_Part, Iterator[bytes]]) -> Iterator[bytes]:
    """Each record's configuration: constants and columns, put side by side; endless where there are no columns."""
    pieces: list[bytes | Iterator[bytes]] = []
    for part in _PARTS:
        if part in given:
            pieces += [part.before, given[part]]
        else:
            pieces.append(part.otherwise)
        if part.bit == PRESHARED_KEY:
            pieces.append(_NO_KEEPALIVE)
    merged: list[bytes | Iterator[bytes]] = []
    for piece in pieces:
        if isinstance(piece, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += piece
        else:
            merged.append(piece)
    return map(b"".join, zip(*(repeat(piece) if isinstance(piece, bytes) else piece for piece in merged), strict=False))


def pack(peers: Mapping[PublicKey, Peer]) -> bytes:
    """The packed form of peers. Raises InvalidValue, which names the position of one that does not fit."""
    has = 0
    records = []
    for i, peer in enumerate(peers.values()):
        shape, data = record(peer, f"peers[{i}]")
        if i == 0:
            has = shape
        if shape != has:
            raise InvalidValue(
                f"peers[{i}]", "does not have the shape of the first", "use the text form for mixed fleets"
            )
        records.append(data)
    return pack_records(has, records)


def pack_records(has: int, records: Sequence[bytes]) -> bytes:
    """The packed form of peers that are records of one shape already."""
    return _HEADER.pack(MAGIC, has, len(records)) + b"".join(records)


def record(peer: Peer, field: str) -> tuple[int, bytes]:
    """What a peer's record has, and the record. Raises InvalidValue, which names ``field``, if it does not fit."""
    ips = {len(ip.address): ip for ip in peer.allowed_ips.ips()}
    row = {
        PRESHARED_KEY: bytes(peer.preshared_key) if peer.preshared_key != NO_PRESHARED_KEY else None,
        IPV4: ips[4].address if 4 in ips else None,
        IPV6: ips[16].address if 16 in ips else None,
    }
    hosts = all(ip.prefix == 8 * size for size, ip in ips.items())
    if not hosts or peer.persistent_keepalive or peer.endpoint or len(ips) != len(peer.allowed_ips.nests()):
        raise InvalidValue(
            field,
            "has more than a preshared key and one single address of each family",
            "use the text form for such peers",
        )
    has = sum(bit for bit, value in row.items() if value is not None)
    return has, bytes(peer.public_key) + b"".join(value for value in row.values() if value is not None)


def record_bytes(has: int) -> int:
    """The size of a record. Raises InvalidValue for parts that are not known."""
    if has & ~_ALL:
        raise InvalidValue("record", "has parts that are not known", "use one version of Lethe on all hosts")
    return KEY_BYTES + sum(part.size for part in _PARTS if has & part.bit)


def peer_of(has: int, data: bytes) -> Peer:
    """The peer of a record, which has the right size."""
    public_key = PublicKey(data[:KEY_BYTES])
    at = KEY_BYTES
    given: dict[_Part, Iterator[bytes]] = {}
    for part in _PARTS:
        if has & part.bit:
            given[part] = iter((data[at : at + part.size],))
            at += part.size
    return configured_peer(public_key, next(_configurations(given)))
