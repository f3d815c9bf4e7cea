# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the feed's requests share: the store, the streams, what is being read for those that catch up."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request

from ...feed import snapshot
from ...feed.position import Position
from .. import credentials, reports
from ..api.problems import DatabaseAway
from ..api.rates import Rates
from ..api.service import Backend
from ..errors import DatabaseUnusable
from ..reports import Report
from ..settings import FeedSettings
from ..store import Store
from . import source
from .frames import Frame, Frames
from .hub import Hub
from .keys import CurrentSigner
from .metrics import FeedMetrics
from .snapshots import Sealed, Snapshots

_LOOK = 2.0  # seconds between looks whether the credentials of streams are still valid
_REACHED_WITHIN = 5.0  # seconds
_STORE = 0.5  # seconds between the writing down of reports: SQLite has one writer at a time, and the API needs it

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FeedService(Backend):
    settings: FeedSettings
    signer: CurrentSigner
    metrics: FeedMetrics
    hub: Hub
    snapshots: Snapshots = field(default_factory=Snapshots)
    frames: Frames = field(default_factory=Frames)
    reports: dict[str, Report] = field(default_factory=dict)  # by label; not written down yet
    reported: asyncio.Event = field(default_factory=asyncio.Event)  # whether there are any

    @classmethod
    def over(cls, store: Store, settings: FeedSettings, signer: CurrentSigner) -> FeedService:
        """Raises InvalidValue."""
        metrics = FeedMetrics()
        return cls(
            store=store,
            rates=Rates(settings),
            settings=settings,
            signer=signer,
            metrics=metrics,
            hub=Hub(settings.backlog, metrics),
        )

    def publish(self, frame: Frame) -> None:
        """Give the streams what leads on from where they stand."""
        self.hub.publish(frame)
        if frame.after != frame.position:  # a heartbeat leads nowhere
            self.frames.remember(frame)

    def restart(self, position: Position) -> None:
        """Nothing leads there from where the streams stand."""
        self.hub.restart(position)
        self.frames.clear()

    def reload(self) -> None:
        """Sign with what the key's file holds now. Raises InvalidValue; nothing changes then."""
        self.signer.reload()
        self.frames.clear()
        self.snapshots.clear()

    async def snapshot(self, position: Position) -> Sealed:
        """One that is not older than a position of the registry."""
        return await self.snapshots.since(position, self._build_snapshot)

    async def reach(self, position: Position) -> None:
        """Wait until changes up to there are followed. Raises DatabaseAway."""
        hub = self.hub
        try:
            async with asyncio.timeout(_REACHED_WITHIN):
                while hub.position is None or hub.position < position:
                    await hub.moved.wait()
        except TimeoutError:
            raise DatabaseAway(
                "what was changed has no revision yet; see whether the registry itself runs, then try again"
            ) from None

    async def frame_after(self, reader: Position) -> Frame | None:
        """What leads on from there; None if nothing does yet. Raises PositionGone."""
        return await self.frames.after(reader, self._read_frame)

    async def is_ready(self) -> bool:
        """Whether the change log is followed, in a database of this version's schema."""
        return self.hub.position is not None and await super().is_ready()

    def keep(self, label: str, report: Report) -> None:
        """Let it be written down, in place of an earlier one."""
        self.reports[label] = report
        self.reported.set()

    async def keep_reports(self) -> None:
        """Write down what gateways report, again and again; run it as a task."""
        while True:
            await self.reported.wait()
            await asyncio.sleep(_STORE)
            await self.store_reports()

    async def store_reports(self) -> None:
        """Write down what gateways have reported; what cannot be written now stays for later."""
        self.reported.clear()
        if not self.reports:
            return
        latest = dict(self.reports)
        self.reports.clear()
        try:
            await self.write(lambda tx: reports.keep(tx, latest))
        except (SQLAlchemyError, DatabaseUnusable) as error:
            _log.warning("reports could not be written (%s); trying again", type(error).__name__)
            for label, report in {**latest, **self.reports}.items():
                self.keep(label, report)

    async def check_credentials(self) -> None:
        """End the streams whose credential was withdrawn, again and again; run it as a task."""
        while True:
            await asyncio.sleep(_LOOK)
            if not len(self.hub):
                continue
            try:
                valid = await self.read(credentials.of_gateways)
            except (SQLAlchemyError, DatabaseUnusable):
                continue  # the tail says so; what was valid stays so until it is known to be not
            self.hub.withdraw(self.hub.credentials() - valid)

    async def _build_snapshot(self) -> Sealed:
        def build() -> Sealed:
            made = self.store.read(source.snapshot)
            return Sealed(made.position, snapshot.encode(made, self.signer.signer))

        sealed = await self.in_thread(build)
        self.metrics.snapshots.inc()
        return sealed

    async def _read_frame(self, reader: Position) -> Frame | None:
        def read() -> Frame | None:
            batch = self.store.read(lambda tx: source.batch_after(tx, reader))
            return None if batch is None else Frame.of(batch, self.signer.signer)

        return await self.in_thread(read)


def service_of(request: Request) -> FeedService:
    return cast(FeedService, request.app.state.service)
