# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One purge run: lock, read, select, delete and reinstate, remember."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Container
from pathlib import Path

from .bulk import collection_paused
from .clock import ClockReading, read_clocks
from .device import Device
from .errors import LetheError
from .keys import PublicKey
from .lock import RUN_DIRECTORY
from .purge import SESSION_LIMIT, Figures, Memory, idle_after_from, select
from .whole_files import write_whole

STATE_DIRECTORY = RUN_DIRECTORY / "purge"


class StateUnusable(LetheError):
    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}; it may be removed: the run after it starts to remember anew")


@collection_paused()
def purge(
    device: Device,
    *,
    idle_after: int = SESSION_LIMIT,
    exempt: Container[PublicKey] = (),
    state_directory: Path = STATE_DIRECTORY,
    check: bool = False,
    now: ClockReading | None = None,
) -> Figures:
    """Purge the idle peers and ghosts of an interface; with ``check``, only count them.

    ``now`` is for tests. Raises InvalidValue for an ``idle_after`` (seconds) below the session limit,
    StateUnusable, and the errors of the kernel.
    """
    idle_after_from(idle_after)
    begin = time.perf_counter()
    path = state_directory / f"{device.name}.json"
    with contextlib.nullcontext() if check else device.exclusive():
        memory = _memory_or_none(path) or Memory()
        clocks = now or read_clocks()
        selection = device.read_heard(
            lambda states: select(states, memory, clocks, idle_after=idle_after, exempt=exempt)
        )
        longest_lock = 0.0
        if selection.peers and not check:
            longest_lock = device.reinstate(selection.peers)
        figures = dataclasses.replace(
            selection.figures, duration=time.perf_counter() - begin, longest_lock=longest_lock
        )
        if not check:
            _write_memory(path, dataclasses.replace(selection.memory, figures=figures))
            device.forget_paths(selection.addresses)
    return figures


def read_memory(path: Path) -> Memory | None:
    """What the last run left, or None if there was none. Raises StateUnusable."""
    try:
        return Memory.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateUnusable(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StateUnusable(path, "is not what a purge run writes") from None


def _memory_or_none(path: Path) -> Memory | None:
    try:
        return read_memory(path)
    except StateUnusable:
        # Without its memory a run spares ghosts once more for their time; without a run nothing is forgotten.
        return None


def _write_memory(path: Path, memory: Memory) -> None:
    """Replace the file whole. The service's user must be able to replace what root wrote by hand, and to
    read it: the file gets the owner of its directory. The key-sync agent, which reports the figures, is in the group.
    """
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        content = json.dumps(memory.as_json()).encode("ascii")
        directory = path.parent.stat()
        as_root = os.geteuid() == 0
        owner, group = (directory.st_uid, directory.st_gid) if as_root else (None, None)
        write_whole(path, content, mode=0o640, owner=owner, group=group)
    except OSError as error:
        raise StateUnusable(path, f"cannot be written ({error.strerror})") from None
