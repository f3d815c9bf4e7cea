# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as a process: a thread for each interface, one for reports, and one that tells systemd and people."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import systemd
from ..version import VERSION
from ..wireguard import purge_run
from ..wireguard.clock import read_clocks
from ..wireguard.device import Device, KernelDevice
from ..wireguard.errors import LetheError
from . import logs, memory, status
from .client import Feed, FeedRefused
from .runner import Runner
from .settings import Settings

_log = logging.getLogger(__name__)

_TICK = 1.0  # seconds
_MOST_OFTEN = 0.1  # seconds between two writes of the status
_REWRITE = 10.0  # seconds after which the status is written though nothing has changed
_READY = 30.0  # seconds after which the boot goes on, whatever is still waited for
_REPORT = 30.0  # seconds between reports
_SOON = 3.0  # seconds at most before a report after a connection came back: not all gateways at once
_END = 10.0  # seconds that threads have to end


def link_index(name: str) -> int | None:
    """Which interface has the name; another number for another one of the same name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


class Service:
    """All interfaces of one host."""

    def __init__(
        self,
        settings: Settings,
        credential: str,
        context: ssl.SSLContext | None,
        *,
        run_directory: Path = status.DIRECTORY,
        state_directory: Path = memory.DIRECTORY,
        purge_directory: Path = purge_run.STATE_DIRECTORY,
        device: Callable[[str], Device] = KernelDevice,
        index: Callable[[str], int | None] = link_index,
    ) -> None:
        self._directory = run_directory
        self._purge_directory = purge_directory
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._report_soon = threading.Event()
        self._crashed = False
        self._reports = Feed(settings.url, credential, context)
        self.runners = [
            Runner(
                device(name),
                Feed(settings.url, credential, context),
                settings,
                state_directory=state_directory,
                index=lambda name=name: index(name),  # type: ignore[misc]
                told=self._wake.set,
            )
            for name in settings.interfaces
        ]

    def run(self) -> int:
        """Until ``stop`` or a crash; returns the exit status."""
        threading.excepthook = self._thread_failed
        work = [*((runner.status.name, runner.run) for runner in self.runners), ("reports", self._report_on)]
        threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in work]
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for thread in threads:
            thread.start()
        self._watch()
        systemd.notify("STOPPING=1")
        for runner in self.runners:
            runner.stop()
        self._report_soon.set()
        deadline = time.monotonic() + _END
        for thread in threads:
            # One that is in the middle of something may be left there: the kernel has whole messages only.
            thread.join(max(0.0, deadline - time.monotonic()))
        return 1 if self._crashed else 0

    def stop(self, *_: object) -> None:
        """From a signal's handler, or any thread."""
        self._stopping.set()
        self._wake.set()

    def _watch(self) -> None:
        begin = time.monotonic()
        ready = False
        told: list[object] = []
        written = -_REWRITE
        connected = False
        while not self._stopping.is_set():
            for runner in self.runners:
                runner.look()
            now = time.monotonic()
            words = [] if self._stuck(now) else ["WATCHDOG=1"]
            sentence = "; ".join(runner.status.sentence() for runner in self.runners)
            if [sentence] != told:
                told = [sentence]
                words.append(f"STATUS={sentence}")
            if not ready and (all(runner.status.settled for runner in self.runners) or now > begin + _READY):
                ready = True
                words.append("READY=1")
                _log.info("ready: %s", sentence)
            if words:
                systemd.notify("\n".join(words))
            if self._wake.is_set() or now > written + _REWRITE:
                self._wake.clear()
                written = now
                self._write()
            was, connected = connected, any(runner.status.connected for runner in self.runners)
            if connected and not was:
                self._report_soon.set()
            self._stopping.wait(_MOST_OFTEN)
            self._wake.wait(_TICK)

    def _stuck(self, now: float) -> bool:
        late = [runner.status.name for runner in self.runners if now > runner.due]
        if late:
            _log.critical("%s: nothing moves any more; systemd starts the agent anew", ", ".join(late))
        return bool(late)

    def _write(self) -> None:
        try:
            status.write(
                self._directory, [each.status.as_json(self._oldest_endpoint(each.status.name)) for each in self.runners]
            )
        except OSError as error:
            _log.error("the status cannot be written to %s: %s", self._directory, error.strerror)

    def _oldest_endpoint(self, interface: str) -> float | None:
        """Seconds, as of now, by the purge's last run."""
        try:
            run = purge_run.read_memory(self._purge_directory / f"{interface}.json")
        except LetheError:
            return None
        if run is None or run.last_run is None or run.figures is None or run.figures.oldest_endpoint_age is None:
            return None
        return round(run.figures.oldest_endpoint_age + (read_clocks().boottime - run.last_run) / 1e9, 1)

    def _report_on(self) -> None:
        refused = ""
        while not self._stopping.is_set():
            soon = self._report_soon.wait(_REPORT * random.uniform(0.8, 1.2))  # noqa: S311, not a secret
            self._report_soon.clear()
            if soon:
                self._stopping.wait(random.uniform(0, _SOON))  # noqa: S311
            document = self._report()
            if document is None or self._stopping.is_set():
                continue
            try:
                self._reports.report(document)
                refused = ""
            except FeedRefused as error:
                if refused != str(error):
                    refused = str(error)
                    _log.warning("the registry does not take reports: %s", error)
            except LetheError:
                pass  # that it is away is said by those who wait for it
        self._reports.close()

    def _report(self) -> dict[str, Any] | None:
        """How the interfaces stand; None if there is nobody to tell it, or nothing."""
        standing = [runner.status for runner in self.runners if runner.status.connected and runner.status.position]
        interfaces = [
            {
                "interface": each.name,
                "epoch": each.position.epoch,
                "revision": each.position.revision,
                "peers": each.peers,
                "drift": each.drift,
                "oldest_endpoint": self._oldest_endpoint(each.name),
            }
            for each in standing
            if each.position is not None
        ]
        return {"interfaces": interfaces, "version": VERSION} if interfaces else None

    def _thread_failed(self, caught: threading.ExceptHookArgs) -> None:
        _log.critical("a thread failed", exc_info=caught.exc_value)
        self._crashed = True
        self.stop()


def run(settings: Settings, credential: str, context: ssl.SSLContext | None) -> int:
    """Until SIGTERM or SIGINT; returns the exit status."""
    logs.begin(for_journal="JOURNAL_STREAM" in os.environ)
    service = Service(settings, credential, context)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, service.stop)
    return service.run()
