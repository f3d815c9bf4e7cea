# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories that are built once, named by what went into them, and never seen half-built."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds after its last use during which a directory is never removed: a running fleet may need it.
_MINIMUM_AGE = 86400


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; concurrent callers wait. The kernel drops it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest_of(*parts: str | bytes | Path) -> str:
    """A short name for these values; a Path stands for the content of the file or of every file below it."""
    state = hashlib.sha256()
    for part in parts:
        for blob in _blobs(part):
            state.update(len(blob).to_bytes(8, "little"))
            state.update(blob)
    return state.hexdigest()[:16]


def _blobs(part: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(part, bytes):
        yield part
    elif isinstance(part, str):
        yield part.encode()
    elif part.is_dir():
        for file in sorted(part.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(part)).encode()
                yield file.read_bytes()
    else:
        yield part.read_bytes()


def built(target: Path, build: Callable[[Path], None], keep: int = 2) -> Path:
    """Return target, a directory, after building it if it is not there.

    build gets an empty directory beside the target, which then takes the target's name in one step. The
    most recently used directories beside it stay, keep in all, as does what was used within a day.
    """
    with locked(target.parent / ".lock"):
        if not target.is_dir():
            for left_over in target.parent.glob(".building-*"):
                shutil.rmtree(left_over)
            work = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
            work.chmod(0o755)
            build(work)
            work.rename(target)
        os.utime(target)
        for old in _by_last_use(target.parent)[keep:]:
            if old.stat().st_mtime < time.time() - _MINIMUM_AGE:
                shutil.rmtree(old)
    return target


def _by_last_use(directory: Path) -> list[Path]:
    """The finished directories in a directory, the most recently used first."""
    finished = [path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(finished, key=lambda path: path.stat().st_mtime, reverse=True)
