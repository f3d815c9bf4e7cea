# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateways ask of the feed: a snapshot, what follows it, and to hear what they have applied."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ...feed import events
from ...feed import snapshot as snapshots
from ...feed.position import Position
from ...wireguard.errors import InvalidValue, LetheError
from ..api.bodies import ReportBody
from ..api.caller import Gateway
from ..api.metrics import CONTENT_TYPE
from ..api.problems import TooBusy
from ..credentials import Credential
from ..errors import Refused
from ..store import Transaction
from . import source
from .hub import Stream
from .service import FeedService, service_of
from .source import PositionGone

_CHUNK = 256 * 1024  # bytes of a snapshot, written at once
_LONGEST = 300.0  # seconds that a snapshot may take to be fetched
_CATCHES_UP_WITHIN = 60.0  # seconds that a reader may take for one batch while it catches up
_UNANSWERED = 30_000  # ms after which a connection counts as dead whose other end acknowledges nothing

router = APIRouter(prefix="/v1/feed")
metrics = APIRouter()


class PositionMissing(Refused):
    slug, title, status = "position-missing", "Where to go on from is not said", 400
    detail = "say where to go on from: Last-Event-ID: EPOCH.REVISION, as a snapshot or the feed gave it"


class ReaderTooSlow(LetheError):
    def __init__(self, seconds: float) -> None:
        super().__init__(f"a reader was cut off: it took longer than {seconds:.0f} s")


@router.get("/snapshot")
async def snapshot(request: Request, gateway: Gateway, if_none_match: Annotated[str, Header()] = "") -> Response:
    """All peers, signed. It is not older than the request."""
    service = service_of(request)
    position = await gateway.read(lambda tx, _: source.settled(tx))
    await service.reach(position)
    if if_none_match == _etag(position):
        return Response(status_code=304, headers={"etag": if_none_match})
    sealed = await service.snapshot(position)
    headers = {"etag": _etag(sealed.position), "content-length": str(len(sealed.document))}
    return _Bounded(_pieces(sealed.document), headers=headers, media_type=snapshots.MEDIA_TYPE)


@router.get("/changes")
async def changes(request: Request, gateway: Gateway, last_event_id: Annotated[str, Header()] = "") -> Response:
    """What has changed since, and then what changes, as server-sent events."""
    service = service_of(request)

    def look(tx: Transaction, _credential: Credential) -> Position:
        try:
            reader = Position.from_text(last_event_id)
        except InvalidValue:
            raise PositionMissing from None
        source.require(tx, reader)
        return reader

    reader = await gateway.read(look)
    if len(service.hub) >= service.settings.streams:
        raise TooBusy
    return _Changes(service, reader, gateway.credential)


@router.post("/report", status_code=204)
async def report(request: Request, gateway: Gateway, body: ReportBody) -> None:
    """What the gateway has applied. It is written down a moment later; a later report takes its place."""
    label, now = await gateway.read(lambda tx, credential: (credential.label, tx.now))
    service_of(request).keep(str(label), body.report(now))


@metrics.get("/metrics")
async def get_metrics(request: Request) -> Response:
    """Numbers only, for Prometheus."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE)


def _etag(position: Position) -> str:
    return f'"{position.text}"'


async def _pieces(document: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(document), _CHUNK):
        yield document[start : start + _CHUNK]


class _Bounded(StreamingResponse):
    """Cut off when it takes too long: what it sends is held in memory."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.wait_for(super().__call__(scope, receive, send), _LONGEST)
        except asyncio.TimeoutError:
            raise ReaderTooSlow(_LONGEST) from None


class _Changes(Response):
    """First what the reader lacks, then the hub writes to its connection."""

    media_type = events.MEDIA_TYPE

    def __init__(self, service: FeedService, reader: Position, credential: bytes) -> None:
        super().__init__(headers={"x-accel-buffering": "no", "connection": "close"})  # nginx would wait for more
        del self.headers["content-length"]
        self._service = service
        self._reader = reader
        self._credential = credential

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope["state"]["transport"]
        # The other end may be gone without a word.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        hub, stream = self._service.hub, Stream(transport, self._credential)
        try:
            if await self._catch_up(stream, send):
                hub.join(stream)
                while (await receive())["type"] != "http.disconnect":
                    pass
        except asyncio.TimeoutError:
            transport.abort()
            raise ReaderTooSlow(_CATCHES_UP_WITHIN) from None
        finally:
            hub.leave(stream)
        await send({"type": "http.response.body"})

    async def _catch_up(self, stream: Stream, send: Send) -> bool:
        """Bring the reader to where the streams are; whether it is there, at this very moment."""
        hub = self._service.hub
        while self._reader != hub.position:
            moved = hub.moved
            try:
                frame = await self._service.frame_after(self._reader)
            except PositionGone:
                return False  # it learns so when it comes back
            if stream.transport.is_closing():
                return False
            if frame is None:
                await moved.wait()  # the database is ahead of this process
                continue
            body = {"type": "http.response.body", "body": frame.event, "more_body": True}
            await asyncio.wait_for(send(body), _CATCHES_UP_WITHIN)
            self._reader = frame.position
        return True
