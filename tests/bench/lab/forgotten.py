# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a gateway of the lab: sees when each client spoke for the last time, and when the kernel knew nothing of it
any more.

    forgotten.py INTERFACE NUMBER

Looks twice a second, with `wg`. Prints two numbers of seconds for each client that is forgotten: since its last packet,
and since its latest handshake. Ends after so many clients. All times are this machine's, and never too short: a packet
counts as old as the look before the one that noticed it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

EVERY = 0.5  # seconds between two looks


class Seen(NamedTuple):
    """What the kernel says of a peer."""

    endpoint: str
    handshake: int  # seconds since 1970; 0: none
    received: int  # bytes
    sent: int

    @property
    def nothing(self) -> bool:
        return self == ("(none)", 0, 0, 0)


class Forgotten(NamedTuple):
    """Seconds until the kernel knew nothing of a client any more."""

    since_packet: float
    since_handshake: float


class Witness:
    """Told what each look saw, it knows who was forgotten."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Seen, float]] = {}  # by public key: as it is, and when it last spoke
        self._before = 0.0  # when the look before was begun

    def look(self, begun: float, ended: float, peers: dict[str, Seen]) -> Iterator[Forgotten]:
        for key, seen in peers.items():
            known, spoke = self._known.get(key, (None, 0.0))
            if not seen.nothing:
                heard = known is None or seen.received != known.received
                self._known[key] = seen, self._before if heard else spoke
            elif known is not None:
                del self._known[key]
                yield Forgotten(ended - spoke, ended - known.handshake)
        self._before = begun


def peers_of(interface: str) -> dict[str, Seen]:
    dump = subprocess.run(["wg", "show", interface, "dump"], stdout=subprocess.PIPE, text=True, check=True).stdout
    peers = {}
    for line in dump.splitlines()[1:]:  # the first is about the interface
        key, _psk, endpoint, _allowed, handshake, received, sent, _keepalive = line.split("\t")
        peers[key] = Seen(endpoint, int(handshake), int(received), int(sent))
    return peers


def main(interface: str, number: str) -> None:
    witness, left = Witness(), int(number)
    while left > 0:
        begun = time.time()
        peers = peers_of(interface)
        for each in witness.look(begun, time.time(), peers):
            print(json.dumps(each), flush=True)
            left -= 1
        time.sleep(max(0.0, begun + EVERY - time.time()))


if __name__ == "__main__":
    main(*sys.argv[1:])
