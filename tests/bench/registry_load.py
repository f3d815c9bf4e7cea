#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that register keys, in a process of its own: one of several that share a load.

The first line of standard input is a JSON object:

    urls         where the registry is served; each connection stays with one
    accounts     how many there are; request n is of account (first + n * step) % accounts
    first, step
    connections  kept alive, opened before anything is measured
    seconds
    rate         requests per second of this and the other generators together (open loop); null: each
                 connection asks again as soon as it is answered (closed loop)
    number, of   which of the generators this is

When all is ready an empty line is printed; the second line of the input says when to begin (time.monotonic()).
Then a JSON object is printed: the latency of each registration in seconds, counted in the open loop from when it was
due; and how many requests were not answered with 201 and addresses, by what they were answered with. Answers are
looked at when all is over.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools
from latencies import due_times
from registry_fill import token

_GIVES_UP = 60.0  # seconds after the end


class Answer(NamedTuple):
    seconds: float
    key: str
    status: int
    body: bytes

    @property
    def fault(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if self.status != 201:
            return str(self.status)
        answer = json.loads(self.body)
        if answer["public_key"] != self.key or len(answer["allowed_ips"]) != 2:
            return "201 without the key or without its addresses"
        return ""


class Client(asyncio.Protocol):
    """A connection that is kept alive; one request at a time."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""

    @classmethod
    async def connected(cls, url: str) -> Client:
        place = urlsplit(url)
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(place.netloc), place.hostname, place.port)
        return client

    async def register(self, account: int, due: float) -> Answer:
        key = base64.b64encode(os.urandom(32)).decode("ascii")
        body = f'{{"public_key":"{key}"}}'
        head = (
            f"POST /v1/registrations HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {token(account)}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write((head + body).encode("ascii"))
        status, told = await self._answered
        return Answer(time.monotonic() - due, key, status, told)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError("the registry closed a connection"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._answered
        self._answered.set_result((self._parser.get_status_code(), self._body))


async def open_loop(clients: list[Client], accounts: Iterator[int], load: dict[str, Any]) -> list[Answer]:
    """Requests when they are due. One that finds no connection free waits for one, and that counts."""
    loop = asyncio.get_running_loop()
    free: asyncio.LifoQueue[Client] = asyncio.LifoQueue()
    for client in clients:
        free.put_nowait(client)

    async def register(due: float) -> Answer:
        client = await free.get()
        try:
            return await client.register(next(accounts), due)
        finally:
            free.put_nowait(client)

    sent = []
    for after in due_times(load["rate"], load["seconds"], load["number"], load["of"]):
        due = load["begin"] + after
        await asyncio.sleep(due - loop.time())
        sent.append(asyncio.create_task(register(due)))
    return await asyncio.gather(*sent)


async def closed_loop(clients: list[Client], accounts: Iterator[int], load: dict[str, Any]) -> list[Answer]:
    """Callers who wait for nothing but their answers."""
    end = load["begin"] + load["seconds"]

    async def calls(client: Client) -> list[Answer]:
        await asyncio.sleep(load["begin"] - time.monotonic())
        answers = []
        while (now := time.monotonic()) < end:
            answers.append(await client.register(next(accounts), now))
        return answers

    return [answer for answers in await asyncio.gather(*map(calls, clients)) for answer in answers]


def account_numbers(load: dict[str, Any]) -> Iterator[int]:
    number = load["first"]
    while True:
        yield number % load["accounts"]
        number += load["step"]


async def main() -> None:
    load = json.loads(sys.stdin.readline())
    urls = load["urls"]
    clients = [await Client.connected(urls[n % len(urls)]) for n in range(load["connections"])]
    print(flush=True)
    load["begin"] = float(sys.stdin.readline())
    loop = open_loop if load["rate"] else closed_loop
    patience = load["begin"] - time.monotonic() + load["seconds"] + _GIVES_UP
    answers = await asyncio.wait_for(loop(clients, account_numbers(load), load), patience)
    faults = Counter(filter(None, (answer.fault for answer in answers)))
    json.dump({"latencies": [answer.seconds for answer in answers], "faults": faults}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
