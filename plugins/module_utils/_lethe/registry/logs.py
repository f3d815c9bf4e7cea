# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs: one JSON object per line on standard output, in which nobody can be named by accident.

Our own messages are written with care: numbers and templates only. Of everybody else's only the fixed text is
kept, without what would be filled in, and of an exception only its types and where it came from: its text may
hold a row of the database, its arguments a request.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

_OURS = __name__.rpartition(".registry.")[0]
_FIELDS = ("route", "method", "status", "ms", "request")
_FRAMES = 12  # innermost, of each exception

_log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        ours = record.name == _OURS or record.name.startswith(f"{_OURS}.")
        created = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        line: dict[str, Any] = {
            "time": created.isoformat("T", "milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage() if ours else _fixed_text(record),
        }
        if ours:
            line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        else:
            line["logger"] = record.name
        if record.exc_info and record.exc_info[1] is not None:
            line["failure"] = failure(record.exc_info[1])
        return json.dumps(line)


def failure(error: BaseException) -> list[dict[str, Any]]:
    """An exception and what led to it: types and places, no text, no values."""
    chain: list[dict[str, Any]] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        frames = traceback.extract_tb(link.__traceback__)[-_FRAMES:]
        chain.append(
            {
                "type": f"{type(link).__module__}.{type(link).__qualname__}",
                "at": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
            }
        )
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain


def begin(stream: TextIO | None = None) -> None:
    """Log to ``stream`` (standard output), and let nothing get out in another way."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(logging.INFO)
    logging.raiseExceptions = False  # else a record that cannot be formatted is printed with its arguments
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def on_loop_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For ``loop.set_exception_handler``: asyncio's own prints transports and sockets, with addresses."""
    _log.error("the event loop caught an exception", exc_info=context.get("exception"))


def _fixed_text(record: logging.LogRecord) -> str:
    return record.msg if isinstance(record.msg, str) else type(record.msg).__name__


def _uncaught(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    _log.critical("the process failed", exc_info=(kind, error, tb))


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    _log.critical("a thread failed", exc_info=caught.exc_value)


def _unraisable(caught: sys.UnraisableHookArgs) -> None:
    _log.error("an exception could not be raised", exc_info=caught.exc_value)
