# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of lab/ that run on the lab's machines, and are spoken with over SSH."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fleet.hosts import Host

PROGRAMS = Path(__file__).resolve().parent / "lab"
HOME = "/run/lethe-bench"  # on the machines


class Program:
    """One of them, running. It ends with its standard input."""

    def __init__(self, host: Host, name: str, python: str, *arguments: str) -> None:
        self._name = f"{name} on {host.name}"
        command = f"mkdir -p {HOME} && cd {HOME} && exec {python} {name} {' '.join(arguments)}"
        for each in PROGRAMS.glob("*.py"):
            host.run(f"mkdir -p {HOME} && cat >{HOME}/{each.name} <<'PROGRAM'\n{each.read_text()}\nPROGRAM")
        self._process = subprocess.Popen([*host.ssh, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hears(self, *expected: str) -> str:
        """The next line that it says."""
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        if not line or (expected and line not in expected):
            raise SystemExit(f"{self._name} failed")
        return line

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
