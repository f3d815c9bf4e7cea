# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The harness's own way to the kernel: brings an interface into a known state and measures what the
kernel alone needs.

Independent of the package under test on purpose. It knows one shape of peer, that of workload.BenchPeer.
Numbers are those of include/uapi/linux/wireguard.h, netlink.h and genetlink.h.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from workload import BenchPeer, private_key, state_digest

_NETLINK_GENERIC = 16
_NLM_F_REQUEST_ACK, _NLM_F_REQUEST_DUMP = 0x1 | 0x4, 0x1 | 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_CTRL_ID, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
_WG_CMD_GET_DEVICE, _WG_CMD_SET_DEVICE = 0, 1
_DEVICE_IFNAME, _DEVICE_PRIVATE_KEY, _DEVICE_FLAGS, _DEVICE_PEERS = 2, 3, 5, 8
_DEVICE_F_REPLACE_PEERS = 1
_PEER_PUBLIC_KEY, _PEER_PRESHARED_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_ALLOWEDIPS = 1, 2, 3, 4, 9
_PEER_F_REMOVE_ME, _PEER_F_REPLACE_ALLOWEDIPS, _PEER_F_UPDATE_ONLY = 1, 2, 4
_ALLOWEDIP_FAMILY, _ALLOWEDIP_IPADDR, _ALLOWEDIP_CIDR = 1, 2, 3
_NEST = 0x8000

PEERS_PER_MESSAGE = 200  # about 32 KiB: the lock is held for some 10 ms


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _allowed_ip(address: bytes) -> bytes:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return _attribute(
        _NEST,
        _attribute(_ALLOWEDIP_FAMILY, struct.pack("=H", family))
        + _attribute(_ALLOWEDIP_IPADDR, address)
        + _attribute(_ALLOWEDIP_CIDR, bytes([8 * len(address)])),
    )


def encode_peer(peer: BenchPeer) -> bytes:
    """The peer as a whole: preshared key and exactly these allowed IPs."""
    return _attribute(
        _NEST,
        _attribute(_PEER_PUBLIC_KEY, peer.public_key)
        + _attribute(_PEER_FLAGS, struct.pack("=I", _PEER_F_REPLACE_ALLOWEDIPS))
        + _attribute(_PEER_PRESHARED_KEY, peer.preshared_key)
        + _attribute(_PEER_ALLOWEDIPS | _NEST, _allowed_ip(peer.ipv4) + _allowed_ip(peer.ipv6)),
    )


def encode_removal(peer: BenchPeer) -> bytes:
    return _attribute(
        _NEST,
        _attribute(_PEER_PUBLIC_KEY, peer.public_key) + _attribute(_PEER_FLAGS, struct.pack("=I", _PEER_F_REMOVE_ME)),
    )


def encode_endpoint(peer: BenchPeer) -> bytes:
    """Only an endpoint: what an answered handshake initiation leaves. From 198.18.0.0/15, as tests do (RFC 2544)."""
    sockaddr = struct.pack("=H", socket.AF_INET) + peer.public_key[:2] + b"\xc6\x12" + peer.public_key[2:4] + bytes(8)
    return _attribute(
        _NEST,
        _attribute(_PEER_PUBLIC_KEY, peer.public_key)
        + _attribute(_PEER_FLAGS, struct.pack("=I", _PEER_F_UPDATE_ONLY))
        + _attribute(_PEER_ENDPOINT, sockaddr),
    )


class State(NamedTuple):
    """What ``wg`` says an interface holds."""

    peers: int
    digest: str
    endpoints: int


