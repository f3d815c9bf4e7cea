# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps one interface as the registry says: snapshot, reconcile, stream, resume; one thread, for as long as it is let.

Whatever goes wrong, the peers stay as they are and it is tried again, after pauses that grow and differ from
gateway to gateway. What the kernel has is touched under the host's lock only.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ..feed.events import BATCH, Decoder
from ..feed.position import Position
from ..feed.signing import VerifyKeys
from ..wireguard.clock import read_clocks
from ..wireguard.device import Device
from ..wireguard.errors import InterfaceNotFound, LetheError
from ..wireguard.keys import PublicKey
from ..wireguard.plan import Plan
from ..wireguard.reconcile import follow_peers
from . import memory
from .applying import SnapshotRefused, carry_out, not_the_registrys
from .client import SILENCE, Feed, FeedAway, FeedRefused, PositionGone
from .follower import Changes, Follower, Gap, Replayed
from .status import InterfaceStatus

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0  # seconds
_LONGEST_PAUSE = 30.0
_LONGEST_PAUSE_FOR_PEOPLE = 300.0  # where somebody has to do something first
_LOOK = 1.0  # seconds between looks whether the interface is still the same
_UNPROVEN = 2 * SILENCE  # seconds that a stream may go on without anything in it that is signed and new
_REMEMBER = 5.0  # seconds between writes of the position: a disk need not keep up with the stream
_SUMMARY = 3600.0  # seconds; more often would tell when somebody registered
# How long a thread may be away before it counts as stuck.
_NETWORK = 2 * SILENCE + 30.0  # seconds: names, addresses, TLS, silence
_KERNEL = 180.0  # seconds: a minute for the lock
_KERNEL_PER_PEER = 0.005  # seconds


class Options(Protocol):
    """What of the settings concerns one interface."""

    @property
    def verify_keys(self) -> VerifyKeys: ...
    @property
    def left_alone(self) -> frozenset[PublicKey]: ...
    @property
    def shrink_limit(self) -> int | None: ...
    @property
    def drift_interval(self) -> int: ...


