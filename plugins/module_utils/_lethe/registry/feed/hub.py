# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The streams that are up to date: all stand at one position, and each is given the same bytes at the same time.

A batch is written straight to the connections, without a task or a queue for each: that is what lets one process
serve thousands. What a connection has not taken yet waits in its own buffer, and one that lets too much wait is cut
off: it comes back and goes on from where it was, so nothing is ever dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable

from ...feed.position import Position
from .frames import Frame
from .metrics import FeedMetrics

_CLOSING = 2.0  # seconds that a reader has to take what is left
_LAST_CHUNK = b"0\r\n\r\n"  # of HTTP/1.1's chunked encoding (RFC 9112, section 7.1)

_log = logging.getLogger(__name__)


class Stream:
    """One connection that follows."""

    __slots__ = ("_descriptor", "credential", "transport")

    def __init__(self, transport: asyncio.Transport, credential: bytes) -> None:
        self.transport = transport
        self.credential = credential  # the keyed hash
        encrypted = transport.get_extra_info("ssl_object") is not None
        self._descriptor = None if encrypted else transport.get_extra_info("socket").fileno()

    def write(self, chunk: bytes) -> int:
        """Returns how many bytes wait in this process for the reader to take more."""
        transport = self.transport
        if self._descriptor is not None and not transport.get_write_buffer_size() and not transport.is_closing():
            # Straight to the kernel: the transport would come to the same, and a delivery takes a tenth longer.
            try:
                sent = os.write(self._descriptor, chunk)
            except OSError:
                sent = 0  # it takes no more, or the connection is gone: the transport knows what to do
            if sent == len(chunk):
                return 0
            chunk = chunk[sent:]
        transport.write(chunk)
        return transport.get_write_buffer_size()

    def end(self) -> None:
        """End it in good order, as far as it goes: the reader comes back."""
        if not self.transport.is_closing():
            self.transport.write(_LAST_CHUNK)
            self.transport.close()
            # It would wait for as long as a reader takes nothing, and so would a stop.
            asyncio.get_running_loop().call_later(_CLOSING, self.transport.abort)


class Hub:
    """Used by the event loop alone."""

    def __init__(self, backlog: int, metrics: FeedMetrics) -> None:
        """``backlog``: bytes that may wait for one connection."""
        self.position: Position | None = None
        """Where the streams stand; None until the database was read."""
        self._backlog = backlog
        self._metrics = metrics
        self._streams: set[Stream] = set()
        self._moved = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._streams)

    def publish(self, frame: Frame) -> None:
        """Give all streams what leads on from where they are; or a heartbeat, which leads nowhere."""
        backlog, chunk = self._backlog, b"%x\r\n%b\r\n" % (len(frame.event), frame.event)
        slow = []
        for stream in self._streams:
            if stream.write(chunk) > backlog:
                slow.append(stream)
        self._metrics.delivered(len(self._streams), len(chunk))
        self._move(frame.position)
        for stream in slow:
            self.leave(stream)
            stream.transport.abort()
            self._metrics.cut_off("slow")
        if slow:
            _log.warning("%d streams were cut off: their readers were too far behind", len(slow))

    def restart(self, position: Position) -> None:
        """Go on from another position, to which nothing leads: the streams end."""
        self._end(self._streams, "history")
        self._move(position)

    def join(self, stream: Stream) -> None:
        """From now on the stream is given every batch; it has all up to ``position``."""
        if self._closed:
            stream.end()
            return
        self._streams.add(stream)
        self._metrics.streams = len(self._streams)

    def leave(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self._metrics.streams = len(self._streams)

    def credentials(self) -> set[bytes]:
        """Whose streams these are: keyed hashes."""
        return {stream.credential for stream in self._streams}

    def withdraw(self, credentials: set[bytes]) -> None:
        """End the streams of credentials that are not valid any more."""
        self._end([stream for stream in self._streams if stream.credential in credentials], "credential")

    def close(self) -> None:
        """End all streams, and those that join from now on."""
        self._closed = True
        self._end(self._streams, "stopping")

    @property
    def moved(self) -> asyncio.Event:
        """What happens when the streams are given something next."""
        return self._moved

    def _move(self, position: Position) -> None:
        self.position = position
        self._metrics.revision = position.revision
        self._moved.set()
        self._moved = asyncio.Event()

    def _end(self, streams: Iterable[Stream], why: str) -> None:
        for stream in list(streams):
            self.leave(stream)
            stream.end()
            self._metrics.cut_off(why)
