# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All peers as JSON lines (wireguard/inventory.py reads them), streamed from one state of the database.

The gateway's pace is the pace: each chunk is read when the one before has gone. A gateway that takes too long
is cut off, because as long as it reads the database must keep that state.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Generator
from contextlib import closing
from itertools import islice
from typing import Any, cast

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ...wireguard.errors import LetheError
from .. import history, registrations
from ..history import Position
from ..registrations import Registration
from ..store import Store, UseCase
from .problems import TooBusy
from .service import Service

MEDIA_TYPE = "application/jsonl"
_AT_ONCE = 2  # exports: each holds a database connection
_PEERS = 500  # in a chunk
_LONGEST = 300.0  # seconds


class ExportCutOff(LetheError):
    def __init__(self) -> None:
        super().__init__(f"a peers file was cut off: its reader took longer than {_LONGEST:.0f} s")


class Export:
    """One state of the database, being read: ``position`` first, then ``chunks``; ``close`` it in any case."""

    def __init__(self, service: Service, check: UseCase[object]) -> None:
        """``check`` runs before anything is read. Raises TooBusy."""
        if len(service.exports) >= _AT_ONCE:
            raise TooBusy
        service.exports.add(self)
        self._service = service
        self._steps = _steps(service.store, check)
        self._lock = threading.Lock()  # a step that was given up may still be running when it is closed

    async def position(self) -> Position:
        """Raises what the check raises."""
        return cast(Position, await self._service.in_thread(self._step))  # the first step

    async def chunks(self) -> AsyncIterator[bytes]:
        while isinstance(chunk := await self._service.in_thread(self._step), bytes):
            yield chunk

    def close(self) -> None:
        self._service.exports.discard(self)
        with self._lock:
            self._steps.close()

    def _step(self) -> Position | bytes | None:
        with self._lock:
            return next(self._steps, None)


class ExportResponse(StreamingResponse):
    """Streams an export and closes it."""

    def __init__(self, export: Export, position: Position) -> None:
        headers = {"lethe-epoch": position.epoch, "lethe-revision": str(position.revision)}
        super().__init__(export.chunks(), headers=headers, media_type=MEDIA_TYPE)
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.wait_for(super().__call__(scope, receive, send), _LONGEST)
        except asyncio.TimeoutError:
            raise ExportCutOff from None
        finally:
            self._export.close()


def _steps(store: Store, check: UseCase[object]) -> Generator[Position | bytes, None, None]:
    with store.reading() as tx:
        check(tx)
        yield history.position(tx)
        with closing(registrations.exported(tx)) as peers:
            while some := list(islice(peers, _PEERS)):
                yield "".join(map(_line, some)).encode("ascii")


def _line(registration: Registration) -> str:
    peer: dict[str, Any] = {"public_key": registration.public_key.text, "allowed_ips": registration.addresses}
    if registration.preshared_key is not None:
        peer["preshared_key"] = registration.preshared_key.text
    return json.dumps(peer, separators=(",", ":")) + "\n"
