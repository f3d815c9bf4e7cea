# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard's generic netlink messages as bytes: packing and parsing, no socket.

Layout and constants: include/uapi/linux/wireguard.h, include/uapi/linux/netlink.h, genetlink.h. Written by hand
because a general encoder costs 40 to 200 times as much per peer. The peers of a dump are read in dumps.py.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, starmap
from typing import NamedTuple

from .addresses import AllowedIPs, Endpoint
from .keys import KEY_BYTES, PresharedKey, PrivateKey, PublicKey
from .peers import ConfiguredPeersInOrder, DeviceSettings, Peer

GENERIC_CONTROLLER = 0x10  # GENL_ID_CTRL
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
FAMILY_NAME = b"wireguard\0"  # WG_GENL_NAME
_CMD_GET_DEVICE, _CMD_SET_DEVICE = 0, 1
_GENL_VERSION = 1

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300

NESTED = 0x8000  # NLA_F_NESTED
TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK

# WGDEVICE_A_*
_DEVICE_IFNAME, _DEVICE_PRIVATE_KEY, _DEVICE_PUBLIC_KEY = 2, 3, 4
_DEVICE_FLAGS, _DEVICE_LISTEN_PORT, _DEVICE_FWMARK, DEVICE_PEERS = 5, 6, 7, 8
_REPLACE_PEERS = 1  # WGDEVICE_F_REPLACE_PEERS

# WGPEER_A_*
PEER_PUBLIC_KEY, PEER_PRESHARED_KEY, _PEER_FLAGS, PEER_ENDPOINT, PEER_KEEPALIVE = 1, 2, 3, 4, 5
PEER_HANDSHAKE, PEER_RX_BYTES, PEER_TX_BYTES, PEER_ALLOWED_IPS = 6, 7, 8, 9
_REMOVE_ME, _REPLACE_ALLOWED_IPS, _UPDATE_ONLY = 1, 2, 4  # WGPEER_F_*
ALLOWED_IP_ADDRESS, ALLOWED_IP_PREFIX = 2, 3  # WGALLOWEDIP_A_*

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
GENL_HEADER = struct.Struct("=BBH")  # struct genlmsghdr: command, version, reserved
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_PREFIX_BYTES = _HEADER.size + GENL_HEADER.size
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
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _request(family: int, flags: int, sequence: int, command: int, attributes: bytes) -> bytes:
    length = _PREFIX_BYTES + len(attributes)
    return (
        _HEADER.pack(length, family, NLM_F_REQUEST | flags, sequence, 0)
        + GENL_HEADER.pack(command, _GENL_VERSION, 0)
        + attributes
    )


def get_family(sequence: int) -> bytes:
    """Asks the generic netlink controller for the id of the ``wireguard`` family."""
    name = _attribute(_CTRL_ATTR_FAMILY_NAME, FAMILY_NAME)
    return _request(GENERIC_CONTROLLER, 0, sequence, _CTRL_CMD_GETFAMILY, name)


def family_id(body: bytes) -> int:
    """The id in the controller's answer."""
    for kind, start, stop in attributes_in(body, GENL_HEADER.size, len(body)):
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
        attributes.append(_attribute(DEVICE_PEERS | NESTED, peers))
    return _request(family, NLM_F_ACK, sequence, _CMD_SET_DEVICE, b"".join(attributes))


def _interface(name: str) -> bytes:
    return _attribute(_DEVICE_IFNAME, name.encode() + b"\0")


_PUBLIC_KEY_HEAD = ATTRIBUTE.pack(36, PEER_PUBLIC_KEY)
PRESHARED_KEY_HEAD = ATTRIBUTE.pack(36, PEER_PRESHARED_KEY)
_FLAGS_HEAD = ATTRIBUTE.pack(8, _PEER_FLAGS)
_KEEPALIVE = struct.Struct("=HHH2x")
KEEPALIVE_HEAD = ATTRIBUTE.pack(6, PEER_KEEPALIVE)
_U32 = struct.Struct("=I")
_PEER_BYTES = 4 + 36 + 8  # of every peer that is sent: the nest's header, the public key, the flags
# Allowed IPs that still leave room for the rest of the peer and for its removal in the same message.
_ALLOWED_IPS_BYTES = MESSAGE_BYTES - 512


