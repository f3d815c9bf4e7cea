# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Allowed IPs and endpoints, kept in the very bytes that the kernel takes and reports.

Holding the kernel's own encoding makes the question that is asked most often, "is this peer what it
should be?", one comparison of two byte strings. The layouts are those of
include/uapi/linux/wireguard.h (``WGALLOWEDIP_A_*``) and of ``struct sockaddr_in`` / ``sockaddr_in6``.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from .errors import InvalidValue

# One allowed IP as the kernel emits it (get_allowedips(), drivers/net/wireguard/netlink.c): a nest of
# CIDR_MASK (u8), FAMILY (u16), IPADDR; each attribute a header of length and type, padded to 4 bytes.
_V4 = struct.Struct("=HH HHB3x HHH2x HH4s")
_V6 = struct.Struct("=HH HHB3x HHH2x HH16s")
_NEST, _CIDR_MASK, _FAMILY, _IPADDR = 0x8000, 3, 1, 2
_NEST_BYTES = (_V4.size, _V6.size)
_LENGTH_AT = 0 if sys.byteorder == "little" else 1  # the low byte of a nest's u16 length
_BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}

_SOCKADDR_IN = struct.Struct("=H2s4s8x")
_SOCKADDR_IN6 = struct.Struct("=H2sI16sI")
SOCKADDRS = frozenset(
    (layout.size, struct.pack("=H", family))
    for layout, family in ((_SOCKADDR_IN, socket.AF_INET), (_SOCKADDR_IN6, socket.AF_INET6))
)
"""(length, first two bytes) of what an endpoint can be."""


def _parsed(family: int, text: str) -> bytes | None:
    """4 or 16 bytes, or None. Nothing is raised here: the parser's exceptions can hold the text, and would be
    the context of ours.
    """
    try:
        return socket.inet_pton(family, text)
    except (OSError, ValueError):
        return None


class AllowedIP(NamedTuple):
    """A network whose packets a peer may send and is sent."""

    address: bytes  # 4 or 16 bytes, network order, no bits set beyond the prefix
    prefix: int  # bits

    @classmethod
    def from_text(cls, text: Any, field: str = "allowed_ips") -> AllowedIP:
        """Parse ``10.1.2.3/32``, ``fd00::1/128`` or an address alone.

        Raises InvalidValue, which names ``field`` and does not show the text.
        """
        if not isinstance(text, str):
            raise InvalidValue(field, "is not text", 'write an address and a prefix, like "10.1.2.3/32"')
        host, slash, bits = text.partition("/")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        longest = _BITS[family]
        address = _parsed(family, host)
        if address is None:
            raise InvalidValue(
                field, "is not an IP address", 'write an address and a prefix, like "10.1.2.3/32" or "fd00::1/128"'
            )
        if not slash:
            return cls(address, longest)
        if not (bits.isascii() and bits.isdigit() and len(bits) <= 3 and int(bits) <= longest):
            version = "IPv4" if longest == 32 else "IPv6"
            raise InvalidValue(field, "has a bad prefix", f"an {version} prefix is a number from 0 to {longest}")
        prefix = int(bits)
        if prefix < longest and int.from_bytes(address, "big") & ((1 << (longest - prefix)) - 1):
            raise InvalidValue(
                field, f"has bits set beyond its /{prefix}", f"clear them, or write /{longest} if one address is meant"
            )
        return cls(address, prefix)

    @property
    def family(self) -> int:
        return socket.AF_INET if len(self.address) == 4 else socket.AF_INET6

    @property
    def text(self) -> str:
        return f"{socket.inet_ntop(self.family, self.address)}/{self.prefix}"

    @property
    def kernel_bytes(self) -> bytes:
        """Its nest in the kernel's encoding: 28 bytes for IPv4, 40 for IPv6."""
        layout = _V4 if len(self.address) == 4 else _V6
        return layout.pack(
            layout.size, _NEST, 5, _CIDR_MASK, self.prefix, 6, _FAMILY, self.family,
            4 + len(self.address), _IPADDR, self.address,
        )  # fmt: skip

    def __repr__(self) -> str:
        return "<AllowedIP>"


# An address with its full prefix, as nearly all allowed IPs of a fleet are, needs only this before it.
_V4_HOST = AllowedIP(bytes(4), 32).kernel_bytes[:-4]
_V6_HOST = AllowedIP(bytes(16), 128).kernel_bytes[:-16]
# Plain numbers: those of the socket module are enumerations, which cost more than the parsing.
_AF_INET, _AF_INET6 = int(socket.AF_INET), int(socket.AF_INET6)


