# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the demo speaks: chapters, results, and one line that lives while something takes its time."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Stage:
    """Prints to a terminal with colours and a live line; to anything else plainly, only what stays."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._lively = out.isatty()
        self._begin = time.monotonic()

    def chapter(self, title: str) -> None:
        self._clear()
        self._print("\n" + self._coloured("1;36", title))

    def tell(self, text: str) -> None:
        """Something that explains."""
        self._clear()
        self._print("  " + self._coloured("2", text))

    def done(self, what: str, figure: str = "") -> None:
        """Something that was seen to be so."""
        self._clear()
        dots = " " + "." * max(3, 58 - len(what)) + " " if figure else ""
        self._print(f"  {self._coloured('32', '✓')} {what}{self._coloured('2', dots)}{self._coloured('1', figure)}")

    def command(self, line: str) -> None:
        """A command that is run, or that the reader may run."""
        self._clear()
        self._print(f"  {self._coloured('33', '$')} {line}")

    def live(self, text: str) -> None:
        """What is going on just now; overwritten by whatever comes next."""
        if self._lively:
            self._clear()
            elapsed = time.monotonic() - self._begin
            self._out.write(self._coloured("2", f"  {elapsed:4.0f} s  {text}"[:110]))
            self._out.flush()

    def _print(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    def _clear(self) -> None:
        if self._lively:
            self._out.write("\r\x1b[K")

    def _coloured(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._lively and text else text
