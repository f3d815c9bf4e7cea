# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a gateway of the lab, and says as soon as the kernel has a peer.

    watch.py INTERFACE HOST PORT

At HOST and PORT register.py listens: it is told there, so that all times are one clock's. At a line ``watch KEY PAUSE``
this says ``watching``, looks at the kernel until the peer is there, with pauses of so many seconds, sends the key, and
prints how far apart the looks were. ``poll KEY PAUSE`` is the same, but first poll.py is started beside it, and the
seconds count from there. Ends with standard input.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from lethe.wireguard.netlink import Interrupted, WireGuardSocket

ROUND_TRIPS = 20


def has(interface: str, key: bytes) -> bool:
    with WireGuardSocket(interface) as kernel:
        try:
            return any(key in body for body in kernel.dump())
        except Interrupted:  # another one has it just now
            return False


def started_poll() -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("poll.py")
    return subprocess.Popen(["/usr/bin/python3", program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def main(interface: str, host: str, port: str) -> None:
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = client.makefile("r")
        begun = time.monotonic()
        for _ in range(ROUND_TRIPS):
            client.sendall(b"hello\n")
            answers.readline()
        round_trip = (time.monotonic() - begun) / ROUND_TRIPS
        client.sendall(b"ready\n")
        print(json.dumps({"round_trip_ms": round_trip * 1e3}), flush=True)
        for line in sys.stdin:
            what, text, pause = line.split()
            key = base64.b64decode(text)
            begun, looks = time.monotonic(), 1
            poll = started_poll() if what == "poll" else None
            print("watching", flush=True)
            while not has(interface, key):
                time.sleep(float(pause))
                looks += 1
            took = time.monotonic() - begun
            client.sendall(f"{text}\n".encode())
            print(json.dumps({"seconds": took, "look_ms": took / looks * 1e3}), flush=True)
            if poll is not None and poll.wait():
                raise SystemExit("the poll failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
