# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink attributes read and written the slow and plain way: what the package's own codec is compared with.

Shares nothing with it. The numbers are those of include/uapi/linux/wireguard.h.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Any, NamedTuple

PEER_FIELDS = {
    1: "public_key", 2: "preshared_key", 3: "flags", 4: "endpoint", 5: "keepalive", 6: "handshake",
    7: "received", 8: "sent", 9: "allowed_ips", 10: "version",
}  # fmt: skip
DEVICE_FIELDS = {
    1: "ifindex", 2: "ifname", 3: "private_key", 4: "public_key", 5: "flags", 6: "listen_port", 7: "fwmark",
    8: "peers",
}  # fmt: skip
GENL_HEADER = struct.pack("=BBH", 0, 1, 0)
NESTED = 0x8000
UNKNOWN = 57  # an attribute that no kernel has yet


class Request(NamedTuple):
    """A message to the kernel, taken apart."""

    length: int
    type: int
    flags: int
    sequence: int
    command: int
    version: int
    device: dict[str, Any]


def attributes(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        length, kind = struct.unpack_from("=HH", data)
        assert 4 <= length <= len(data), "an attribute's length"
        found.append((kind & 0x3FFF, data[4:length]))
        data = data[length + -length % 4 :]
    return found


def _peer(data: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {PEER_FIELDS[kind]: payload for kind, payload in attributes(data)}
    for name, layout in (("flags", "=I"), ("keepalive", "=H")):
        if name in fields:
            (fields[name],) = struct.unpack(layout, fields[name])
    if "allowed_ips" in fields:
        fields["allowed_ips"] = [_allowed_ip(payload) for _, payload in attributes(fields["allowed_ips"])]
    return fields


def _allowed_ip(data: bytes) -> str:
    fields = dict(attributes(data))
    assert struct.unpack("=H", fields[1])[0] == {4: 2, 16: 10}[len(fields[2])], "the family fits the address"
    return str(ip_network((fields[2], fields[3][0])))


def peers_of(data: bytes) -> list[dict[str, Any]]:
    """Encoded peers, one after the other."""
    return [_peer(payload) for _, payload in attributes(data)]


def request(data: bytes) -> Request:
    length, kind, flags, sequence, port, command, version, reserved = struct.unpack_from("=IHHIIBBH", data)
    assert length == len(data)
    assert (port, reserved) == (0, 0)
    device: dict[str, Any] = {DEVICE_FIELDS[k]: payload for k, payload in attributes(data[20:])}
    if "peers" in device:
        device["peers"] = peers_of(device["peers"])
    return Request(length, kind, flags, sequence, command, version, device)


# --- dumps --------------------------------------------------------------------------------------------


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def allowed_ip(text: str, shuffle: random.Random | None = None) -> bytes:
    """As the kernel writes one; with ``shuffle``, as it might."""
    network = ip_network(text)
    parts = [
        attribute(3, bytes([network.prefixlen])),
        attribute(1, struct.pack("=H", 2 if network.version == 4 else 10)),
        attribute(2, network.network_address.packed),
    ]
    if shuffle:
        shuffle.shuffle(parts)
    return attribute(NESTED, b"".join(parts))


def allowed_ips(texts: Iterable[str], shuffle: random.Random | None = None) -> bytes:
    """The nest of a peer's allowed IPs."""
    return attribute(9 | NESTED, b"".join(allowed_ip(text, shuffle) for text in texts))


def head(state: Any, shuffle: random.Random | None = None) -> list[bytes]:
    """A peer's attributes before its allowed IPs; with ``shuffle``, in another order, with padding and unknown ones."""
    parts = [
        attribute(1, state.public_key),
        attribute(2, state.preshared_key),
        attribute(6, struct.pack("=qq", *divmod(state.handshake, 1_000_000_000))),
        attribute(5, struct.pack("=H", state.persistent_keepalive)),
        attribute(8, struct.pack("=Q", state.sent)),
        attribute(7, struct.pack("=Q", state.received)),
        attribute(10, struct.pack("=I", 1)),
    ]
    if state.endpoint is not None:
        parts.append(attribute(4, state.endpoint))
    if shuffle:
        shuffle.shuffle(parts)
        parts.insert(shuffle.randint(0, len(parts)), attribute(0, b""))
        parts.insert(shuffle.randint(0, len(parts)), attribute(UNKNOWN, b"later kernels"))
    return parts


def body(peers: Iterable[bytes], device: bytes = b"") -> bytes:
    """What follows the netlink header of one message of a dump."""
    return GENL_HEADER + device + attribute(8 | NESTED, b"".join(peers))


def dump(states: Sequence[Any], cuts: set[tuple[int, int]] = frozenset(), seed: int | None = None) -> list[bytes]:  # type: ignore[assignment]
    """The bodies of a dump. A cut (i, n) begins a new message after n allowed IPs of peer i, as the kernel does;
    one beyond its allowed IPs begins it after the peer. With ``seed``, in no order and with what is unknown.
    """
    shuffle = None if seed is None else random.Random(seed)
    bodies: list[list[bytes]] = [[]]
    for i, state in enumerate(states):
        texts = state.allowed_ips.texts
        begin = head(state, shuffle)
        at = 0
        for n in sorted(n for j, n in cuts if j == i and n <= len(texts)):
            # A peer that does not fit ends with what did, even if that is an empty nest.
            bodies[-1].append(attribute(NESTED, b"".join([*begin, allowed_ips(texts[at:n], shuffle)])))
            bodies.append([])
            begin, at = [attribute(1, state.public_key)], n
        rest = texts[at:]
        if rest or at:
            begin = [*begin, allowed_ips(rest, shuffle)]
        bodies[-1].append(attribute(NESTED, b"".join(begin)))
        if any(j == i and n > len(texts) for j, n in cuts):
            bodies.append([])
    return [body(peers) for peers in bodies]
