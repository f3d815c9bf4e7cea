# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an exception gives away, to whoever prints, logs or collects it."""

from __future__ import annotations


def told_by(error: BaseException) -> str:
    """All that the exception and those behind it hold: also what `from None` only keeps from being printed, which
    error collectors read all the same.
    """
    told: list[str] = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        told += [
            str(one),
            repr(one),
            repr(one.args),
            repr(getattr(one, "__dict__", {})),
            *getattr(one, "__notes__", []),
        ]
        told += [repr(getattr(one, name)) for name in ("object", "doc", "filename", "filename2") if hasattr(one, name)]
        waiting += [one.__cause__, one.__context__]
    return "\n".join(told)
