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
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from . import process
from .machine import pid_files

_MULTICAST_BIT = 0x01
_BUFFER = 1000  # frames that wait for one machine: the kernel holds ten (net.unix.max_dgram_qlen)
_LATEST = 2.0  # seconds that a frame waits: a machine that boots is not to get what was sent to it before
_AGAIN = 2  # milliseconds until a machine that had no room is asked again


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


class Port:
    """The way to one member. A machine that is slow gets its frames late, unless they are very many or very late."""

    def __init__(self, hub: socket.socket, member: str) -> None:
        self._hub = hub
        self._member = member
        self._waiting: deque[tuple[float, bytes]] = deque()  # with when it is too late, in seconds
        self._lost = 0

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def send(self, frame: bytes) -> None:
        self._waiting.append((time.monotonic() + _LATEST, frame))
        self.pass_on()

    def pass_on(self) -> None:
        """Send what waits, as far as there is room."""
        while self._waiting:
            too_late, frame = self._waiting[0]
            if len(self._waiting) > _BUFFER or time.monotonic() > too_late:
                self._lose()
            else:
                try:
                    self._hub.sendto(frame, self._member)
                except BlockingIOError:
                    return
                except OSError:  # it is down
                    self._waiting.clear()
                    return
            self._waiting.popleft()

    def _lose(self) -> None:
        self._lost += 1
        if self._lost & (self._lost - 1) == 0:  # 1, 2, 4, 8, ...
            print(f"{self._member}: {self._lost} frames lost: it did not take them", flush=True)


def serve(path: str, members: Sequence[str], owner: int | None = None) -> None:
    """Forward frames for ever; returns only when the owner process has ended."""
    Path(path).unlink(missing_ok=True)
    switch = Switch(members)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hub:
        hub.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        hub.bind(path)
        hub.setblocking(False)
        ports = {member: Port(hub, member) for member in members}
        poll = select.poll()
        poll.register(hub, select.POLLIN)
        if owner is not None:
            poll.register(os.pidfd_open(owner), select.POLLIN)
        while True:
            waiting = [port for port in ports.values() if port.is_waiting]
            ready = {descriptor for descriptor, _ in poll.poll(_AGAIN if waiting else None)}
            for port in waiting:
                port.pass_on()
            if ready - {hub.fileno()}:
                return
            try:
                frame, sender = hub.recvfrom(1 << 16)
            except BlockingIOError:
                continue
            for receiver in switch.receivers(frame, sender or ""):
                ports[receiver].send(frame)


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
