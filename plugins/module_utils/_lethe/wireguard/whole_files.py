# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are there wholly or not at all, and never for a moment readable by others than they should be."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_whole(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o600,
    owner: int | None = None,
    group: int | None = None,
    replace: bool = True,
) -> None:
    """Write a file under another name, then give it its own. ``owner``, ``group``: numeric; None: this process's.

    Raises OSError; FileExistsError if there is a file and ``replace`` is false, also if it was made meanwhile.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            if owner is not None or group is not None:  # sandboxed services may not call it, not even to change nothing
                os.fchown(descriptor, -1 if owner is None else owner, -1 if group is None else group)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def remove_unfinished(path: Path) -> None:
    """Remove what ``write_whole`` has left of a file if the process was killed within it. Raises OSError."""
    for temporary in path.parent.glob(f".{path.name}.*"):
        temporary.unlink(missing_ok=True)
