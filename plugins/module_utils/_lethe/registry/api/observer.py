# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Around every request: an id, bounds, one line in the log, metrics, and an answer whatever happens.

What is logged and counted: the route's template, the method, the status, the time it took. Never a path, a
header, a body or where the request came from.
"""

from __future__ import annotations

import logging
import secrets
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...wireguard.errors import LetheError
from ..errors import Refused
from . import problems
from .metrics import RequestMetrics
from .problems import BodyTooLarge, InternalError, TooBusy

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_NO_ROUTE = "none"
_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_BAD_LENGTH = -1

_log = logging.getLogger(__name__)


class Observer:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, at_once: int) -> None:
        """``at_once``: requests; more are turned away: a queue that only grows helps nobody."""
        self._app = app
        self._metrics = metrics
        self._at_once = at_once
        self._in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        self._in_hand += 1
        try:
            if self._in_hand > self._at_once:
                await answer.refuse(TooBusy(), scope, receive)
            elif _content_length(scope) > BodyTooLarge.limit:
                await answer.refuse(BodyTooLarge(), scope, receive)
            else:
                await self._app(scope, _bounded(receive), answer.send)
        except Exception as error:  # the last resort: whatever it is, it is logged and answered
            _log_failure(error, request_id)
            if answer.status:
                raise  # too late to say so: the connection is cut, so that nobody takes half an answer for a whole
            await answer.refuse(InternalError(), scope, receive)
        finally:
            self._in_hand -= 1
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", _NO_ROUTE)
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._metrics.answered(route, method, answer.status, seconds)
            _log.info(
                "answered",
                extra={
                    "route": route,
                    "method": method,
                    "status": answer.status,
                    "ms": round(seconds * 1000, 1),
                    "request": request_id,
                },
            )


class _Answer:
    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0  # until it has begun

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *_HEADERS, (b"request-id", self._request_id.encode("ascii"))]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, error: Refused, scope: Scope, receive: Receive) -> None:
        response = problems.answer(problems.refusal(error), self._request_id, problems.headers_of(error))
        await response(scope, receive, self.send)


def _log_failure(error: Exception, request_id: str) -> None:
    if isinstance(error, LetheError):
        _log.error("%s", error, extra={"request": request_id})  # says what to do, and names nobody
    else:
        _log.error("a request failed", exc_info=error, extra={"request": request_id})


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            try:
                return int(value)
            except ValueError:
                return _BAD_LENGTH
    return 0


def _bounded(receive: Receive) -> Receive:
    """``receive`` for bodies whose length is not announced. Raises the HTTPException for 413."""
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > BodyTooLarge.limit:
                raise HTTPException(BodyTooLarge.status)
        return message

    return receive_bounded
