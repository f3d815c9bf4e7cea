# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network "wan": an Ethernet switch between the machines, over unix datagram sockets.

It needs no bridge and no privilege. Started by the fleet as a process of its own:

    python -m lethe_lab.hub --pid-file FILE --socket PATH [--owner PID] MEMBER...

MEMBER and PATH are sockets relative to the current directory. With --owner the hub takes the whole fleet
down when that process ends, however it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
from collections.abc import Sequence
from pathlib import Path

from . import process
from .machine import pid_files

_MULTICAST_BIT = 0x01


class Switch:
    """Forwards frames to the member that owns the destination address, or to all others while it is unknown."""

    def __init__(self, members: Sequence[str]) -> None:
        self._members = tuple(members)
        self._owner_of: dict[bytes, str] = {}

    def receivers(self, frame: bytes, sender: str) -> tuple[str, ...]:
        """The members that get a frame from sender; remembers where its source address lives."""
        if len(frame) < 14 or sender not in self._members:
            return ()
        destination, source = frame[0:6], frame[6:12]
        self._owner_of[source] = sender
        if not destination[0] & _MULTICAST_BIT:
            owner = self._owner_of.get(destination)
            if owner is not None:
                return (owner,) if owner != sender else ()
        return tuple(member for member in self._members if member != sender)


def serve(path: str, members: Sequence[str], owner: int | None = None) -> None:
    """Forward frames for ever; returns only when the owner process has ended."""
    Path(path).unlink(missing_ok=True)
    switch = Switch(members)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hub:
        hub.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        hub.bind(path)
        hub.setblocking(False)
        poll = select.poll()
        poll.register(hub, select.POLLIN)
        if owner is not None:
            poll.register(os.pidfd_open(owner), select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if ready - {hub.fileno()}:
                return
            try:
                frame, sender = hub.recvfrom(1 << 16)
            except BlockingIOError:
                continue
            for receiver in switch.receivers(frame, sender or ""):
                try:
                    hub.sendto(frame, receiver)
                except OSError:  # a machine that is down or slow loses frames, as on any Ethernet
                    continue


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid-file", type=Path, required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--owner", type=int)
    parser.add_argument("members", nargs="+", metavar="MEMBER")
    arguments = parser.parse_args()
    arguments.pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
    # The owner may have ended before it could be watched: ProcessLookupError.
    with contextlib.suppress(ProcessLookupError):
        serve(arguments.socket, arguments.members, arguments.owner)
    for pid_file in pid_files(arguments.pid_file.parent):
        if pid_file != arguments.pid_file:
            process.stop(pid_file)
    arguments.pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
