# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's agent, on an interface in memory, that tells when it had what.

    feed_agent.py follow URL TOKEN-FILE VERIFY-KEY DIRECTORY
    feed_agent.py break URL TOKEN-FILE VERIFY-KEY DIRECTORY

``follow`` is the process that `lethe agent run` is, with all its threads. ``break`` is one interface of it, whose
connection can be cut: at the line ``away`` it is, and at ``back REVISION`` it may connect again. Each prints a JSON
object when its snapshot is applied, ``break`` another one when it has the revision: seconds and peers. Ends with
standard input.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _lethe.agent.client import Feed
from _lethe.agent.runner import Runner
from _lethe.agent.service import Service
from _lethe.agent.settings import Settings
from _lethe.feed.position import Position
from _lethe.feed.signing import VerifyKeys
from _lethe.wireguard.memory_device import MemoryDevice

_LOOK = 0.001  # seconds
_DRIFT_INTERVAL = 60  # seconds: five times as often as by default, so that a short measurement has one


class Line(Feed):
    """A way to the registry that can be cut."""

    def __init__(self, url: str, credential: str) -> None:
        super().__init__(url, credential, None)
        self._whole = threading.Event()
        self._whole.set()
        self.connecting = 0.0  # CLOCK_MONOTONIC, seconds: when it was tried last

    @contextlib.contextmanager
    def changes(self, after: Position) -> Iterator[Iterator[bytes]]:
        self._whole.wait()
        self.connecting = time.monotonic()
        with super().changes(after) as pieces:
            yield pieces

    def cut(self) -> None:
        self._whole.clear()
        self.interrupt()

    def mend(self) -> None:
        self._whole.set()


def follow(settings: Settings, credential: str, directory: Path) -> None:
    device = MemoryDevice()
    service = Service(
        settings,
        credential,
        None,
        run_directory=directory / "run",
        state_directory=directory / "state",
        purge_directory=directory / "purge",
        device=lambda _: device,
        index=lambda _: 1,
    )
    begun = time.monotonic()
    threading.Thread(target=service.run, daemon=True).start()
    (runner,) = service.runners
    _wait(lambda: runner.status.connected)
    _say(seconds=time.monotonic() - begun, peers=_peers(device))
    sys.stdin.read()


def with_breaks(settings: Settings, credential: str, directory: Path) -> None:
    line = Line(settings.url, credential)
    device = MemoryDevice()
    runner = Runner(device, line, settings, state_directory=directory, index=lambda: 1, first_pause=0.01)
    begun = time.monotonic()
    threading.Thread(target=runner.run, daemon=True).start()
    _wait(lambda: runner.status.connected)
    _say(seconds=time.monotonic() - begun, peers=_peers(device))
    for order in sys.stdin:
        if order == "away\n":
            line.cut()
            _wait(lambda: not runner.status.connected)
            print("away", flush=True)
            continue
        revision, before = int(order.partition(" ")[2]), runner.status.batches
        line.mend()
        _wait(lambda revision=revision: runner.status.revision == revision)
        took = time.monotonic() - line.connecting
        _say(seconds=took, peers=_peers(device), batches=runner.status.batches - before)


def _peers(device: MemoryDevice) -> int:
    return device.read(lambda found: sum(1 for _ in found))


def _wait(true: Callable[[], object]) -> None:
    while not true():
        time.sleep(_LOOK)


def _say(**what: float) -> None:
    print(json.dumps(what), flush=True)


def main(mode: str, url: str, token_file: str, verify_key: str, directory: str) -> None:
    keys = VerifyKeys.from_texts([verify_key])
    settings = Settings(url, keys, ("wg0",), drift_interval=_DRIFT_INTERVAL)
    {"follow": follow, "break": with_breaks}[mode](settings, Path(token_file).read_text().strip(), Path(directory))


if __name__ == "__main__":
    main(*sys.argv[1:])
