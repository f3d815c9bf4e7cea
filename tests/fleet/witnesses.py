# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small programs that run on the machines to see what a packet looks like where it arrives."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from .client import Client
from .gateway import Gateway

_PORT = 7007
_HELD = "/run/held"  # there while a connection is held

# Tells two who ask by which address they are seen. IPv4 askers appear as ::ffff:a.b.c.d.
_MIRROR = f"""
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", {_PORT}))
askers = set()
while len(askers) < 2:
    _, asker = s.recvfrom(16)
    askers.add(asker)
    s.sendto(asker[0].removeprefix("::ffff:").encode(), asker)
"""

_ASK = f"""
import socket, sys
for address in sys.argv[1:]:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    for _ in range(10):
        try:
            s.sendto(b"who am I?", (address, {_PORT}))
            print(s.recv(64).decode())
            break
        except TimeoutError:
            pass
    else:
        print("no answer")
"""


def seen_beyond(client: Client, beyond: Gateway) -> list[str]:
    """The addresses, IPv4 and IPv6, under which a host beyond the tunnel sees a client's packets."""
    with beyond.host.start(f"timeout 60 python3 -c {shlex.quote(_MIRROR)}"):
        seen = client.inside(f"python3 -c {shlex.quote(_ASK)} {beyond.host.wan_ipv4} {beyond.host.wan_ipv6}")
    return seen.splitlines()


@contextmanager
def connected(client: Client, address: str, port: int) -> Iterator[None]:
    """A TCP connection through the tunnel, to a server that speaks first, which then stays silent. In the end it is
    closed, and nothing is said any more.
    """
    hold = f"""
import os, socket, time
s = socket.create_connection(({address!r}, {port}), 30)
print(len(s.recv(1)), flush=True)
while os.path.exists({_HELD!r}):
    time.sleep(0.2)
"""
    script = f"touch {_HELD}; timeout 60 ip netns exec {client.name} python3 -c {shlex.quote(hold)}"
    with client.host.start(script) as held:
        try:
            assert held.stdout is not None
            assert held.stdout.readline() == "1\n", "no connection"
            yield
        finally:
            client.host.run(f"rm {_HELD}")


def can_connect(client: Client, address: str, port: int) -> bool:
    """Whether a TCP connection through the tunnel is answered."""
    ask = f"import socket; socket.create_connection(({address!r}, {port}), 4)"
    return client.host.try_to_run(f"ip netns exec {client.name} python3 -c {shlex.quote(ask)}").returncode == 0