class Runner:
    """One interface and its connection."""

    def __init__(
        self,
        device: Device,
        feed: Feed,
        options: Options,
        *,
        state_directory: Path,
        index: Callable[[], int | None],
        told: Callable[[], None] = lambda: None,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        """``index`` says which the interface is, or None if it is not there: another one of the same name is empty.
        ``told`` is called whenever the status has changed.
        """
        self.status = InterfaceStatus(device.name)
        self.due = time.monotonic() + _NETWORK
        """When (CLOCK_MONOTONIC, seconds) this thread counts as stuck, unless it moves that on."""
        self._device = device
        self._feed = feed
        self._options = options
        self._path = memory.path_of(state_directory, device.name)
        self._index = index
        self._told = told
        self._pauses = 0
        self._first_pause = first_pause
        self._stopping = threading.Event()
        self._settled: int | None = None  # the index of the interface that is known to be as the follower says
        self._drift_due = 0.0
        self._written: Position | None = None  # the position on the disk,
        self._written_at = 0.0  # and since when
        self._summary_due = time.monotonic() + _SUMMARY
        self._summary: Counter[str] = Counter()
        self._follower = Follower(options.verify_keys, known=self._read_position(), left_alone=options.left_alone)

    def run(self) -> None:
        """Until stop is called."""
        while not self._stopping.is_set():
            try:
                self._follow()
            except LetheError as error:
                self._failed(error)
            except OSError as error:  # of the kernel's socket: those of the network are FeedAway
                self._settled = None
                self._failed(LetheError(f"the kernel does not answer: {error.strerror or type(error).__name__}"))
        self._remember(at_once=True)

    def stop(self) -> None:
        """From any thread. ``run`` ends soon."""
        self._stopping.set()
        self._feed.interrupt()

    def look(self) -> None:
        """From any thread, every now and then: see that the interface is still the one that was filled."""
        if self._settled is not None and self._index() != self._settled:
            self._feed.interrupt()

    # --- the loop --------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Once through: as far as it goes without a fault. Raises LetheError, OSError."""
        self._feed.resume()
        if self._stopping.is_set():  # stop has interrupted in vain
            return
        self._expect(_NETWORK)
        if self._follower.applied is None:
            self._take_snapshot()
        elif self._settled is None or self._index() != self._settled:
            counts = self._reconcile().counts()
            _log.info("%s: as of revision %d again: %s", self.status.name, self.status.revision, _told(counts))
        self._stream()

    def _take_snapshot(self) -> None:
        self._set(state="loading")
        self._settled = None  # nothing for look to see to; and whatever a failure leaves in the kernel is looked at
        begin = time.monotonic()
        document = self._feed.snapshot(lambda: self._expect(_NETWORK))
        self._expect(_KERNEL + len(document) / 32 * _KERNEL_PER_PEER)
        whole = self._follower.read_snapshot(document)
        del document
        index = self._present()
        self._leave_alone()
        plan = carry_out(self._device, self._follower, whole, self._options.shrink_limit)
        self._settle(index)
        self._set(position=whole.position, peers=len(whole.peers), heard=read_clocks().boottime)
        self._remember(at_once=True)
        _log.info(
            "%s: snapshot of %d peers at revision %d applied: %s, in %.1f s",
            self.status.name,
            len(whole.peers),
            whole.position.revision,
            _told(plan.counts()),
            time.monotonic() - begin,
        )

    def _stream(self) -> None:
        applied = self._follower.applied
        if applied is None:
            raise ValueError("nothing is applied")
        self._follower.begin_stream()
        decoder = Decoder()
        self._expect(_NETWORK)
        with self._feed.changes(applied) as pieces:
            self._connected()
            proven = time.monotonic()
            for piece in pieces:
                for event in decoder.feed(piece):
                    if event.kind == BATCH and self._take_batch(event.document()):
                        proven = time.monotonic()
                        self._pauses = 0
                if time.monotonic() > proven + _UNPROVEN:
                    raise FeedAway("the feed says nothing that is signed and new")
                self._care()
                self._expect(_NETWORK)
                if self._stopping.is_set():
                    return
        raise FeedAway("the registry has ended the stream of changes")

    def _take_batch(self, document: bytes) -> bool:
        """Whether it led on."""
        changes = self._follower.read_batch(document)
        if changes is None:
            return False
        if changes.plan.changed:
            self._carry_out(changes)
        self._follower.accept(changes)
        self._set(position=changes.position, peers=len(self._follower.peers), heard=read_clocks().boottime)
        return True

    def _carry_out(self, changes: Changes) -> None:
        self._expect(_KERNEL + _KERNEL_PER_PEER * len(changes.configurations))
        settled = self._settled
        if settled is None or self._present() != settled:
            raise FeedAway("the interface was made anew meanwhile")
        self._settled = None  # whatever a failure leaves in the kernel will be looked at
        with self._device.exclusive():
            self._device.apply(changes.plan)
        self._settled = settled
        counts = changes.plan.counts()
        self._summary.update(counts, batches=1)
        self.status.batches += 1
        self.status.changes += _number(counts)
        self.status.delay = max(0.0, time.time() - changes.made / 1000)

    def _care(self) -> None:
        """What is due every now and then."""
        now = time.monotonic()
        if now >= self._drift_due:
            counts = self._reconcile().counts()
            if drift := _number(counts):
                self._set(drift=self.status.drift + drift)
                _log.warning("%s: peers were not as they should be, and are again: %s", self.status.name, _told(counts))
        if now >= self._summary_due:
            self._summary_due = now + _SUMMARY
            if batches := self._summary["batches"]:
                told = _told(self._summary)
                revision = self.status.revision
                _log.info(
                    "%s: %d batches in the last hour, up to revision %d: %s", self.status.name, batches, revision, told
                )
            self._summary.clear()
        self._remember()

    def _reconcile(self) -> Plan:
        """Make the kernel have what the follower says. No guard: it was let pass before."""
        self._expect(_KERNEL + _KERNEL_PER_PEER * len(self._follower.peers))
        self._settled = None
        index = self._present()
        self._leave_alone()
        follower = self._follower
        plan = follow_peers(self._device, follower.peers, left_alone=follower.left_alone, shrink_limit=None)
        self._settle(index)
        return plan

    # --- what is known ---------------------------------------------------------------------------------

    def _present(self) -> int:
        index = self._index()
        if index is None:
            raise InterfaceNotFound(self.status.name)
        return index

    def _leave_alone(self) -> None:
        self._follower.left_alone = not_the_registrys(self._device, self._options.left_alone)

    def _settle(self, index: int) -> None:
        self._settled = index
        interval = self._options.drift_interval
        self._drift_due = time.monotonic() + interval * random.uniform(0.8, 1.2)  # noqa: S311, not a secret

    def _connected(self) -> None:
        away = f", after {self.status.seconds_away():.0f} s without it" if self.status.away_since else ""
        _log.info("%s: follows the registry from revision %d on%s", self.status.name, self.status.revision, away)
        self._set(state="following", connected=True, away_since=None, error=None)

    def _failed(self, error: LetheError) -> None:
        if self._stopping.is_set():
            return
        if isinstance(error, FeedAway) and self._settled is not None and self._index() != self._settled:
            return  # it is the interface, not the registry: see look
        if isinstance(error, (PositionGone, Gap)):
            self._follower.lose()
        text = str(error)
        if text != self.status.error:
            stays = "" if self._follower.applied is None else f"; the peers stay as of revision {self.status.revision}"
            _log.warning("%s: %s%s", self.status.name, text, stays)
        self._set(
            state="waiting",
            connected=False,
            error=text,
            away_since=self.status.away_since or read_clocks().boottime,
            attempts=self.status.attempts + 1,
        )
        for_people = isinstance(error, (SnapshotRefused, FeedRefused, Replayed))
        self._pause(_LONGEST_PAUSE_FOR_PEOPLE if for_people else _LONGEST_PAUSE)

    def _pause(self, longest: float) -> None:
        """Wait: twice as long as the last time, and never as long as the next gateway."""
        pause = min(longest, self._first_pause * 2 ** min(self._pauses, 20)) * random.uniform(0.3, 1)  # noqa: S311
        self._pauses += 1
        end = time.monotonic() + pause
        before = self._index()
        while (left := end - time.monotonic()) > 0 and not self._stopping.wait(min(left, _LOOK)):
            self._expect(_NETWORK)
            if self._index() != before:
                return  # it is there now, or it is another one: that is what was waited for

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self.status, name, value)
        self._told()

    def _expect(self, seconds: float) -> None:
        self.due = time.monotonic() + seconds

    def _read_position(self) -> Position | None:
        try:
            return memory.read_position(self._path)
        except memory.MemoryUnusable as error:
            _log.warning("%s: %s", self.status.name, error)
            return None

    def _remember(self, *, at_once: bool = False) -> None:
        known, now = self._follower.known, time.monotonic()
        if known is None or known == self._written or (now < self._written_at + _REMEMBER and not at_once):
            return
        try:
            memory.write_position(self._path, known)
        except memory.MemoryUnusable as error:
            # What is in the kernel is right all the same.
            _log.warning("%s: %s", self.status.name, error)
        self._written, self._written_at = known, now


def _number(counts: Mapping[str, int]) -> int:
    return counts["added"] + counts["updated"] + counts["removed"]


def _told(counts: Mapping[str, int]) -> str:
    return f"{counts['added']} added, {counts['updated']} updated, {counts['removed']} removed"
