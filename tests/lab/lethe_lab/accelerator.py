# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses between KVM and software emulation by starting a guest, not by looking for /dev/kvm."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from .cache import digest_of, locked
from .commands import run

# Multi-threaded emulation; the translated-code buffer is in MiB (QEMU's default is flushed often by Python).
TCG = "tcg,thread=multi,tb-size=256"

# A plain processor model emulates faster than QEMU's fullest one: the guest's C library then does
# not choose AVX code, which is slow to emulate.
TCG_CPU = "Nehalem"

_PROBE_SECONDS = 8


def qemu_version() -> str:
    return run("qemu-system-x86_64", "--version").splitlines()[0]


def accelerator_options(name: str) -> list[str]:
    """QEMU's options for "kvm" or "tcg"."""
    return ["-accel", "kvm", "-cpu", "host"] if name == "kvm" else ["-accel", TCG, "-cpu", TCG_CPU]


def choose_accelerator(vmlinux: Path, cache: Path, wanted: str | None = None) -> str:
    """Return "kvm" if a guest kernel really starts under it here, else "tcg"; remembered until the host reboots."""
    if wanted:
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    key = digest_of(boot_id, qemu_version(), str(vmlinux))
    record = cache / "accelerator.json"
    with locked(cache / ".accelerator.lock"):
        try:
            known = json.loads(record.read_text(encoding="ascii"))
        except (OSError, ValueError):
            known = {}
        if known.get("key") != key:
            known = {"key": key, "accelerator": "kvm" if _guest_starts_under_kvm(vmlinux) else "tcg"}
            record.write_text(json.dumps(known) + "\n", encoding="ascii")
    return str(known["accelerator"])


def _guest_starts_under_kvm(vmlinux: Path) -> bool:
    """A kernel without a root disk prints its version, panics and ends QEMU, all in about a second."""
    with tempfile.TemporaryDirectory(prefix="lethe-kvm-") as directory:
        console = Path(directory) / "console"
        command = [
            "qemu-system-x86_64", "-M", "q35", *accelerator_options("kvm"), "-m", "256", "-nodefaults",
            "-no-user-config", "-display", "none", "-serial", f"file:{console}", "-no-reboot",
            "-kernel", str(vmlinux), "-append", "console=ttyS0 panic=-1",
        ]  # fmt: skip
        try:
            subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            return False
        return b"Linux version" in console.read_bytes()
