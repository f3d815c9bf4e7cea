# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A feed on a real socket that does what a test says, also what no registry would do. The real one is in
_lethe/registry/feed; tests/registry has both together.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

from signed import SignedRegistry

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import events
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position

TOKEN = "lethe_gateway_" + "A" * 43
_CUT = b""


class FakeFeed:
    """Serves one registry. What is set here counts from the next request on."""

    def __init__(self, registry: SignedRegistry) -> None:
        self.registry = registry
        self.retained: dict[Position, tuple[Position, bytes]] = {}  # from a position: to which, and the batch
        self.snapshot: bytes | None = None  # instead of the registry's
        self.cut_snapshots_at: int | None = None  # bytes
        self.refusal: tuple[int, str] | None = None  # HTTP status and problem, for every request
        self.silent = threading.Event()  # takes connections and says nothing
        self.asked: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self._streams: list[queue.SimpleQueue[bytes]] = []
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._ended = False
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """As when its process ends: nothing of it is left, no thread and no connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.socket.close()  # who loses its stream and comes back is refused
            self.silent.clear()
            with self._lock:
                self._ended = True
                self._send(_CUT)
            self._server.server_close()
            self._server = None

    def change(self, *, silently: bool = False, **changes: Any) -> bytes:
        """Change the registry and tell all streams, or silently only those that come later."""
        with self._lock:
            before = self.registry.position
            document = self.registry.change(**changes)
            self.retained[before] = (self.registry.position, document)
            if not silently:
                self._send(events.encode(self.registry.position, document))
        return document

    def heartbeat(self) -> None:
        self.send(self.registry.heartbeat())

    def send(self, document: bytes) -> None:
        """Any document, to all streams."""
        self.send_bytes(events.encode(self.registry.position, document))

    def send_bytes(self, data: bytes) -> None:
        with self._lock:
            self._send(data)

    def _send(self, data: bytes) -> None:
        for stream in self._streams:
            stream.put(data)

    def cut(self) -> None:
        """End all streams."""
        self.send_bytes(_CUT)

    @property
    def streams(self) -> int:
        return len(self._streams)

    @contextlib.contextmanager
    def stream(self, after: Position) -> Iterator[tuple[queue.SimpleQueue[bytes], list[bytes]]]:
        """The events that will come, and those that were since a position. Raises KeyError if it is not known."""
        stream: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        missed = []
        with self._lock:
            while after != self.registry.position:
                after, document = self.retained[after]
                missed.append(events.encode(after, document))
            self._streams.append(stream)
            if self._ended:
                stream.put(_CUT)
        try:
            yield stream, missed
        finally:
            with self._lock:
                self._streams.remove(stream)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # so that the end waits for them

    def __init__(self, address: tuple[str, int], feed: FakeFeed) -> None:
        self.feed = feed
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Request)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in self._connections.copy():
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes is no error."""


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        feed = self._begin()
        if feed is None:
            return
        if self.path == "/v1/feed/snapshot":
            self._snapshot(feed)
        else:
            self._changes(feed)

    def do_POST(self) -> None:
        feed = self._begin()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if feed is not None:
            feed.reports.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

    def _begin(self) -> FakeFeed | None:
        feed = self.server.feed
        feed.asked.append(f"{self.command} {self.path} {self.headers.get('Last-Event-ID', '')}".strip())
        while feed.silent.is_set():
            threading.Event().wait(0.01)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._refuse(401, "not-authenticated")
            return None
        if feed.refusal is not None:
            self._refuse(*feed.refusal)
            return None
        return feed

    def _refuse(self, status: int, problem: str) -> None:
        body = json.dumps({"type": f"urn:lethe:problem:{problem}", "detail": "what nobody shall read"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _snapshot(self, feed: FakeFeed) -> None:
        document = feed.registry.snapshot() if feed.snapshot is None else feed.snapshot
        self.send_response(200)
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document[: feed.cut_snapshots_at])
        self.close_connection = True

    def _changes(self, feed: FakeFeed) -> None:
        try:
            opened = feed.stream(Position.from_text(self.headers["Last-Event-ID"]))
            stream, missed = opened.__enter__()
        except KeyError:
            self._refuse(410, "position-gone")
            return
        try:
            self.send_response(200)
            self.send_header("Content-Type", events.MEDIA_TYPE)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for data in missed:
                self._chunk(data)
            while data := stream.get():
                self._chunk(data)
        finally:
            opened.__exit__(None, None, None)
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Quiet."""
