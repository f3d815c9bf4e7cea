# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The peers in a dump's messages, as values.

What the kernel emits, and in which order: wg_get_device_dump() in drivers/net/wireguard/netlink.c. Three paths read
peers, each checked before it is taken: whole rows of peers of one shape, which is what a large fleet consists of; one
peer in a layout that kernels send; and a walk over the attributes for everything else.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import repeat
from operator import eq
from typing import Any, cast

from .addresses import SOCKADDRS, AllowedIP, AllowedIPs, Endpoint
from .keys import KEY_BYTES, NO_PRESHARED_KEY, PresharedKey, PublicKey
from .messages import (
    ALLOWED_IP_ADDRESS,
    ALLOWED_IP_PREFIX,
    ATTRIBUTE,
    DEVICE_PEERS,
    GENL_HEADER,
    KEEPALIVE_HEAD,
    NESTED,
    PEER_ALLOWED_IPS,
    PEER_ENDPOINT,
    PEER_HANDSHAKE,
    PEER_KEEPALIVE,
    PEER_PRESHARED_KEY,
    PEER_PUBLIC_KEY,
    PEER_RX_BYTES,
    PEER_TX_BYTES,
    PRESHARED_KEY_HEAD,
    TYPE_MASK,
    attributes_in,
)
from .peers import PeerState

# The head of a peer in a dump, up to where its shape begins to vary. The words between the values are the
# headers of the attributes, compared as a whole with _HEAD_WORDS. Where unaligned access is slow, the kernel
# puts an empty attribute before a counter that would not be aligned (nla_need_padding_for_64bit(),
# include/net/netlink.h): before both, or before the second.
_HEADS = (
    struct.Struct("=HH I32s I32s I qq I H2x I Q I Q II"),
    struct.Struct("=HH I32s I32s I qq I H2x 4xI Q 4xI Q II"),
    struct.Struct("=HH I32s I32s I qq I H2x I Q 4xI Q II"),
)


def _word(length: int, kind: int) -> int:
    return int.from_bytes(ATTRIBUTE.pack(length, kind), sys.byteorder)


_HEAD_WORDS = (
    _word(36, PEER_PUBLIC_KEY),
    _word(36, PEER_PRESHARED_KEY),
    _word(20, PEER_HANDSHAKE),
    _word(6, PEER_KEEPALIVE),
    _word(12, PEER_TX_BYTES),
    _word(12, PEER_RX_BYTES),
    _word(8, 10),  # WGPEER_A_PROTOCOL_VERSION
)
_TIMESPEC = struct.Struct("=qq")  # struct __kernel_timespec
_PEER_SIZES = {PEER_PUBLIC_KEY: KEY_BYTES, PEER_PRESHARED_KEY: KEY_BYTES, PEER_HANDSHAKE: _TIMESPEC.size}
_CONTINUATION_BYTES = 4 + 36  # the nest's header and the public key: what comes before further allowed IPs
# How a nest of allowed IPs begins in the layout that AllowedIPs holds.
_ALLOWED_IP_HEADS = frozenset(AllowedIP(bytes(n), 0).kernel_bytes[:8] for n in (4, 16))


# Reads a row of peers: (its bytes, the length of a peer) -> what there is to say of each.
ReadRow = Callable[[bytes, int], Iterable["PeerState | None"]]
# Whether nothing need be said of the peer at (message, offset, length).
PassedOver = Callable[[bytes, int, int], bool]


def peer_states(bodies: Iterable[bytes]) -> Iterator[PeerState]:
    """The peers in the messages of one dump, each whole."""
    return cast("Iterator[PeerState]", _states(bodies, _peers_of_row, lambda _body, _at, _length: False))


