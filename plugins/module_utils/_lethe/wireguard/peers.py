# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer as it is wanted, and a peer as the kernel reports it.

Named tuples rather than dataclasses: a gateway holds up to 2^20 of them, and a tuple is made and
compared several times faster. The first four fields of both are the same, in the same order: what
reconciling compares.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from itertools import starmap
from typing import NamedTuple

from .addresses import AllowedIPs, Endpoint, nests_in
from .keys import KEY_BYTES, NO_PRESHARED_KEY, PresharedKey, PublicKey


class Peer(NamedTuple):
    """What a peer should be."""

    public_key: PublicKey
    preshared_key: PresharedKey = NO_PRESHARED_KEY
    persistent_keepalive: int = 0  # seconds between keepalives; 0: none
    allowed_ips: AllowedIPs = AllowedIPs()
    endpoint: Endpoint | None = None  # None: wherever its packets come from


_KEEPALIVE = struct.Struct("=H")
_ALLOWED_IPS_AT = KEY_BYTES + _KEEPALIVE.size


class Configuration(bytes):
    """All that a peer is configured to be, but for its endpoint, as one string of bytes: two peers are alike
    if theirs are the same. The preshared key, the keepalive (u16 of this machine), the allowed IPs.
    """

    __slots__ = ()

    @classmethod
    def of(cls, peer: Peer | PeerState) -> Configuration:
        return cls(peer.preshared_key + _KEEPALIVE.pack(peer.persistent_keepalive) + peer.allowed_ips)

    def peer(self, public_key: PublicKey) -> Peer:
        return configured_peer(public_key, self)

    def __repr__(self) -> str:
        return "<Configuration>"

    __str__ = __repr__


def configured_peer(public_key: bytes, configuration: bytes) -> Peer:
    """The peer of that public key and Configuration."""
    # Without the types' own checks: the layout guarantees them, and there are many peers.
    new = bytes.__new__
    fields = (
        new(PublicKey, public_key),
        new(PresharedKey, configuration[:KEY_BYTES]),
        _KEEPALIVE.unpack_from(configuration, KEY_BYTES)[0],
        new(AllowedIPs, configuration[_ALLOWED_IPS_AT:]),
        None,
    )
    return tuple.__new__(Peer, fields)


def nests_of(configuration: bytes) -> list[bytes]:
    """The allowed IPs of a Configuration, each in the kernel's encoding."""
    return nests_in(configuration, _ALLOWED_IPS_AT)


class ConfiguredPeersInOrder(Collection[Peer]):
    """Peers in the order of their allowed IPs, as pairs of a public key and a Configuration. Each becomes a Peer
    only when it is asked for: to send it, its bytes are enough.
    """

    def __init__(self, configurations: Iterable[tuple[bytes, bytes]]) -> None:
        self.configurations = sorted(configurations, key=_allowed_ips_of)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Collection) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.configurations)

    def __iter__(self) -> Iterator[Peer]:
        return starmap(configured_peer, self.configurations)

    def __contains__(self, peer: object) -> bool:
        return any(peer == each for each in self)


def _allowed_ips_of(configured: tuple[bytes, bytes]) -> bytes:
    return configured[1][_ALLOWED_IPS_AT:]


class PeerState(NamedTuple):
    """What the kernel holds for a peer."""

    public_key: PublicKey
    preshared_key: PresharedKey
    persistent_keepalive: int  # seconds
    allowed_ips: AllowedIPs
    endpoint: Endpoint | None
    handshake: int  # ns of CLOCK_REALTIME at the latest completed handshake; 0: never
    received: int  # bytes
    sent: int  # bytes


class DeviceSettings(NamedTuple):
    """What the kernel holds for the interface itself; never its private key."""

    public_key: PublicKey | None  # None: it has no private key
    listen_port: int  # 0 while it has none
    fwmark: int  # 0: off
