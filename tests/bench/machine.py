#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run's figures hold for, as JSON on standard output.

machine.py peers KERNEL     KERNEL: the path of the kernel
machine.py registry
machine.py feed
machine.py forgetting
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PYTHON = "/usr/bin/python3"
"""The interpreter that contenders run with: a gateway's, which is Debian's own."""


def facts() -> dict[str, str]:
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "processor": processor[1] if processor else platform.machine(),
        "processors": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "python": f"Python {platform.python_version()}",
    }


def facts_of_peers(kernel: str) -> dict[str, str]:
    wg = subprocess.run(["wg", "--version"], check=True, capture_output=True, text=True).stdout.split()
    return {
        "kernel": Path(kernel).parent.name.rpartition("-")[0],
        "python": subprocess.run([PYTHON, "--version"], check=True, capture_output=True, text=True).stdout.strip(),
        "wg": " ".join(wg[:2]),
        "pyroute2": f"pyroute2 {version('pyroute2')}",
    }


def facts_of_registry() -> dict[str, str]:
    from registry.postgresql_server import programs

    postgres = subprocess.run([programs() / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    return {"sqlite": sqlite3.sqlite_version, "postgresql": f"PostgreSQL {postgres.split()[2]}"}


def facts_of_feed() -> dict[str, str]:
    return {"sqlite": sqlite3.sqlite_version}


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    special = {"peers": facts_of_peers, "registry": facts_of_registry, "feed": facts_of_feed, "forgetting": dict}
    facts_of_it = special[what](*arguments)
    print(json.dumps({**facts(), **facts_of_it}, indent=2))
