# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client as a process: steps its runner, tells systemd and people how it stands, does what people ask."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import systemd
from ..agent import logs
from ..wireguard.clock import read_clocks
from ..wireguard.errors import LetheError
from ..wireguard.interface import remove_interface
from ..wireguard.keys import PublicKey
from ..wireguard.whole_files import write_whole
from . import memory
from .registry import Http, KeyGone, Registry
from .rotation import Registration
from .runner import Runner
from .settings import Settings
from .tunnel import KernelTunnel

_log = logging.getLogger(__name__)

STATUS = memory.IN_MEMORY / "status.json"
ROTATE, LEAVE = signal.SIGUSR1, signal.SIGUSR2
STALE = 60.0  # seconds after which nobody writes the status any more
_TICK = 1.0  # seconds between steps at most
_REWRITE = 15.0  # seconds after which the status is written though nothing has changed


class NotRunning(LetheError):
    def __init__(self) -> None:
        super().__init__("no client runs here; see what became of it with: systemctl status lethe-client")


class Service:
    """One client."""

    def __init__(
        self,
        runner: Runner,
        gateway: Callable[[], str | None] = lambda: None,
        status: Path = STATUS,
    ) -> None:
        """``gateway`` names the one in use."""
        self.runner = runner
        self._gateway = gateway
        self._status = status
        self._wake = threading.Event()
        self._stopping = False
        self._asked: list[Callable[[], None]] = []
        self._told: tuple[dict[str, Any], float] | None = None

    def run(self) -> int:
        """Until ``stop``, or after having left; returns the exit status."""
        left = ready = False
        try:
            while not self._stopping and not left:
                self._wake.clear()
                while self._asked:
                    self._do(self._asked.pop(0))
                wait = self.runner.step()
                left = self.runner.state is None
                self._tell()
                if not ready:
                    ready = systemd.notify("READY=1") or True
                systemd.notify("WATCHDOG=1")
                if not left:
                    self._wake.wait(min(max(wait, 0), _TICK))
        finally:
            if not left:  # who waits for that finds it in the status
                self._tell_nothing()
        systemd.notify("STOPPING=1")
        return 0

    def stop(self, *_: object) -> None:
        """From a signal's handler, as the next two."""
        self._stopping = True
        self._wake.set()

    def rotate(self, *_: object) -> None:
        self._asked.append(self.runner.rotate)
        self._wake.set()

    def leave(self, *_: object) -> None:
        self._asked.append(self.runner.leave)
        self._wake.set()

    def _do(self, what: Callable[[], None]) -> None:
        try:
            what()
        except LetheError as error:
            _log.error("%s", error)

    def _tell(self) -> None:
        """For people. It names the gateway, and nothing of this client."""
        state, standing = self.runner.state, self.runner.standing
        document = {
            "stage": "left" if state is None else state.stage.value,
            "due": None if state is None else round(state.due),
            "gateway": self._gateway(),
            "connected": self.runner.is_connected(),
            "problem": standing.problem,
            "slug": standing.slug,
            "keys": self.runner.keys,
            "pid": os.getpid(),
            "began": _began(os.getpid()),
        }
        now = time.monotonic()
        if self._told is not None and self._told[0] == document and now < self._told[1] + _REWRITE:
            return
        try:
            self._status.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            written = {**document, "written": read_clocks().boottime}
            write_whole(self._status, json.dumps(written).encode())
            self._told = (document, now)
        except OSError as error:
            _log.error("the status cannot be written to %s: %s", self._status, error.strerror)

    def _tell_nothing(self) -> None:
        try:
            self._status.unlink(missing_ok=True)
        except OSError as error:
            _log.error("the status in %s cannot be removed: %s", self._status, error.strerror)


def read_status(path: Path = STATUS) -> dict[str, Any]:
    """What a running client wrote last, or one that has just left. Raises NotRunning."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        age = (read_clocks().boottime - document.pop("written")) / 1e9
        runs = document["stage"] == "left" or _began(document["pid"]) == document["began"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise NotRunning from None
    if not 0 <= age <= STALE or not runs:
        raise NotRunning
    return document


def send(document: dict[str, Any], number: signal.Signals) -> None:
    """Send a signal to the client that wrote this status, and to no process that has got its number since. Raises
    NotRunning.
    """
    try:
        process = os.pidfd_open(document["pid"])
        try:
            if _began(document["pid"]) != document["began"]:
                raise NotRunning
            signal.pidfd_send_signal(process, number)
        finally:
            os.close(process)
    except (FileNotFoundError, ProcessLookupError):
        raise NotRunning from None


def _began(pid: int) -> int:
    """When a process began, in clock ticks after the boot: a number that is used again has another. Raises OSError."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[19])  # starttime, proc_pid_stat(5)


class ReplacingRegistry(Registry):
    """It has the keys removed whose private halves this host has lost, before it gets a new one."""

    def register(self, public_key: PublicKey) -> Registration:
        """Raises StateUnusable, and what is raised for the others."""
        self.delete_lost(public_key)
        return super().register(public_key)

    def delete_lost(self, *kept: PublicKey) -> None:
        """Raises StateUnusable, Away, Refused."""
        before = memory.registered_keys()
        for lost in before:
            if lost not in kept:
                with contextlib.suppress(KeyGone):
                    self.delete(lost)
        if before:
            memory.keep_registered_keys(kept, before)


def registry(settings: Settings, credential: str) -> ReplacingRegistry:
    """Raises LetheError."""
    from ..https import tls_context

    return ReplacingRegistry(Http(settings.url, credential, tls_context(settings.ca_file)))


def made(settings: Settings, credential: str) -> tuple[Runner, KernelTunnel]:
    """Raises LetheError."""
    _remove_former_interface(settings.interface)
    tunnel = KernelTunnel(settings.tunnel)
    kept = (memory.Memory if settings.keys_on_disk else memory.FleetingMemory)(*settings.directories)
    kept.tidy_up()
    return Runner(registry(settings, credential), tunnel, kept, settings.period), tunnel


def forget(settings: Settings) -> None:
    """Make there be no interface and no key on this host, whatever the registry has. Raises LetheError."""
    _remove_former_interface(settings.interface)
    KernelTunnel(settings.tunnel).take_down()
    memory.Memory(*settings.directories).forget()


def _remove_former_interface(name: str) -> None:
    """The one that another setting named: it would go on with a key that nobody changes. Raises LetheError."""
    former = memory.interface()
    if former not in (None, name):
        remove_interface(former)
        _log.info("the interface is called %s now; %s was removed", name, former)
    if former != name:
        memory.keep_interface(name)


def run(settings: Settings, credential: str) -> int:
    """Until SIGTERM or SIGINT; returns the exit status. Raises LetheError."""
    logs.begin(for_journal="JOURNAL_STREAM" in os.environ)
    runner, tunnel = made(settings, credential)
    wish = memory.Wish(credential)
    if not wish.is_there():
        wish.drop()
    elif runner.state is not None:
        runner.leave()
    else:
        _log.warning(
            "this host was told to log out, and registers no key with the credential that it had then. To be a client "
            "again: lethe client logout, and another roll-out"
        )
        systemd.notify("READY=1")
        return 0
    service = Service(runner, lambda: None if tunnel.gateway is None else tunnel.gateway.name)
    handlers = {
        signal.SIGTERM: service.stop,
        signal.SIGINT: service.stop,
        ROTATE: service.rotate,
        LEAVE: service.leave,
    }
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return service.run()
