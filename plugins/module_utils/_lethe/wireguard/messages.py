# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard's generic netlink messages as bytes: packing and parsing, no socket.

Layout and constants: include/uapi/linux/wireguard.h, include/uapi/linux/netlink.h, genetlink.h. What
the kernel emits, and in which order: wg_get_device_dump() in drivers/net/wireguard/netlink.c.

Written by hand because a general encoder costs 40 to 200 times as much per peer. Two paths read a
peer: a fixed layout, checked per peer, for what every kernel so far sends on common hardware, and a
general walk over the attributes for everything else.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast

from .addresses import SOCKADDRS, AllowedIP, AllowedIPs, Endpoint
from .keys import KEY_BYTES, NO_PRESHARED_KEY, PresharedKey, PrivateKey, PublicKey
from .peers import DeviceSettings, Peer, PeerState

GENERIC_CONTROLLER = 0x10  # GENL_ID_CTRL
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
FAMILY_NAME = b"wireguard\0"  # WG_GENL_NAME
_CMD_GET_DEVICE, _CMD_SET_DEVICE = 0, 1
_GENL_VERSION = 1

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300

_NESTED = 0x8000  # NLA_F_NESTED
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK

# WGDEVICE_A_*
_DEVICE_IFNAME, _DEVICE_PRIVATE_KEY, _DEVICE_PUBLIC_KEY = 2, 3, 4
_DEVICE_FLAGS, _DEVICE_LISTEN_PORT, _DEVICE_FWMARK, _DEVICE_PEERS = 5, 6, 7, 8
_REPLACE_PEERS = 1  # WGDEVICE_F_REPLACE_PEERS

# WGPEER_A_*
_PEER_PUBLIC_KEY, _PEER_PRESHARED_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_KEEPALIVE = 1, 2, 3, 4, 5
_PEER_HANDSHAKE, _PEER_RX_BYTES, _PEER_TX_BYTES, _PEER_ALLOWED_IPS = 6, 7, 8, 9
_REMOVE_ME, _REPLACE_ALLOWED_IPS, _UPDATE_ONLY = 1, 2, 4  # WGPEER_F_*
_ALLOWED_IP_ADDRESS, _ALLOWED_IP_PREFIX = 2, 3  # WGALLOWEDIP_A_*

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_GENL_HEADER = struct.Struct("=BBH")  # struct genlmsghdr: command, version, reserved
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_PREFIX_BYTES = _HEADER.size + _GENL_HEADER.size
MESSAGE_BYTES = 0xFFFF  # a nest's length is a u16: the most that the peers of one message can take


class Message(NamedTuple):
    """One netlink message out of a datagram."""

    type: int
    flags: int
    sequence: int
    body: bytes  # what follows the header