def _peer(public_key: PublicKey, flags: int, rest: bytes) -> bytes:
    head = ATTRIBUTE.pack(_PEER_BYTES + len(rest), NESTED)
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
            _WHOLE_PEER.size + size, NESTED, _PUBLIC_KEY_HEAD, public_key, _FLAGS_HEAD, _REPLACE_ALLOWED_IPS,
            PRESHARED_KEY_HEAD, preshared_key, 6, PEER_KEEPALIVE, keepalive, 4 + size, PEER_ALLOWED_IPS | NESTED,
        )  # fmt: skip
        return [head + allowed_ips]
    first, further = _allowed_ips_pieces(allowed_ips)
    rest = PRESHARED_KEY_HEAD + preshared_key
    if endpoint is not None:
        rest += _attribute(PEER_ENDPOINT, endpoint)
    rest += _KEEPALIVE.pack(6, PEER_KEEPALIVE, keepalive) + first
    pieces = [_peer(public_key, _REPLACE_ALLOWED_IPS, rest)]
    # Only if it is still there: a removal that came between must not be undone.
    pieces += [_peer(public_key, _UPDATE_ONLY, piece) for piece in further]
    return pieces


def encode_peers(peers: Iterable[Peer]) -> Iterator[bytes]:
    """The pieces of whole peers, as encode_peer; of those that are not made yet, without making them."""
    if isinstance(peers, ConfiguredPeersInOrder):
        return starmap(_encode_configured, peers.configurations)
    return chain.from_iterable(map(encode_peer, peers))


def _encode_configured(public_key: bytes, configuration: bytes) -> bytes:
    """As encode_peer, of a peer that fits into one message."""
    head, middle, tail = _heads_of_configured(len(configuration))
    return b"".join(
        (head, public_key, middle, configuration[:32], KEEPALIVE_HEAD, configuration[32:34], tail, configuration[34:])
    )


@lru_cache
def _heads_of_configured(size: int) -> tuple[bytes, bytes, bytes]:
    """What stands before the public key, before the preshared key, and before the allowed IPs."""
    allowed_ips = size - 34
    return (
        ATTRIBUTE.pack(_WHOLE_PEER.size + allowed_ips, NESTED) + _PUBLIC_KEY_HEAD,
        _FLAGS_HEAD + _U32.pack(_REPLACE_ALLOWED_IPS) + PRESHARED_KEY_HEAD,
        bytes(2) + ATTRIBUTE.pack(4 + allowed_ips, PEER_ALLOWED_IPS | NESTED),
    )


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
        rest += PRESHARED_KEY_HEAD + preshared_key
    if endpoint is not None:
        rest += _attribute(PEER_ENDPOINT, endpoint)
    if persistent_keepalive is not None:
        rest += _KEEPALIVE.pack(6, PEER_KEEPALIVE, persistent_keepalive)
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
        return ATTRIBUTE.pack(4 + len(allowed_ips), PEER_ALLOWED_IPS | NESTED) + allowed_ips, []
    pieces: list[bytes] = []
    current = bytearray()
    for nest in allowed_ips.nests():
        if len(current) + len(nest) > _ALLOWED_IPS_BYTES:
            pieces.append(_attribute(PEER_ALLOWED_IPS | NESTED, bytes(current)))
            current.clear()
        current += nest
    pieces.append(_attribute(PEER_ALLOWED_IPS | NESTED, bytes(current)))
    return pieces[0], pieces[1:]


# --- parsing ------------------------------------------------------------------------------------------


def attributes_in(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(type, start, stop) of each attribute's payload between two offsets."""
    while start + 4 <= stop:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > stop:
            raise ValueError("netlink attribute with a wrong length")
        yield kind & TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3


def device_settings(body: bytes) -> DeviceSettings:
    """The interface's own settings, from the first message of a dump. The private key is passed over.

    Raises ValueError if what is there is not that of an interface.
    """
    values = {
        kind: body[start:stop]
        for kind, start, stop in attributes_in(body, GENL_HEADER.size, len(body))
        if kind in (_DEVICE_PUBLIC_KEY, _DEVICE_LISTEN_PORT, _DEVICE_FWMARK)
    }
    public_key = values.get(_DEVICE_PUBLIC_KEY)
    if public_key and len(public_key) != KEY_BYTES:
        raise ValueError("netlink attribute of an interface with a wrong size")
    return DeviceSettings(
        public_key=PublicKey(public_key) if public_key else None,
        listen_port=int.from_bytes(values.get(_DEVICE_LISTEN_PORT, b""), sys.byteorder),
        fwmark=int.from_bytes(values.get(_DEVICE_FWMARK, b""), sys.byteorder),
    )
