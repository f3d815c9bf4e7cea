# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry's feed over HTTP, for one gateway: a snapshot, the stream of changes, a report."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from .. import https
from ..feed.position import Position
from ..version import VERSION
from ..wireguard.errors import LetheError

HEARTBEAT = 10  # seconds; the feed is never silent for longer
SILENCE = 3 * HEARTBEAT
"""Seconds without a byte after which a connection is dead, whatever TCP thinks of it."""

_SNAPSHOT = 600  # seconds for all of it
_LARGEST_SNAPSHOT = 128 << 20  # bytes: 2^20 peers with everything that a record can have are 88 MB
_CHUNK = 1 << 16


class FeedAway(LetheError):
    """No answer, or none that is a registry's, or one that ends before its time."""


class FeedRefused(LetheError):
    """The registry will not, until somebody does something about it."""


class PositionGone(LetheError):
    """The registry does not go on from a position: only a snapshot leads on."""

    def __init__(self) -> None:
        super().__init__("the registry does not go on from the applied revision any more; a snapshot is taken")


class Feed:
    """One caller's connections to a registry's feed: used by one thread, interrupted by any."""

    def __init__(self, url: str, credential: str, context: ssl.SSLContext | None) -> None:
        """``context``: for https."""
        self._url = urlsplit(url)
        self._headers = {"Authorization": f"Bearer {credential}", "User-Agent": f"lethe-agent/{VERSION}"}
        self._context = context
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._interrupted = False
        self._kept: http.client.HTTPConnection | None = None  # for reports

    def snapshot(self, progress: Callable[[], None] = lambda: None) -> bytes:
        """The whole signed document. ``progress`` is called for each piece of it.

        Raises FeedAway and FeedRefused.
        """
        content = bytearray()
        deadline = time.monotonic() + _SNAPSHOT
        with self._asked("GET", "/v1/feed/snapshot", {"Connection": "close"}) as answer:
            length = answer.getheader("Content-Length", "")
            expected = int(length) if length.isdigit() else None
            while len(content) != expected and (piece := self._read(answer)):
                content += piece
                progress()
                if len(content) > _LARGEST_SNAPSHOT:
                    raise FeedAway(f"the snapshot has more than {_LARGEST_SNAPSHOT} bytes; see what answers there")
                if time.monotonic() > deadline:
                    raise FeedAway(f"the snapshot was not there after {_SNAPSHOT} s; see what slows the way to here")
        if expected is not None and len(content) != expected:
            raise FeedAway("the snapshot was cut off on its way")
        return bytes(content)

    @contextlib.contextmanager
    def changes(self, after: Position) -> Iterator[Iterator[bytes]]:
        """The stream of events from a position on, in the pieces in which it comes; it ends when the registry ends it.

        Raises FeedAway, also for a stream that falls silent, FeedRefused and PositionGone.
        """
        headers = {"Last-Event-ID": after.text, "Accept": "text/event-stream"}
        with self._asked("GET", "/v1/feed/changes", headers) as answer:
            yield iter(lambda: self._read(answer), b"")

    def report(self, document: dict[str, Any]) -> None:
        """Raises FeedAway and FeedRefused."""
        # A connection that was kept may have been closed at the other end: then once more, on a new one.
        waiting = [self._connection()] if self._kept is None else [self._kept, self._connection()]
        self._kept = None
        while waiting:
            connection = waiting.pop(0)
            try:
                self._post(connection, "/v1/feed/report", json.dumps(document).encode())
            except FeedAway:
                connection.close()
                if not waiting:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                self._kept = connection
                return

    def close(self) -> None:
        """Let go of the connection that is kept between reports."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def interrupt(self) -> None:
        """End what this waits for, and whatever it would wait for: it fails with FeedAway."""
        with self._lock:
            self._interrupted = True
            self._shut_down()

    def resume(self) -> None:
        """After an interruption: waiting is allowed again."""
        with self._lock:
            self._interrupted = False

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not that of ssl.SSLSocket, which changes the object under the thread that reads from it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _asked(self, method: str, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection()
        try:
            with self._failures_told():
                connection.connect()
                with self._lock:
                    self._socket = connection.sock
                    if self._interrupted:
                        self._shut_down()
                connection.sock.settimeout(SILENCE)
                connection.request(method, self._url.path + path, headers=self._headers | headers)
                answer = connection.getresponse()
            with answer:
                with self._failures_told():
                    _check(answer)
                yield answer
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        with self._failures_told():
            return answer.read1(_CHUNK)

    def _post(self, connection: http.client.HTTPConnection, path: str, body: bytes) -> None:
        with self._failures_told():
            headers = self._headers | {"Content-Type": "application/json"}
            connection.request("POST", self._url.path + path, body, headers)
            with connection.getresponse() as answer:
                _check(answer)
                answer.read(https.LARGEST_PROBLEM)

    def _connection(self) -> http.client.HTTPConnection:
        return https.connection(self._url, self._context)

    def _failures_told(self) -> contextlib.AbstractContextManager[None]:
        return https.failures_told(self._url.hostname or "", FeedAway, FeedRefused)


def _check(answer: http.client.HTTPResponse) -> None:
    """Raises what is to be thought of an answer that is not the one that was asked for."""
    if answer.status in (200, 204):
        return
    slug = https.problem_in(answer.read(https.LARGEST_PROBLEM))
    problem = f", {slug}" if slug else ""
    if answer.status == 410:
        raise PositionGone
    if answer.status in (401, 403):
        raise FeedRefused(
            f"the registry does not know this gateway's credential (HTTP {answer.status}{problem}): "
            "give it a new one with the role lethe.wireguard.key_sync"
        )
    if answer.status in (429, 503):
        raise FeedAway(f"the registry is too busy, or its database is away (HTTP {answer.status}{problem})")
    raise FeedAway(f"what answers is no registry's feed (HTTP {answer.status}{problem}); see the setting url")
