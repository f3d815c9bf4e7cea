# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for the journal: what happened, in numbers. Of an exception only the types and where it came from are told:
its text may hold what nobody shall read.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import TextIO

OURS = __name__.rpartition(".agent.")[0]
_FRAMES = 12  # innermost
# sd-daemon(3): how systemd learns the priority of a line.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class Lines(logging.Formatter):
    def __init__(self, *, with_priority: bool) -> None:
        super().__init__()
        self._with_priority = with_priority

    def format(self, record: logging.LogRecord) -> str:
        line = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            line += f": {failure(record.exc_info[1])}"
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" if self._with_priority else line


def begin(*, for_journal: bool, stream: TextIO | None = None) -> None:
    """Log to standard error, or a test's ``stream``."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines(with_priority=for_journal))
    ours = logging.getLogger(OURS)
    ours.handlers[:] = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
    logging.raiseExceptions = False  # else a record that cannot be formatted is printed with its arguments


def failure(error: BaseException) -> str:
    """An exception without its text."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} at {places}"
