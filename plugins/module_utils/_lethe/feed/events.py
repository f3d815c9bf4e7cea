# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-sent events (WHATWG HTML, section 9.2), as far as the feed has them: the id is the position that a reader has
reached with the event, the data a signed batch in base64.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from .errors import DocumentRefused
from .position import Position

MEDIA_TYPE = "text/event-stream"
BATCH = "batch"
"""The kind of all our events."""
LARGEST = 1 << 20
"""Bytes of one event at most."""

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a carriage return at the end may be half of one
_WHAT = "the stream of events"


class Event(NamedTuple):
    id: str  # the last one that was given, in this event or one before
    kind: str
    data: bytes

    def document(self) -> bytes:
        """The signed document that it carries. Raises DocumentRefused."""
        try:
            return base64.b64decode(self.data, validate=True)
        except binascii.Error:
            raise DocumentRefused(_WHAT, "has data that is not base64", "see what is between here and there") from None


def encode(position: Position, document: bytes) -> bytes:
    """A batch as an event."""
    data = base64.b64encode(document)
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (position.text.encode("ascii"), BATCH.encode("ascii"), data)


class Decoder:
    """Takes the stream in whatever pieces it comes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._looked = 0  # bytes of the buffer in which no line ends
        self._id = ""
        self._kind = ""
        self._data: list[bytes] = []
        self._size = 0  # bytes of the data

    def feed(self, piece: bytes) -> list[Event]:
        """The events that end in this piece. Raises DocumentRefused for one that is too large."""
        self._buffer += piece
        events = []
        start = 0
        for end in _LINE_END.finditer(self._buffer, self._looked):
            event = self._line(bytes(self._buffer[start : end.start()]))
            start = end.end()
            if event is not None:
                events.append(event)
        del self._buffer[:start]
        self._looked = max(0, len(self._buffer) - 1)
        self._bound(len(self._buffer))
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            event = Event(self._id, self._kind or "message", b"\n".join(self._data)) if self._data else None
            self._kind, self._data, self._size = "", [], 0
            return event
        name, dummy, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._bound(len(value))
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"event":
            self._kind = value.decode("utf-8", "replace")
        return None  # a comment, or a field that is not known

    def _bound(self, more: int) -> None:
        if self._size + more > LARGEST:
            raise DocumentRefused(
                _WHAT, f"has an event of more than {LARGEST} bytes", "see what is between here and there"
            )