def split(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram. Raises ValueError if one claims to be longer than what was received."""
    at, end = 0, len(datagram)
    while at + _HEADER.size <= end:
        length, kind, flags, sequence, _port = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > end:
            raise ValueError("netlink message with a wrong length")
        yield Message(kind, flags, sequence, datagram[at + _HEADER.size : at + length])
        at += (length + 3) & ~3


def error_of(body: bytes) -> int:
    """The errno in the body of an NLMSG_ERROR or NLMSG_DONE; 0 is an acknowledgement."""
    return -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0


# --- packing ------------------------------------------------------------------------------------------


def _attribute(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _request(family: int, flags: int, sequence: int, command: int, attributes: bytes) -> bytes:
    length = _PREFIX_BYTES + len(attributes)
    return (
        _HEADER.pack(length, family, NLM_F_REQUEST | flags, sequence, 0)
        + _GENL_HEADER.pack(command, _GENL_VERSION, 0)
        + attributes
    )


def get_family(sequence: int) -> bytes:
    """Asks the generic netlink controller for the id of the ``wireguard`` family."""
    name = _attribute(_CTRL_ATTR_FAMILY_NAME, FAMILY_NAME)
    return _request(GENERIC_CONTROLLER, 0, sequence, _CTRL_CMD_GETFAMILY, name)


def family_id(body: bytes) -> int:
    """The id in the controller's answer."""
    for kind, start, stop in _attributes(body, _GENL_HEADER.size, len(body)):
        if kind == _CTRL_ATTR_FAMILY_ID:
            return int.from_bytes(body[start:stop], sys.byteorder)
    raise ValueError("the generic netlink controller gave no family id")


def get_device(family: int, sequence: int, interface: str) -> bytes:
    """Asks for a dump of an interface and all its peers."""
    return _request(family, NLM_F_DUMP, sequence, _CMD_GET_DEVICE, _interface(interface))


def set_device(
    family: int,
    sequence: int,
    interface: str,
    *,
    private_key: PrivateKey | None = None,
    listen_port: int | None = None,
    fwmark: int | None = None,
    replace_peers: bool = False,
    peers: bytes = b"",
) -> bytes:
    """One WG_CMD_SET_DEVICE that wants an acknowledgement. ``peers``: encoded peers, at most
    MESSAGE_BYTES - 4 of them; the kernel works through them under one lock, in order.
    """
    attributes = [_interface(interface)]
    if replace_peers:
        attributes.append(_attribute(_DEVICE_FLAGS, struct.pack("=I", _REPLACE_PEERS)))
    if private_key is not None:
        attributes.append(_attribute(_DEVICE_PRIVATE_KEY, private_key))
    if listen_port is not None:
        attributes.append(_attribute(_DEVICE_LISTEN_PORT, struct.pack("=H", listen_port)))
    if fwmark is not None:
        attributes.append(_attribute(_DEVICE_FWMARK, struct.pack("=I", fwmark)))
    if peers:
        attributes.append(_attribute(_DEVICE_PEERS | _NESTED, peers))
    return _request(family, NLM_F_ACK, sequence, _CMD_SET_DEVICE, b"".join(attributes))


def _interface(name: str) -> bytes:
    return _attribute(_DEVICE_IFNAME, name.encode() + b"\0")


_PUBLIC_KEY_HEAD = _ATTRIBUTE.pack(36, _PEER_PUBLIC_KEY)
_PRESHARED_KEY_HEAD = _ATTRIBUTE.pack(36, _PEER_PRESHARED_KEY)
_FLAGS_HEAD = _ATTRIBUTE.pack(8, _PEER_FLAGS)
_KEEPALIVE = struct.Struct("=HHH2x")
_U32 = struct.Struct("=I")
_PEER_BYTES = 4 + 36 + 8  # of every peer that is sent: the nest's header, the public key, the flags
# Allowed IPs that still leave room for the rest of the peer and for its removal in the same message.
_ALLOWED_IPS_BYTES = MESSAGE_BYTES - 512


def _peer(public_key: PublicKey, flags: int, rest: bytes) -> bytes:
    head = _ATTRIBUTE.pack(_PEER_BYTES + len(rest), _NESTED)
    return b"".join((head, _PUBLIC_KEY_HEAD, public_key, _FLAGS_HEAD, _U32.pack(flags), rest))


# A whole peer without an endpoint, up to its allowed IPs: nearly every peer that is ever sent.
_WHOLE_PEER = struct.Struct("=HH 4s32s 4sI 4s32s HHH2x HH")


def encode_peer(peer: Peer) -> list[bytes]:
    """A whole peer: what it has of allowed IPs is replaced, all else set.

    More than one piece only if its allowed IPs do not fit into one message (more than about 1,600).
    """
    public_key, preshared_key, keepalive, allowed_ips, endpoint = peer
    size = len(allowed_ips)
    if endpoint is None and 0 < size <= _ALLOWED_IPS_BYTES:
        head = _WHOLE_PEER.pack(
            _WHOLE_PEER.size + size, _NESTED, _PUBLIC_KEY_HEAD, public_key, _FLAGS_HEAD, _REPLACE_ALLOWED_IPS,
            _PRESHARED_KEY_HEAD, preshared_key, 6, _PEER_KEEPALIVE, keepalive, 4 + size, _PEER_ALLOWED_IPS | _NESTED,
        )  # fmt: skip
        return [head + allowed_ips]
    first, further = _allowed_ips_pieces(allowed_ips)
    rest = _PRESHARED_KEY_HEAD + preshared_key
    if endpoint is not None:
        rest += _attribute(_PEER_ENDPOINT, endpoint)
    rest += _KEEPALIVE.pack(6, _PEER_KEEPALIVE, keepalive) + first
    pieces = [_peer(public_key, _REPLACE_ALLOWED_IPS, rest)]
    # Only if it is still there: a removal that came between must not be undone.
    pieces += [_peer(public_key, _UPDATE_ONLY, piece) for piece in further]
    return pieces


def encode_update(
    public_key: PublicKey,
    *,
    preshared_key: PresharedKey | None = None,
    persistent_keepalive: int | None = None,
    endpoint: Endpoint | None = None,
    allowed_ips: AllowedIPs | None = None,
    keep_other_allowed_ips: bool = False,
) -> list[bytes]:
    """What is given of an existing peer; nothing happens if it is gone by then."""
    rest = b""
    further: list[bytes] = []
    if preshared_key is not None:
        rest += _PRESHARED_KEY_HEAD + preshared_key
    if endpoint is not None:
        rest += _attribute(_PEER_ENDPOINT, endpoint)
    if persistent_keepalive is not None:
        rest += _KEEPALIVE.pack(6, _PEER_KEEPALIVE, persistent_keepalive)
    flags = _UPDATE_ONLY
    if allowed_ips is not None:
        first, further = _allowed_ips_pieces(allowed_ips)
        rest += first
        if not keep_other_allowed_ips:
            flags |= _REPLACE_ALLOWED_IPS
    return [_peer(public_key, flags, rest), *(_peer(public_key, _UPDATE_ONLY, piece) for piece in further)]


def encode_removal(public_key: PublicKey) -> bytes:
    return _peer(public_key, _REMOVE_ME, b"")


def encode_reinstatement(peer: Peer) -> list[bytes]:
    """Delete and reinstate: in one message the kernel does both under one lock, so there is no moment at
    which the peer is missing. The first piece holds both halves and must not be divided.
    """
    first, *further = encode_peer(peer)
    return [encode_removal(peer.public_key) + first, *further]


def _allowed_ips_pieces(allowed_ips: AllowedIPs) -> tuple[bytes, list[bytes]]:
    """The attribute with the allowed IPs, and those with what does not fit into it."""
    if not allowed_ips:
        return b"", []
    if len(allowed_ips) <= _ALLOWED_IPS_BYTES:
        return _ATTRIBUTE.pack(4 + len(allowed_ips), _PEER_ALLOWED_IPS | _NESTED) + allowed_ips, []
    pieces: list[bytes] = []
    current = bytearray()
    for nest in allowed_ips.nests():
        if len(current) + len(nest) > _ALLOWED_IPS_BYTES:
            pieces.append(_attribute(_PEER_ALLOWED_IPS | _NESTED, bytes(current)))
            current.clear()
        current += nest
    pieces.append(_attribute(_PEER_ALLOWED_IPS | _NESTED, bytes(current)))
    return pieces[0], pieces[1:]


# --- parsing ------------------------------------------------------------------------------------------

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
    return int(_U32.unpack(_ATTRIBUTE.pack(length, kind))[0])


_HEAD_WORDS = (
    _word(36, _PEER_PUBLIC_KEY),
    _word(36, _PEER_PRESHARED_KEY),
    _word(20, _PEER_HANDSHAKE),
    _word(6, _PEER_KEEPALIVE),
    _word(12, _PEER_TX_BYTES),
    _word(12, _PEER_RX_BYTES),
    _word(8, 10),  # WGPEER_A_PROTOCOL_VERSION
)
_TIMESPEC = struct.Struct("=qq")  # struct __kernel_timespec
_PEER_SIZES = {_PEER_PUBLIC_KEY: KEY_BYTES, _PEER_PRESHARED_KEY: KEY_BYTES, _PEER_HANDSHAKE: _TIMESPEC.size}
_CONTINUATION_BYTES = 4 + 36  # the nest's header and the public key: what comes before further allowed IPs
# How a nest of allowed IPs begins in the layout that AllowedIPs holds.
_ALLOWED_IP_HEADS = frozenset(AllowedIP(bytes(n), 0).kernel_bytes[:8] for n in (4, 16))


def _attributes(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(type, start, stop) of each attribute's payload between two offsets."""
    while start + 4 <= stop:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > stop:
            raise ValueError("netlink attribute with a wrong length")
        yield kind & _TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3


def device_settings(body: bytes) -> DeviceSettings:
    """The interface's own settings, from the first message of a dump. The private key is passed over."""
    values = {
        kind: body[start:stop]
        for kind, start, stop in _attributes(body, _GENL_HEADER.size, len(body))
        if kind in (_DEVICE_PUBLIC_KEY, _DEVICE_LISTEN_PORT, _DEVICE_FWMARK)
    }
    public_key = values.get(_DEVICE_PUBLIC_KEY)
    return DeviceSettings(
        public_key=PublicKey(public_key) if public_key else None,
        listen_port=int.from_bytes(values.get(_DEVICE_LISTEN_PORT, b""), sys.byteorder),
        fwmark=int.from_bytes(values.get(_DEVICE_FWMARK, b""), sys.byteorder),
    )


def peer_states(bodies: Iterable[bytes]) -> Iterator[PeerState]:
    """The peers in the messages of one dump, each whole."""
    return cast("Iterator[PeerState]", _states(bodies, lambda _body, _at, _length: False))


def differing_peer_states(bodies: Iterable[bytes], expected: dict[bytes, bytes]) -> Iterator[PeerState]:
    """As peer_states, but a peer that is as ``expected`` says (public key -> Configuration) is not given but
    taken out of it: to see that costs half of decoding.
    """

    def is_expected(body: bytes, at: int, length: int) -> bool:
        key = body[at + 8 : at + 40]
        wanted = expected.get(key)
        if wanted is None or not _is_configured(body, at, length, wanted):
            return False
        del expected[key]
        return True

    return (state for state in _states(bodies, is_expected) if state is not None)


def heard_peer_states(bodies: Iterable[bytes]) -> Iterator[PeerState | None]:
    """As peer_states, but None for a peer that was never heard from: no endpoint and no handshake. That is
    most of a fleet's peers on any one gateway, and to see it costs a quarter of decoding.
    """
    return _states(bodies, _is_unheard)


def _states(bodies: Iterable[bytes], passed_over: Callable[[bytes, int, int], bool]) -> Iterator[PeerState | None]:
    """Each peer whole, or None for one that ``passed_over`` (message, offset, length) says yes to. A peer that
    did not fit into one message goes on in the next as its public key and further allowed IPs, so the last
    one of a message is never passed over.
    """
    held: PeerState | None = None  # whole only when the next peer, or the end, has been seen
    for body in bodies:
        for kind, start, stop in _attributes(body, _GENL_HEADER.size, len(body)):
            if kind != _DEVICE_PEERS:
                continue
            for at, length in _nests(body, start, stop):
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


def _nests(body: bytes, at: int, stop: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of each peer, or piece of one, between two offsets."""
    while at + 4 <= stop:
        length, _kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _CONTINUATION_BYTES or at + length > stop:
            raise ValueError("netlink attribute with a wrong length")
        yield at, length
        at += (length + 3) & ~3


# Offsets in a peer at which its allowed IPs can stand: after each head, without and with an endpoint.
_ALLOWED_IPS_AT = frozenset(head.size + endpoint for head in _HEADS for endpoint in (0, 4 + 16, 4 + 28))
_KEEPALIVE_HEAD = _ATTRIBUTE.pack(6, _PEER_KEEPALIVE)


_NO_HANDSHAKE = _ATTRIBUTE.pack(20, _PEER_HANDSHAKE) + bytes(16)
_END_OF_HEAD = struct.pack("=HHI", 8, 10, 1)  # WGPEER_A_PROTOCOL_VERSION
_ALLOWED_IPS_TYPE = struct.pack("=H", _PEER_ALLOWED_IPS | _NESTED)


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
        and _ATTRIBUTE.unpack_from(body, start - 4) == (4 + size, _PEER_ALLOWED_IPS | _NESTED)
        and body.startswith(_PRESHARED_KEY_HEAD, at + 40)
        and body.startswith(_KEEPALIVE_HEAD, at + 96)
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
    if stop - at >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        if kind == _PEER_ENDPOINT:
            raw = body[at + 4 : at + size]
            if (len(raw), raw[:2]) not in SOCKADDRS:
                return None
            endpoint = _new_bytes(Endpoint, raw)
            at += size
            if stop - at >= _ATTRIBUTE.size:
                size, kind = _ATTRIBUTE.unpack_from(body, at)
        if at < stop:
            if kind & _TYPE_MASK != _PEER_ALLOWED_IPS or at + size != stop:
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
    for kind, start, stop in _attributes(body, at + 4, at + length):
        if kind == _PEER_ALLOWED_IPS:
            allowed_ips += [_any_allowed_ip(body, a, b) for _kind, a, b in _attributes(body, start, stop)]
        else:
            found[kind] = body[start:stop]
    found.setdefault(_PEER_PRESHARED_KEY, NO_PRESHARED_KEY)
    found.setdefault(_PEER_HANDSHAKE, bytes(_TIMESPEC.size))
    for kind, size in _PEER_SIZES.items():
        if len(found.get(kind, b"")) != size:
            raise ValueError("netlink attribute of a peer missing or of a wrong size")

    def number(kind: int) -> int:
        return int.from_bytes(found.get(kind, b""), sys.byteorder)

    endpoint = found.get(_PEER_ENDPOINT)
    if endpoint is not None and (len(endpoint), endpoint[:2]) not in SOCKADDRS:
        raise ValueError("an endpoint of an unknown kind")
    seconds, nanoseconds = _TIMESPEC.unpack(found[_PEER_HANDSHAKE])
    return PeerState(
        public_key=PublicKey(found[_PEER_PUBLIC_KEY]),
        preshared_key=PresharedKey(found[_PEER_PRESHARED_KEY]),
        persistent_keepalive=number(_PEER_KEEPALIVE),
        allowed_ips=AllowedIPs.of(allowed_ips),
        endpoint=Endpoint(endpoint) if endpoint else None,
        handshake=seconds * 1_000_000_000 + nanoseconds,
        received=number(_PEER_RX_BYTES),
        sent=number(_PEER_TX_BYTES),
    )


def _any_allowed_ip(body: bytes, start: int, stop: int) -> AllowedIP:
    address, prefix = b"", 0
    for kind, a, b in _attributes(body, start, stop):
        if kind == _ALLOWED_IP_ADDRESS:
            address = body[a:b]
        elif kind == _ALLOWED_IP_PREFIX:
            prefix = int.from_bytes(body[a:b], sys.byteorder)
    if len(address) not in (4, 16) or prefix > 8 * len(address):
        raise ValueError("an allowed IP that is none")
    return AllowedIP(address, prefix)
