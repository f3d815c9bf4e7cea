# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots, built once for all who ask. One is never older than the request that it answers: who has just revoked a
key and then brings a snapshot to the gateways must not bring the key back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ...feed.position import Position

_PAUSE = 2.0  # seconds from the beginning of one build to that of the next


class Sealed(NamedTuple):
    """A signed snapshot."""

    position: Position
    document: bytes


class Snapshots:
    """Used by the event loop alone."""

    def __init__(self) -> None:
        self._latest: Sealed | None = None
        self._building: asyncio.Task[None] | None = None
        self._begun = -_PAUSE

    async def since(self, position: Position, build: Callable[[], Awaitable[Sealed]]) -> Sealed:
        """One that is not older than that. Raises what ``build`` raises."""
        while self._latest is None or self._latest.position < position:
            if self._building is None or self._building.done():
                self._building = asyncio.create_task(self._build_next(build))
            # It goes on for the others when one of those who wait gives up.
            await asyncio.shield(self._building)
        return self._latest

    def clear(self) -> None:
        """Build the next one anew: the signing key is another one."""
        self._latest = None
        self._building = None  # what is being built is signed with the one before

    async def _build_next(self, build: Callable[[], Awaitable[Sealed]]) -> None:
        await asyncio.sleep(self._begun + _PAUSE - time.monotonic())
        self._begun = time.monotonic()
        self._latest = None  # before the next one needs memory
        sealed = await build()
        if self._building is asyncio.current_task():
            self._latest = sealed
