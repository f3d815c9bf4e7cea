# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: ways on which memory, and what is in it, comes to a disk or into another kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .finding import Leak, Severity, check
from .host import Host

_DUMPS = ("/var/lib/systemd/coredump", "/var/crash", "/var/lib/apport/coredump")
_ALSO_HIBERNATION = ("AllowHybridSleep", "AllowSuspendThenHibernate")
_YES, _NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
_SWAP_SOURCES = ("/etc/systemd/zram-generator.conf", "/usr/lib/systemd/zram-generator.conf")


@check("swap", Severity.HIGH, "memory is not swapped out")
def swap(host: Host) -> Iterator[Leak]:
    areas = len(host.lines("/proc/swaps")[1:])
    if areas:
        yield Leak(
            "memory is swapped out, and stays there after a power cut",
            f"{areas} areas",
            "swapoff --all; roll out the role gateway with gateway_disable_swap: true",
        )


@check("swap-at-boot", Severity.MEDIUM, "no swap comes back with the next boot")
def swap_at_boot(host: Host) -> Iterator[Leak]:
    if host.unit_file("swap.target") == "":
        return
    sources = [line for line in host.lines("/etc/fstab") if line.split("#")[0].split()[2:3] == ["swap"]]
    sources += [str(path) for path in host.files("/etc/systemd/system", "*.swap")]
    sources += [name for name in _SWAP_SOURCES if host.path(name).exists()]
    if sources:
        yield Leak(
            "memory is swapped out after the next boot",
            f"{len(sources)} entries in fstab or of systemd",
            "systemctl mask swap.target; roll out the role gateway with gateway_disable_swap: true",
        )


@check("hibernation", Severity.MEDIUM, "the host cannot be hibernated")
def hibernation(host: Host) -> Iterator[Leak]:
    if "disk" not in (host.text("/sys/power/state") or "").split():
        return
    if (host.text("/sys/power/disk") or "").strip() == "[disabled]":
        return
    # "No" is meant for the others as well, unless they say otherwise: systemd-sleep.conf(5).
    refused = host.setting("sleep.conf", "AllowHibernation").lower() in _NO
    allowed = any(host.setting("sleep.conf", name).lower() in _YES for name in _ALSO_HIBERNATION)
    if (allowed or not refused) and host.unit_file("hibernate.target") != "":
        yield Leak(
            "hibernation writes all memory to a disk",
            "the kernel can, and systemd's sleep.conf allows it",
            "roll out the role gateway (/etc/systemd/sleep.conf.d/lethe.conf)",
        )


@check("core-dumps", Severity.HIGH, "no memory of a process that crashed is written down")
def core_dumps(host: Host) -> Iterator[Leak]:
    pattern = (host.text("/proc/sys/kernel/core_pattern") or "").strip()
    dropped = "systemd-coredump" in pattern and host.setting("coredump.conf", "Storage") == "none"
    if pattern not in ("", "|/bin/false", "|/usr/bin/false") and not dropped:
        yield Leak(
            "the memory of a process that crashes is kept",
            "kernel.core_pattern names a file or a program",
            "roll out the role gateway (/etc/sysctl.d/90-lethe.conf); where a service sets it again: "
            "systemctl disable --now apport.service",
        )
    count = sum(1 for place in _DUMPS for _path in host.all_files(place))
    if count:
        yield Leak(
            "memory of processes that crashed is on the disk",
            f"{count} files in {', '.join(_DUMPS)}",
            f"rm -r {' '.join(f'{place}/*' for place in _DUMPS)}",
        )


@check("kdump", Severity.HIGH, "no memory of a kernel that crashed is written down")
def kdump(host: Host) -> Iterator[Leak]:
    loaded = bool(host.number("/sys/kernel/kexec_crash_loaded"))
    reserved = re.search(r"\bcrashkernel=", host.text("/proc/cmdline") or "")
    services = [name for name, unit in host.units("kdump-tools.service", "kdump.service").items() if unit.there]
    if loaded or services or reserved:
        seen = {"a crash kernel is loaded": loaded, "its memory is reserved": reserved, ", ".join(services): services}
        yield Leak(
            "when the kernel crashes, all memory is written to a disk",
            "; ".join(words for words, true in seen.items() if true),
            "systemctl disable --now kdump-tools.service; remove crashkernel= from the kernel's command line",
        )


@check("kexec", Severity.LOW, "no other kernel can be started that finds the memory of this one")
def kexec(host: Host) -> Iterator[Leak]:
    if host.number("/sys/kernel/kexec_loaded"):
        yield Leak("a kernel is loaded that takes over with all memory", "kexec_loaded is 1", "kexec --unload")
    if host.number("/proc/sys/kernel/kexec_load_disabled") == 0:
        yield Leak(
            "a kernel can be loaded that takes over with all memory",
            "kernel.kexec_load_disabled is 0",
            "roll out the role gateway (/etc/sysctl.d/90-lethe.conf)",
        )
