# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 with bounds that uvicorn's parser does not have: on the size of a head, and on the time that a request
may take to arrive. What is not HTTP is answered with a problem too.
"""

from __future__ import annotations

import asyncio
import http
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import Refused
from . import problems
from .problems import HeadTooLarge, Malformed

_ARRIVES_WITHIN = 30.0  # seconds, from the connection or the first byte to the end of the body
_GOODBYE = 2.0  # seconds that the other end has to answer the end of TLS when the server stops


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head = 0  # bytes of the current request's line and header fields
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self._expect()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._arrived()
        super().on_message_complete()

    def shutdown(self) -> None:
        """The server stops: the connection ends when its answer is sent."""
        super().shutdown()
        self.loop.call_later(_GOODBYE, self._hang_up)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - we say it in our own words
        self._refuse(HeadTooLarge() if self._head > HeadTooLarge.limit else Malformed())

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HeadTooLarge.limit:
            raise ValueError("head too large")  # httptools stops parsing, and we end in send_400_response

    def _expect(self) -> None:
        self._arrived()
        self._overdue = self.loop.call_later(_ARRIVES_WITHIN, self._give_up)

    def _arrived(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _give_up(self) -> None:
        self.transport.close()

    def _hang_up(self) -> None:
        """Wait no longer for the other end to agree to the end of TLS, which could take half a minute: a client that
        keeps its connection for later does not see that it has ended. What it has yet to take of an answer, it may.
        """
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.loop.call_later(_GOODBYE, self._hang_up)

    def _refuse(self, error: Refused) -> None:
        body = problems.refusal(error).model_dump_json(exclude_none=True).encode()
        head = (
            f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}\r\n"
            f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
