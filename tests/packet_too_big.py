# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the kernel that the path to an address is narrow, as a router would that had to drop a packet of WireGuard's:

python3 packet_too_big.py HERE THERE PORT MTU

The kernel then keeps a route to that address. Needs root, and nothing but Python; HERE has PORT open.
"""

from __future__ import annotations

import socket
import struct
import sys

_LENGTH = 1400  # bytes, of the packet that was too big


def tell(here: str, there: str, port: int, mtu: int) -> None:
    """Send what the router would send. IPv4 and IPv6."""
    family = socket.AF_INET6 if ":" in here else socket.AF_INET
    ends = socket.inet_pton(family, here) + socket.inet_pton(family, there)
    udp = struct.pack(">HHHH", port, 4500, _LENGTH, 0)
    if family == socket.AF_INET6:
        dropped = struct.pack(">IHBB", 6 << 28, _LENGTH, socket.IPPROTO_UDP, 64) + ends + udp
        message = struct.pack(">BBHI", 2, 0, 0, mtu) + dropped  # the kernel fills in the checksum
        protocol = socket.IPPROTO_ICMPV6
    else:
        dropped = struct.pack(">BBHHHBBH", 0x45, 0, 20 + _LENGTH, 0, 0x4000, 64, socket.IPPROTO_UDP, 0) + ends + udp
        message = struct.pack(">BBHHH", 3, 4, 0, 0, mtu) + dropped
        message = message[:2] + struct.pack(">H", _checksum(message)) + message[4:]
        protocol = socket.IPPROTO_ICMP
    with socket.socket(family, socket.SOCK_RAW, protocol) as sender:
        sender.sendto(message, (here, 0))


def _checksum(message: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f">{len(message) // 2}H", message))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


if __name__ == "__main__":
    tell(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
