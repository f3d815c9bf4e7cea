# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive the command: found again, and stopped, only when they are certainly ours."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path


def find(pid_file: Path) -> int | None:
    """The process that was started with this pid file, or None.

    A number in a file proves nothing after a crash or a restart of the host, so the process must also
    carry the pid file's whole path among its arguments. When the file is gone or wrong, every process is
    looked at: that finds what was orphaned when somebody deleted the run directory.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        pid = None
    if pid is not None and _has_argument(pid, pid_file):
        return pid
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _has_argument(int(entry.name), pid_file):
            return int(entry.name)
    return None


def _has_argument(pid: int, pid_file: Path) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        # A process that has ended but was not yet waited for has no arguments any more.
    except OSError:
        return False
    # Only programs we start take "-pidfile PATH" or "--pid-file PATH"; an editor on the file does not.
    marker = os.fsencode(pid_file)
    return any(
        value == marker and option in (b"-pidfile", b"--pid-file") for option, value in itertools.pairwise(arguments)
    )


def stop(pid_file: Path, patience: float = 5.0) -> bool:
    """Stop the process of this pid file and remove the file; true if there was one. Seconds until SIGKILL."""
    stopped = False
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = find(pid_file)
        if pid is None:
            break
        stopped = True
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        if wait_for_end(pid, pid_file, patience):
            break
    pid_file.unlink(missing_ok=True)
    return stopped


def wait_for_end(pid: int, pid_file: Path, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while _has_argument(pid, pid_file):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
