# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows the change log: a thread that reads each change once, signs it once, and hands it to the event loop.

At once when there was silence; under load every 20 to 50 ms, so that what is written to each gateway is worth it.
Heartbeats come from here too, after a look at the database: one that is away is not feigned to be there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from ...feed.batch import MOST_CHANGES, Draft
from ...feed.position import Position
from ..store import Reader, Store
from . import source
from .frames import Frame
from .keys import CurrentSigner
from .source import PositionGone
from .watch import Watch, watching

_LEAST_PAUSE, _MOST_PAUSE = 0.020, 0.050  # seconds between two batches under load
_SHARE = 3  # a pause is so many times as long as handing out the batch before took
_LOOK = 0.5  # seconds between looks at the database in any case
_AGAIN = 0.5  # seconds, give or take half of it, before the database is tried again

A = TypeVar("A")

_log = logging.getLogger(__name__)


class Tail:
    """``stop`` it, off the event loop, while that still runs."""

    def __init__(
        self,
        store: Store,
        signer: CurrentSigner,
        heartbeat: float,
        publish: Callable[[Frame], None],
        restart: Callable[[Position], None],
        reachable: Callable[[bool], None],
    ) -> None:
        """``heartbeat``: seconds. ``publish`` and ``restart`` are called in the event loop that runs now,
        ``reachable`` in the thread.
        """
        self._store = store
        self._signer = signer
        self._heartbeat = heartbeat
        self._publish_frame = publish
        self._restart = restart
        self._reachable = reachable
        self._loop = asyncio.get_running_loop()
        self._position: Position | None = None
        self._published = time.monotonic()
        self._unanswered = 0  # of what the event loop was given
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed-tail", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with watching(self._store.engine) as watch, self._store.reader() as read:
                    self._follow(watch, read)
            except Exception as error:  # noqa: BLE001 - without this thread the process would be of no use
                reason = getattr(error, "orig", None) or error
                _log.warning("the change log cannot be read (%s); trying again", type(reason).__name__, exc_info=error)
                self._reachable(False)
            self._stop.wait(_AGAIN * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret

    def _follow(self, watch: Watch, read: Reader) -> None:
        self._wait_for_loop()
        while not self._stop.is_set():
            begun = time.monotonic()
            position, batch = self._look(read)
            self._reachable(True)
            if batch is not None:
                self._publish(batch)
            elif begun - self._published >= self._heartbeat:
                self._publish(_heartbeat(position, self._store.environment.clock()))
            if batch is None or batch.position.revision - batch.after.revision < MOST_CHANGES:  # else there is more
                watch.wait(max(0.0, min(_LOOK, self._published + self._heartbeat - time.monotonic())))
            self._wait_for_loop()
            if batch is not None:
                pause = min(max(_LEAST_PAUSE, _SHARE * (self._published - begun)), _MOST_PAUSE)
                left = self._published + pause - time.monotonic()
                if left > 0:
                    self._stop.wait(left)

    def _look(self, read: Reader) -> tuple[Position, Draft | None]:
        """Where we stand, and what has changed since; a history to which nothing leads from there is taken up
        where it stands.
        """
        if self._position is not None:
            try:
                return self._position, read(partial(source.batch_after, reader=self._position))
            except PositionGone:
                _log.warning("the history goes on elsewhere, as after a restore; all gateways take a snapshot")
        position = read(source.position)
        self._in_loop(self._restart, position, position)
        return position, None

    def _publish(self, batch: Draft) -> None:
        self._in_loop(self._publish_frame, Frame.of(batch, self._signer.signer), batch.position)

    def _in_loop(self, call: Callable[[A], None], argument: A, position: Position) -> None:
        """Let the event loop call it, by which we stand at a position. This thread waits for that before it looks
        again: batches never pile up before the loop.
        """

        def do() -> None:
            problem: BaseException | None = None
            try:
                call(argument)
                self._position, self._published = position, time.monotonic()
            except BaseException as error:  # noqa: BLE001 - the thread's to raise
                problem = error
            self._answers.put(problem)

        self._loop.call_soon_threadsafe(do)
        self._unanswered += 1

    def _wait_for_loop(self) -> None:
        """Until it has done what it was given. Raises what that raised."""
        while self._unanswered:
            problem = self._answers.get()
            self._unanswered -= 1
            if problem is not None:
                raise problem


def _heartbeat(position: Position, now: float) -> Draft:
    """``now``: seconds since 1970."""
    return Draft(position, position, int(now * 1000), (), ())
