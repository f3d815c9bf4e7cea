#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One whole operation with the package, in a process of its own as on a gateway.

    lethe_contender.py CASE INTERFACE [FILE]

Prints a JSON object:

    seconds    from before the file is opened to after the kernel's last answer: reading, parsing,
               validating, dump, decisions, encoding, sending
    imports    seconds to import the package; not part of the former
    longest    seconds of the longest single message to the kernel: it works through one under one lock
    messages   how many there were
    memory     bytes, the most this process ever had resident
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"

message_seconds: list[float] = []


class TimedSocket(socket.socket):
    """Notes how long the kernel works on each message: a netlink request is carried out within send()."""

    def send(self, *arguments: Any) -> int:
        started = time.perf_counter()
        try:
            return super().send(*arguments)
        finally:
            message_seconds.append(time.perf_counter() - started)

    def sendmsg(self, *arguments: Any) -> int:
        started = time.perf_counter()
        try:
            return super().sendmsg(*arguments)
        finally:
            message_seconds.append(time.perf_counter() - started)


def peak_memory() -> int:
    """VmHWM: getrusage() would also count the process this one was started from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc/self/status has no VmHWM")


def operation(case: str, interface: str, file: str) -> Callable[[], object]:
    """Import what the case needs; return what is to be timed."""
    sys.path.insert(0, str(PACKAGES))
    from _lethe.wireguard.device import KernelDevice

    device = KernelDevice(interface)
    if case in ("load", "no-op", "change 1 %"):
        from _lethe.wireguard.inventory import peers_from_file
        from _lethe.wireguard.reconcile import reconcile_peers

        return lambda: reconcile_peers(device, peers_from_file(file))
    if case == "dump":
        return lambda: device.read(list)
    raise SystemExit(f"no such case: {case}")


def main(case: str, interface: str, file: str = "") -> None:
    started = time.perf_counter()
    run = operation(case, interface, file)
    imported = time.perf_counter()
    socket.socket = TimedSocket  # type: ignore[misc]
    begun = time.perf_counter()
    run()
    ended = time.perf_counter()
    print(
        json.dumps(
            {
                "seconds": ended - begun,
                "imports": imported - started,
                "longest": max(message_seconds),
                "messages": len(message_seconds),
                "memory": peak_memory(),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