def differing_peer_states(bodies: Iterable[bytes], expected: dict[bytes, bytes]) -> Iterator[PeerState]:
    """As peer_states, but a peer that is as ``expected`` says (public key -> Configuration) is not given but
    taken out of it: to see that costs a third of decoding.
    """

    def differing_of_row(row: bytes, length: int) -> Iterable[PeerState]:
        keys, preshared_keys, keepalives, allowed_ips = zip(*_row_configurations(length).iter_unpack(row), strict=True)
        configurations = map(b"".join, zip(preshared_keys, keepalives, allowed_ips, strict=True))
        alike = list(map(eq, map(expected.get, keys), configurations))
        others = [] if all(alike) else [at for at, is_alike in enumerate(alike) if not is_alike]
        for key, is_alike in zip(keys, alike, strict=True):
            if is_alike:
                del expected[key]
        return (state for at in others for state in _peers_of_row(row[at * length : (at + 1) * length], length))

    def is_expected(body: bytes, at: int, length: int) -> bool:
        key = body[at + 8 : at + 40]
        wanted = expected.get(key)
        if wanted is None or not _is_configured(body, at, length, wanted):
            return False
        del expected[key]
        return True

    return (state for state in _states(bodies, differing_of_row, is_expected) if state is not None)


def heard_peer_states(bodies: Iterable[bytes]) -> Iterator[PeerState | None]:
    """As peer_states, but None for a peer that was never heard from: no endpoint and no handshake. That is
    most of a fleet's peers on any one gateway, and to see it costs a tenth of decoding.
    """

    def heard_of_row(row: bytes, length: int) -> Iterable[PeerState | None]:
        handshakes = list(_row_handshakes(length).iter_unpack(row))
        if handshakes.count(_NO_HANDSHAKES) == len(handshakes):
            return repeat(None, len(handshakes))
        return (state if state.handshake else None for state in _peers_of_row(row, length))

    return _states(bodies, heard_of_row, _is_unheard)


def _states(bodies: Iterable[bytes], read_row: ReadRow, passed_over: PassedOver) -> Iterator[PeerState | None]:
    """Each peer whole, or None for one that is passed over. A peer that did not fit into one message goes on in
    the next as its public key and further allowed IPs, so the last one of a message is never passed over, nor part of
    a row.
    """
    held: PeerState | None = None  # whole only when the next peer, or the end, has been seen
    for body in bodies:
        for kind, start, stop in attributes_in(body, GENL_HEADER.size, len(body)):
            if kind != DEVICE_PEERS:
                continue
            for at, length, count in _rows(body, start, stop):
                if count > 1:
                    if held is not None:  # whole: what would go on is in no row
                        yield held
                        held = None
                    yield from read_row(body[at : at + count * length], length)
                    continue
                if at + length < stop and passed_over(body, at, length):
                    yield None
                    continue
                state = _fixed_peer(body, at, length) or _any_peer(body, at, length)
                if held is not None:
                    if state.public_key == held.public_key:
                        held = held._replace(allowed_ips=AllowedIPs(held.allowed_ips + state.allowed_ips))
                        continue
                    yield held
                held = state
    if held is not None:
        yield held


# A row is peers of one length, one after the other, all in the layout of amd64 and arm64, without an endpoint and with
# as many bytes of allowed IPs. It is read by a few calls, whatever its length.
_ROW_HEAD = _HEADS[0].size + ATTRIBUTE.size  # bytes of a peer before its allowed IPs
_ROW_MINIMUM = 4  # peers: less is not worth it
_ALLOWED_IP_HEAD = 8  # bytes of an allowed IP that say of which family it is


