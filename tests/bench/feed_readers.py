#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated gateways of one process, that follow the feed and note when they had what.

    feed_readers.py URL TOKEN-FILE POSITION CONNECTIONS MODE [VERIFY-KEY [CERTIFICATE]]

MODE is `agents`: each verifies, decodes and applies every batch to peers in memory, as an agent does; or `connections`:
each only looks where an event ends, so that the figure is the server's and not that of thousands of agents on one
machine. Says `ready` when all are connected. At the end of standard input it prints one JSON object: for each revision
the first and the last moment at which a gateway had it, and how many had it (CLOCK_MONOTONIC, seconds).
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import sys
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop
from _lethe.feed import batch, events
from _lethe.feed.signing import VerifyKeys
from _lethe.wireguard.peers import Peer

_AT_ONCE = 50  # connections being made


class Tally:
    """When the gateways of this process had each revision."""

    def __init__(self) -> None:
        self.seen: dict[int, list[float]] = {}  # revision: first, last, how many

    def has(self, revision: int) -> None:
        now = time.monotonic()
        entry = self.seen.setdefault(revision, [now, now, 0])
        entry[1] = now
        entry[2] += 1


class Gateway(asyncio.Protocol):
    """One connection. Chunks are taken apart as the feed makes them: one for each event."""

    def __init__(self, request: bytes, tally: Tally, keys: VerifyKeys | None) -> None:
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._tally = tally
        self._keys = keys
        self._buffer = bytearray()
        self._decoder = events.Decoder()
        self._peers: dict[bytes, Peer] = {}
        self._revision = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.connected.done():
            head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith(b"HTTP/1.1 200"), head[:40]
            self._buffer[:] = rest
            self.connected.set_result(None)
        while True:
            line = self._buffer.find(b"\r\n")
            if line < 0:
                return
            end = line + 2 + int(self._buffer[:line], 16)
            if len(self._buffer) < end + 2:
                return
            self._event(bytes(self._buffer[line + 2 : end]))
            del self._buffer[: end + 2]

    def _event(self, event: bytes) -> None:
        if self._keys is None:
            revision = int(event[: event.index(b"\n")].rpartition(b".")[2])
            if revision > self._revision:
                self._revision = revision
                self._tally.has(revision)
            return
        for each in self._decoder.feed(event):
            read = batch.decode(each.document(), self._keys)
            if read.is_heartbeat:
                continue
            assert self._revision in (-1, read.after)
            for key in read.removed:
                self._peers.pop(key, None)
            for peer in read.peers:
                self._peers[peer.public_key] = peer
            self._revision = read.revision
            self._tally.has(read.revision)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.connected.done():
            self.connected.set_exception(exc or ConnectionError("the feed closed the connection"))


async def main(url: str, token: str, position: str, number: int, keys: VerifyKeys | None, certificate: str) -> None:
    where = urlsplit(url)
    request = (
        f"GET /v1/feed/changes HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
        f"last-event-id: {position}\r\n\r\n"
    ).encode()
    tls = ssl.create_default_context(cafile=certificate) if certificate else None
    tally = Tally()
    loop = asyncio.get_running_loop()
    kept: list[asyncio.BaseTransport] = []

    async def connect() -> None:
        for attempt in range(5):
            try:
                transport, gateway = await loop.create_connection(
                    lambda: Gateway(request, tally, keys),
                    where.hostname,
                    where.port,
                    ssl=tls,
                    server_hostname="localhost" if tls else None,
                )
                await gateway.connected
            except OSError:
                await asyncio.sleep(0.2 * (attempt + 1))
            else:
                kept.append(transport)
                return
        raise SystemExit("feed_readers: no connection")

    for start in range(0, number, _AT_ONCE):
        await asyncio.gather(*(connect() for _ in range(min(_AT_ONCE, number - start))))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({str(revision): entry for revision, entry in tally.seen.items()}))


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    url_, token_file, position_, number_, mode, *more = sys.argv[1:]
    verifying = VerifyKeys.from_texts(more[:1]) if mode == "agents" else None
    uvloop.run(main(url_, Path(token_file).read_text().strip(), position_, int(number_), verifying, "".join(more[1:2])))
