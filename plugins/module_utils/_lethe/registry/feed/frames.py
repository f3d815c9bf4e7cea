# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches on their way: read and signed once, and the same bytes for every gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ...feed import batch as batches
from ...feed import events
from ...feed.batch import Draft
from ...feed.position import Position
from ...feed.signing import Signer

_KEPT = 8 << 20  # bytes of frames that are kept for those who come back


class Frame(NamedTuple):
    after: Position  # where a reader must stand
    position: Position  # where it then stands
    event: bytes

    @classmethod
    def of(cls, draft: Draft, signer: Signer) -> Frame:
        event = events.encode(draft.position, batches.encode(draft, signer))
        return cls(draft.after, draft.position, event)


class Frames:
    """Those that somebody who comes back may need. After a restart of the feed a thousand gateways stand at one
    place: what leads on from there is read once. Used by the event loop alone.
    """

    def __init__(self) -> None:
        self._kept: dict[Position, Frame] = {}
        self._bytes = 0
        self._reading: dict[Position, asyncio.Task[Frame | None]] = {}

    def remember(self, frame: Frame) -> None:
        if frame.after in self._kept:
            return
        self._kept[frame.after] = frame
        self._bytes += len(frame.event)
        while self._bytes > _KEPT:
            self._bytes -= len(self._kept.pop(next(iter(self._kept))).event)

    def clear(self) -> None:
        self._kept.clear()
        self._reading.clear()
        self._bytes = 0

    async def after(self, reader: Position, read: Callable[[Position], Awaitable[Frame | None]]) -> Frame | None:
        """What leads on from there, remembered or ``read``; None if nothing does yet. Raises what that raises."""
        if reader in self._kept:
            return self._kept[reader]
        reading = self._reading.get(reader)
        if reading is None:
            reading = self._reading[reader] = asyncio.ensure_future(read(reader))
        try:
            # It goes on for the others when one of those who wait gives up.
            frame = await asyncio.shield(reading)
        finally:
            wanted = self._reading.get(reader) is reading  # else it was cleared meanwhile, or others have seen to it
            if wanted:
                del self._reading[reader]
        if wanted and frame is not None:
            self.remember(frame)
        return frame
