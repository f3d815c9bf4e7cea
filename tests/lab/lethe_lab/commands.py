# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs other programs; a failure or a missing program becomes a LabError that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .errors import LabError

# Program -> Debian package, for everything the lab calls.
PACKAGES = {
    "apt-get": "apt",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "lz4": "lz4",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "modprobe": "kmod",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "strip": "binutils",
}


def require(programs: Iterable[str]) -> None:
    """Raise LabError naming every program that is missing and the commands that install it."""
    missing = [program for program in programs if shutil.which(program, path=search_path()) is None]
    if missing:
        packages = sorted({PACKAGES[program] for program in missing})
        raise LabError(
            f"missing here: {', '.join(missing)}. Install with: bash scripts/setup"
            f" (or: apt-get install {' '.join(packages)})"
        )


def search_path() -> str:
    """PATH, always with the system directories."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def run(*command: str | Path, log: Path | None = None, cwd: Path | None = None, stdin: str | None = None) -> str:
    """Run to the end and return standard output. With a log, output goes there as well as a failure's pointer."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError:
        require([words[0]])
        raise
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}")
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        where = f" (whole output: {log})" if log is not None else ""
        raise LabError(f"{words[0]} failed with status {done.returncode}{where}:\n{tail}")
    return done.stdout
