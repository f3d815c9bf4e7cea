# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One writer at a time: reading an interface and acting on what was read must not interleave.

A purge that reinstates a peer from an old dump would bring back a peer that was revoked in between. The
kernel offers no compare-and-set, so all of Lethe's writers on a host hold this lock from their dump to
their last message.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import Busy, LetheError, PermissionMissing

RUN_DIRECTORY = Path("/run/lethe")
LOCK = RUN_DIRECTORY / "lock"
_WAIT = 60.0  # seconds: a full load of a gateway takes that long
_POLL = 0.02  # seconds


@contextlib.contextmanager
def exclusive(interface: str, path: Path = LOCK, wait: float = _WAIT) -> Iterator[None]:
    """Hold the lock for the block. Raises Busy after ``wait`` seconds, PermissionMissing if the lock cannot
    be opened. One lock serves all interfaces: writers are rare and short.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The role's tmpfiles.d line gives the file to the group of the unprivileged services.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
    except PermissionError:
        raise PermissionMissing(f"take the lock {path} for {interface}") from None
    except OSError as error:
        raise LetheError(
            f"the lock {path} cannot be opened ({error.strerror}); remove what stands in its way"
        ) from None
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy(interface, wait) from None
                time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)
