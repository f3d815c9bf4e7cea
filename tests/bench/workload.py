#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The peers the benchmark works on, written once in the form each contender reads.

    workload.py DIRECTORY COUNT...      prints the directory of each

A workload is a directory with two sets of peers, ``before`` and ``after`` a change of 1 %:

    before.packed after.packed   Lethe's packed peers
    before.jsonl  after.jsonl    Lethe and pyroute2: one JSON object per line
    before.conf   after.conf     wg setconf, wg syncconf
    before.tsv    after.tsv      the shell loop: public key, preshared key, allowed IPs
    before.raw    after.raw      RECORD of each peer: what the harness itself puts into the kernel
    workload.json                sizes, and a digest of each set to check the kernel's state against

Addresses are drawn as Lethe's registry draws them: a random /32 of 10.0.0.0/8 and a random /128 of a
ULA /48, never sequential. Every peer has a preshared key. The same size gives the same peers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

CHANGED_SHARE = 100  # one peer in this many differs between `before` and `after`
IDLE_SHARE = 10  # one peer in this many is idle when a purge is measured

RECORD = struct.Struct("=32s32s4s16s")
# Of packed peers with preshared key, IPv4 and IPv6 (_lethe/wireguard/packed.py); their records are RECORD.
PACKED_HEADER = struct.Struct(">8sII")
ULA = bytes.fromhex("fd1e74e00001")


class BenchPeer(NamedTuple):
    public_key: bytes
    preshared_key: bytes
    ipv4: bytes
    ipv6: bytes

    @property
    def allowed_ips(self) -> list[str]:
        return [
            f"{socket.inet_ntop(socket.AF_INET, self.ipv4)}/32",
            f"{socket.inet_ntop(socket.AF_INET6, self.ipv6)}/128",
        ]


def base64_text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


class PeerSource:
    """Draws peers that share neither keys nor addresses."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._taken: set[bytes] = set()

    def key(self) -> bytes:
        return self._random.randbytes(32)

    def addresses(self) -> tuple[bytes, bytes]:
        while True:
            ipv4 = b"\x0a" + self._random.randbytes(3)
            if ipv4 not in self._taken:
                self._taken.add(ipv4)
                return ipv4, ULA + self._random.randbytes(10)

    def peer(self) -> BenchPeer:
        return BenchPeer(self.key(), self.key(), *self.addresses())

    def changed(self, peer: BenchPeer, kind: int) -> BenchPeer:
        """What happens to keys in a fleet: rotation (a new peer for an old one), new addresses, a new preshared key."""
        if kind == 0:
            return self.peer()
        if kind == 1:
            return peer._replace(**dict(zip(("ipv4", "ipv6"), self.addresses(), strict=True)))
        return peer._replace(preshared_key=self.key())


def private_key() -> bytes:
    """The interface's key, clamped: an unclamped one makes the kernel redo its work for every peer."""
    raw = bytearray(random.Random(0).randbytes(32))
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return bytes(raw)


def state_digest(lines: Iterable[tuple[str, str, str, str]]) -> str:
    """A digest of a set of peers that does not depend on their order.

    Each is (public key, preshared key, allowed IPs joined by commas, keepalive), as in ``wg show dump``.
    """
    total = 0
    for public_key, preshared_key, allowed_ips, keepalive in lines:
        one = " ".join((public_key, preshared_key, ",".join(sorted(allowed_ips.split(","))), keepalive))
        total += int.from_bytes(hashlib.blake2b(one.encode(), digest_size=16).digest(), "big")
    return f"{total % (1 << 128):032x}"


def read_records(path: Path) -> Iterator[BenchPeer]:
    with path.open("rb") as file:
        while block := file.read(RECORD.size * 1024):
            yield from map(BenchPeer._make, RECORD.iter_unpack(block))


def _write_set(directory: Path, name: str, peers: list[BenchPeer]) -> str:
    digest_lines: list[tuple[str, str, str, str]] = []
    with (
        (directory / f"{name}.jsonl").open("w") as jsonl,
        (directory / f"{name}.conf").open("w") as conf,
        (directory / f"{name}.tsv").open("w") as tsv,
        (directory / f"{name}.raw").open("wb") as raw,
        (directory / f"{name}.packed").open("wb") as packed,
    ):
        packed.write(PACKED_HEADER.pack(b"LETHEPP1", 0b111, len(peers)))
        conf.write(f"[Interface]\nPrivateKey = {base64_text(private_key())}\n")
        for peer in peers:
            public_key, preshared_key = base64_text(peer.public_key), base64_text(peer.preshared_key)
            allowed_ips = peer.allowed_ips
            record = {"public_key": public_key, "preshared_key": preshared_key, "allowed_ips": allowed_ips}
            jsonl.write(json.dumps(record) + "\n")
            conf.write(
                f"\n[Peer]\nPublicKey = {public_key}\nPresharedKey = {preshared_key}\n"
                f"AllowedIPs = {', '.join(allowed_ips)}\n"
            )
            tsv.write(f"{public_key}\t{preshared_key}\t{','.join(allowed_ips)}\n")
            raw.write(RECORD.pack(*peer))
            packed.write(RECORD.pack(*peer))
            digest_lines.append((public_key, preshared_key, ",".join(allowed_ips), "off"))
    return state_digest(digest_lines)


class Workload:
    """One size's files, and what the kernel must hold after each operation."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        facts = json.loads((directory / "workload.json").read_text())
        self.peers: int = facts["peers"]
        self.idle: int = facts["idle"]
        self.digests: dict[str, str] = facts["digests"]

    def file(self, name: str) -> Path:
        return self.directory / name

    @classmethod
    def create(cls, parent: Path, count: int) -> Workload:
        """Write the files for ``count`` peers below ``parent``, unless they are there."""
        version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
        directory = parent / f"{count}-{version}"
        if not (directory / "workload.json").exists():
            directory.mkdir(parents=True, exist_ok=True)
            source = PeerSource(seed=count)
            before = [source.peer() for _ in range(count)]
            after = list(before)
            # The peers that change are spread over the set, and the kinds of change over them.
            for kind, at in enumerate(range(CHANGED_SHARE // 2, count, CHANGED_SHARE)):
                after[at] = source.changed(before[at], kind % 3)
            digests = {
                "before": _write_set(directory, "before", before),
                "after": _write_set(directory, "after", after),
            }
            facts = {"peers": count, "idle": count // IDLE_SHARE, "digests": digests}
            (directory / "workload.json").write_text(json.dumps(facts))
        return cls(directory)


def main(parent: str, *counts: str) -> None:
    for count in counts:
        print(Workload.create(Path(parent), int(count)).directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