class AllowedIPs(bytes):
    """The allowed IPs of one peer, in order, in the kernel's encoding."""

    __slots__ = ()

    @classmethod
    def of(cls, allowed_ips: Iterable[AllowedIP]) -> AllowedIPs:
        return cls(b"".join([ip.kernel_bytes for ip in allowed_ips]))

    @classmethod
    def from_texts(cls, texts: Any, field: str = "allowed_ips") -> AllowedIPs:
        """Parse a list of texts, as AllowedIP.from_text; the same network twice counts once."""
        if not isinstance(texts, (list, tuple)):
            raise InvalidValue(field, "is not a list", 'write a list, like ["10.1.2.3/32", "fd00::1/128"]')
        nests = []
        parse = socket.inet_pton
        for text in texts:
            try:  # the common case, several times faster than the general one, which decides on everything else
                if text[-3:] == "/32":
                    nests.append(_V4_HOST + parse(_AF_INET, text[:-3]))
                    continue
                if text[-4:] == "/128":
                    nests.append(_V6_HOST + parse(_AF_INET6, text[:-4]))
                    continue
            except (OSError, TypeError, ValueError, LookupError):
                pass
            nests.append(AllowedIP.from_text(text, f"{field}[{len(nests)}]").kernel_bytes)
        return bytes.__new__(cls, b"".join(dict.fromkeys(nests)))

    def nests(self) -> list[bytes]:
        """The kernel's encoding of each allowed IP: what two peers must not both have."""
        return nests_in(self)

    def ips(self) -> list[AllowedIP]:
        """Each as a value."""
        ips = []
        for nest in self.nests():
            fields = (_V4 if len(nest) == _V4.size else _V6).unpack(nest)
            ips.append(AllowedIP(address=fields[-1], prefix=fields[4]))
        return ips

    @property
    def texts(self) -> list[str]:
        return [ip.text for ip in self.ips()]

    def __repr__(self) -> str:
        return f"<AllowedIPs: {len(self.nests())}>"

    __str__ = __repr__


def nests_in(data: bytes, at: int = 0) -> list[bytes]:
    """The allowed IPs that stand in ``data`` from an offset to the end, each in the kernel's encoding."""
    nests = []
    end = len(data)
    while at < end:
        length = data[at + _LENGTH_AT]
        if length not in _NEST_BYTES or at + length > end:
            raise ValueError("allowed IPs in an unknown layout")
        nests.append(data[at : at + length])
        at += length
    return nests


def host_nests(pairs: list[list[str]]) -> tuple[list[bytes], list[bytes]]:
    """The kernel's encodings of many pairs of single addresses, each ``["10.1.2.3/32", "fd00::1/128"]``.

    ValueError, TypeError or OSError if one is not such a pair.
    """
    ipv4, ipv6 = zip(*pairs, strict=True)
    if {text[-3:] for text in ipv4} != {"/32"} or {text[-4:] for text in ipv6} != {"/128"}:
        raise ValueError("not single addresses")
    parse = socket.inet_pton
    return (
        [_V4_HOST + parse(_AF_INET, text[:-3]) for text in ipv4],
        [_V6_HOST + parse(_AF_INET6, text[:-4]) for text in ipv6],
    )


class Endpoint(bytes):
    """Where a peer's packets go: a ``sockaddr`` in the kernel's encoding. Its ``repr`` hides it."""

    __slots__ = ()

    @classmethod
    def from_text(cls, text: Any, field: str = "endpoint") -> Endpoint:
        """Parse ``192.0.2.1:51820`` or ``[2001:db8::1]:51820``. Host names are refused: they would be
        looked up at another time and place than where the peer is used.

        Raises InvalidValue, which names ``field`` and does not show the text.
        """
        form = 'write an IP address and a port, like "192.0.2.1:51820" or "[2001:db8::1]:51820"'
        host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
        if not (colon and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise InvalidValue(field, "has no valid port", form)
        bracketed = host[:1] == "[" and host[-1:] == "]"
        family = socket.AF_INET6 if bracketed else socket.AF_INET
        address = _parsed(family, host[1:-1] if bracketed else host)
        if address is None:
            raise InvalidValue(field, "is not an IP address and a port", form)
        network_order = int(port).to_bytes(2, "big")
        if bracketed:
            return cls(_SOCKADDR_IN6.pack(family, network_order, 0, address, 0))
        return cls(_SOCKADDR_IN.pack(family, network_order, address))

    @property
    def address(self) -> bytes:
        """4 or 16 bytes, without the port."""
        layout = _SOCKADDR_IN if len(self) == _SOCKADDR_IN.size else _SOCKADDR_IN6
        address: bytes = layout.unpack(self)[2 if layout is _SOCKADDR_IN else 3]
        return address

    @property
    def text(self) -> str:
        (family,) = struct.unpack_from("=H", self)
        if family == socket.AF_INET6:
            _family, port, _flow, address, scope = _SOCKADDR_IN6.unpack(self)
            zone = f"%{scope}" if scope else ""
            return f"[{socket.inet_ntop(socket.AF_INET6, address)}{zone}]:{int.from_bytes(port, 'big')}"
        _family, port, address = _SOCKADDR_IN.unpack(self)
        return f"{socket.inet_ntop(socket.AF_INET, address)}:{int.from_bytes(port, 'big')}"

    def __repr__(self) -> str:
        return "<Endpoint>"

    __str__ = __repr__