def _rows(body: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(offset, length, number) of peers, or pieces of one, between two offsets: alone or as a row."""
    while at + 4 <= stop:
        length, _kind = ATTRIBUTE.unpack_from(body, at)
        if length < _CONTINUATION_BYTES or at + length > stop:
            raise ValueError("netlink attribute with a wrong length")
        step = (length + 3) & ~3
        count = 1
        if step == length > _ROW_HEAD + _ALLOWED_IP_HEAD:
            # As long as each begins with the same two bytes, its length, the next one does stand there.
            last = stop - 4
            count = max(1, min(_leading(body[at:last:step]), _leading(body[at + 1 : last : step]), (last - at) // step))
            if count < _ROW_MINIMUM or not _is_row(body[at : at + count * step], length):
                # Each alone, without another look from each: that would take time in proportion to the square.
                yield from zip(range(at, at + count * step, step), repeat(length), repeat(1))
                at += count * step
                continue
        yield at, length, count
        at += count * step


def _leading(column: bytes) -> int:
    """How many bytes at the beginning are the same."""
    return len(column) - len(column.lstrip(column[:1]))


@lru_cache
def _row_words(length: int) -> tuple[struct.Struct, tuple[Any, ...]]:
    """Where the headers of a row's peers stand, and what they must be, but for the first allowed IP's."""
    allowed_ips = length - _ROW_HEAD
    rest = allowed_ips - _ALLOWED_IP_HEAD
    layout = struct.Struct(f"=I I32x I32x I16x I4x I8x I8x II I{_ALLOWED_IP_HEAD}s{rest}x")
    return layout, (_word(length, NESTED), *_HEAD_WORDS, 1, _word(allowed_ips + 4, PEER_ALLOWED_IPS | NESTED))


@lru_cache
def _row_values(length: int) -> struct.Struct:
    return struct.Struct(f"=4x 4x32s 4x32s 4xqq 4xH2x 4xQ 4xQ 8x 4x{length - _ROW_HEAD}s")


@lru_cache
def _row_configurations(length: int) -> struct.Struct:
    """The public key, and the parts of a Configuration."""
    return struct.Struct(f"=4x 4x32s 4x32s 4x16x 4x2s2x 4x8x 4x8x 8x 4x{length - _ROW_HEAD}s")


@lru_cache
def _row_handshakes(length: int) -> struct.Struct:
    return struct.Struct(f"=80x16s{length - 96}x")


_NO_HANDSHAKES = (bytes(_TIMESPEC.size),)


def _is_row(row: bytes, length: int) -> bool:
    layout, expected = _row_words(length)
    words = list(layout.iter_unpack(row))
    first_ip = row[_ROW_HEAD : _ROW_HEAD + _ALLOWED_IP_HEAD]
    return first_ip in _ALLOWED_IP_HEADS and words.count((*expected, first_ip)) == len(words)


def _peers_of_row(row: bytes, length: int) -> list[PeerState]:
    # The constructors of the types check what the layout already guarantees; they would cost more than the rest.
    return [
        _new_tuple(
            PeerState,
            (
                _new_bytes(PublicKey, public_key),
                _new_bytes(PresharedKey, preshared_key),
                keepalive,
                _new_bytes(AllowedIPs, allowed_ips),
                None,
                seconds * 1_000_000_000 + nanoseconds,
                received,
                sent,
            ),
        )
        for public_key, preshared_key, seconds, nanoseconds, keepalive, sent, received, allowed_ips in _row_values(
            length
        ).iter_unpack(row)
    ]


# Offsets in a peer at which its allowed IPs can stand: after each head, without and with an endpoint.
_ALLOWED_IPS_AT = frozenset(head.size + endpoint for head in _HEADS for endpoint in (0, 4 + 16, 4 + 28))
_NO_HANDSHAKE = ATTRIBUTE.pack(20, PEER_HANDSHAKE) + bytes(16)
_END_OF_HEAD = struct.pack("=HHI", 8, 10, 1)  # WGPEER_A_PROTOCOL_VERSION
_ALLOWED_IPS_TYPE = struct.pack("=H", PEER_ALLOWED_IPS | NESTED)


def _is_unheard(body: bytes, at: int, length: int) -> bool:
    """Whether a peer in the first of the known layouts has neither endpoint nor handshake. False also if it
    cannot be told.
    """
    return (
        body.startswith(_NO_HANDSHAKE, at + 76)
        and body.startswith(_END_OF_HEAD, at + 128)
        and (length == 136 or body.startswith(_ALLOWED_IPS_TYPE, at + 138))
    )


def _is_configured(body: bytes, at: int, length: int, wanted: bytes) -> bool:
    """Whether a peer in a known layout has exactly this Configuration. False also if it cannot be told."""
    stop = at + length
    size = len(wanted) - 34
    start = stop - size
    return (
        start - 4 - at in _ALLOWED_IPS_AT
        and body[at + 44 : at + 76] + body[at + 100 : at + 102] + body[start:stop] == wanted
        and ATTRIBUTE.unpack_from(body, start - 4) == (4 + size, PEER_ALLOWED_IPS | NESTED)
        and body.startswith(PRESHARED_KEY_HEAD, at + 40)
        and body.startswith(KEEPALIVE_HEAD, at + 96)
    )


_new_bytes = bytes.__new__
_new_tuple = tuple.__new__


def _fixed_peer(body: bytes, at: int, length: int) -> PeerState | None:
    """A peer in one of the layouts that kernels send, or None if it is in another."""
    for head in _HEADS:
        if length < head.size:
            return None
        (
            _length, _kind, word1, public_key, word2, preshared_key, word3, seconds, nanoseconds,
            word4, keepalive, word5, sent, word6, received, word7, _version,
        ) = head.unpack_from(body, at)  # fmt: skip
        if (word1, word2, word3, word4, word5, word6, word7) == _HEAD_WORDS:
            break
    else:
        return None
    stop = at + length
    at += head.size
    endpoint = None
    allowed_ips = b""
    if stop - at >= ATTRIBUTE.size:
        size, kind = ATTRIBUTE.unpack_from(body, at)
        if kind == PEER_ENDPOINT:
            raw = body[at + 4 : at + size]
            if (len(raw), raw[:2]) not in SOCKADDRS:
                return None
            endpoint = _new_bytes(Endpoint, raw)
            at += size
            if stop - at >= ATTRIBUTE.size:
                size, kind = ATTRIBUTE.unpack_from(body, at)
        if at < stop:
            if kind & TYPE_MASK != PEER_ALLOWED_IPS or at + size != stop:
                return None
            allowed_ips = body[at + 4 : stop]
            if allowed_ips and allowed_ips[:8] not in _ALLOWED_IP_HEADS:
                return None
    # The constructors of the types check what the layout already guarantees; they would cost more than the rest.
    return _new_tuple(
        PeerState,
        (
            _new_bytes(PublicKey, public_key),
            _new_bytes(PresharedKey, preshared_key),
            keepalive,
            _new_bytes(AllowedIPs, allowed_ips),
            endpoint,
            seconds * 1_000_000_000 + nanoseconds,
            received,
            sent,
        ),
    )


def _any_peer(body: bytes, at: int, length: int) -> PeerState:
    """A peer in any order of attributes, with padding, or only the continuation of one.

    Raises ValueError if what is there is not that of a peer.
    """
    found: dict[int, bytes] = {}
    allowed_ips: list[AllowedIP] = []
    for kind, start, stop in attributes_in(body, at + 4, at + length):
        if kind == PEER_ALLOWED_IPS:
            allowed_ips += [_any_allowed_ip(body, a, b) for _kind, a, b in attributes_in(body, start, stop)]
        else:
            found[kind] = body[start:stop]
    found.setdefault(PEER_PRESHARED_KEY, NO_PRESHARED_KEY)
    found.setdefault(PEER_HANDSHAKE, bytes(_TIMESPEC.size))
    for kind, size in _PEER_SIZES.items():
        if len(found.get(kind, b"")) != size:
            raise ValueError("netlink attribute of a peer missing or of a wrong size")

    def number(kind: int) -> int:
        return int.from_bytes(found.get(kind, b""), sys.byteorder)

    endpoint = found.get(PEER_ENDPOINT)
    if endpoint is not None and (len(endpoint), endpoint[:2]) not in SOCKADDRS:
        raise ValueError("an endpoint of an unknown kind")
    seconds, nanoseconds = _TIMESPEC.unpack(found[PEER_HANDSHAKE])
    return PeerState(
        public_key=PublicKey(found[PEER_PUBLIC_KEY]),
        preshared_key=PresharedKey(found[PEER_PRESHARED_KEY]),
        persistent_keepalive=number(PEER_KEEPALIVE),
        allowed_ips=AllowedIPs.of(allowed_ips),
        endpoint=Endpoint(endpoint) if endpoint else None,
        handshake=seconds * 1_000_000_000 + nanoseconds,
        received=number(PEER_RX_BYTES),
        sent=number(PEER_TX_BYTES),
    )


def _any_allowed_ip(body: bytes, start: int, stop: int) -> AllowedIP:
    address, prefix = b"", 0
    for kind, a, b in attributes_in(body, start, stop):
        if kind == ALLOWED_IP_ADDRESS:
            address = body[a:b]
        elif kind == ALLOWED_IP_PREFIX:
            prefix = int.from_bytes(body[a:b], sys.byteorder)
    if len(address) not in (4, 16) or prefix > 8 * len(address):
        raise ValueError("an allowed IP that is none")
    return AllowedIP(address, prefix)