class Interface:
    """A WireGuard interface, created with a private key and without peers."""

    def __init__(self, name: str) -> None:
        self.name = name
        subprocess.run(["ip", "link", "add", name, "type", "wireguard"], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
        self._socket.bind((0, 0))
        self._family = _CTRL_ID
        self._family = self._wireguard_family()
        self.send(self._message(_WG_CMD_SET_DEVICE, _attribute(_DEVICE_PRIVATE_KEY, private_key())))

    def _message(self, command: int, attributes: bytes) -> bytes:
        if self._family != _CTRL_ID:
            attributes = _attribute(_DEVICE_IFNAME, self.name.encode() + b"\0") + attributes
        return (
            struct.pack("=IHHII", 20 + len(attributes), self._family, _NLM_F_REQUEST_ACK, 1, 0)
            + struct.pack("=BBH", command, 1, 0)
            + attributes
        )

    def _wireguard_family(self) -> int:
        self._socket.send(self._message(_CTRL_CMD_GETFAMILY, _attribute(_CTRL_ATTR_FAMILY_NAME, b"wireguard\0")))
        answer = self._socket.recv(8192)
        kind = struct.unpack_from("=H", answer, 4)[0]
        if kind == _NLMSG_ERROR:
            raise OSError(-struct.unpack_from("=i", answer, 16)[0], "this kernel has no WireGuard")
        self._socket.recv(8192)  # the acknowledgement
        at = 20
        while at < len(answer):
            length, attribute = struct.unpack_from("=HH", answer, at)
            if attribute == _CTRL_ATTR_FAMILY_ID:
                family: int = struct.unpack_from("=H", answer, at + 4)[0]
                return family
            at += length + -length % 4
        raise LookupError("the answer of the generic netlink controller has no family id")

    def send(self, message: bytes) -> None:
        """Send one message; the kernel has done it when this returns. Raises OSError with the kernel's error."""
        self._socket.send(message)
        answer = self._socket.recv(8192)
        error = struct.unpack_from("=i", answer, 16)[0]
        if error:
            raise OSError(-error, "the kernel refused a message of the harness")

    def messages(self, encoded: Iterable[bytes]) -> Iterator[bytes]:
        """Encoded peers, as messages ready to be sent."""
        peers = iter(encoded)
        while block := b"".join(islice(peers, PEERS_PER_MESSAGE)):
            yield self._message(_WG_CMD_SET_DEVICE, _attribute(_DEVICE_PEERS | _NEST, block))

    def send_peers(self, encoded: Iterable[bytes]) -> None:
        for message in self.messages(encoded):
            self.send(message)

    def flush(self) -> None:
        """Remove all peers at once: peer by peer it takes far longer."""
        self.send(
            self._message(_WG_CMD_SET_DEVICE, _attribute(_DEVICE_FLAGS, struct.pack("=I", _DEVICE_F_REPLACE_PEERS)))
        )

    def drain_dump(self) -> None:
        """Have the kernel list all peers, and look at none of them."""
        attributes = _attribute(_DEVICE_IFNAME, self.name.encode() + b"\0")
        self._socket.send(
            struct.pack("=IHHII", 20 + len(attributes), self._family, _NLM_F_REQUEST_DUMP, 1, 0)
            + struct.pack("=BBH", _WG_CMD_GET_DEVICE, 1, 0)
            + attributes
        )
        buffer = bytearray(64 * 1024)
        kind = 0
        while kind != _NLMSG_DONE:
            size = self._socket.recv_into(buffer)
            at = 0
            while at < size:
                length, kind = struct.unpack_from("=IH", buffer, at)
                at += length + -length % 4

    def state(self) -> State:
        """What is there, read by ``wg``, the independent witness."""
        peers = endpoints = 0

        def lines(stream: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
            nonlocal peers, endpoints
            for line in stream:
                public_key, preshared_key, endpoint, allowed_ips, _, _, _, keepalive = line.rstrip("\n").split("\t")
                peers += 1
                endpoints += endpoint != "(none)"
                yield public_key, preshared_key, allowed_ips, keepalive

        with subprocess.Popen(["wg", "show", self.name, "dump"], stdout=subprocess.PIPE, text=True) as wg:
            assert wg.stdout is not None
            next(wg.stdout)  # the interface's own line
            digest = state_digest(lines(wg.stdout))
        if wg.returncode:
            raise subprocess.CalledProcessError(wg.returncode, wg.args)
        return State(peers, digest, endpoints)
