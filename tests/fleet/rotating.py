# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's machine for clients as a client of its own, as site.yml makes it: its key and addresses change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .fleet import Recap
from .gateway import Gateway
from .hosts import RUN, Host
from .registry import play

INTERFACE = "lethe0"
ACCOUNT = "customer-0815"
EVERY = 0.2  # seconds between packets of a ping
# Where its keys are, and what could lead to them.
PLACES = "/var/lib/lethe-client /run/lethe-client /etc/lethe /etc/wireguard /tmp /var/tmp"


@dataclass
class Traffic:
    """A ping that ran, packet by packet."""

    sent: int
    answered: set[int]

    @property
    def lost(self) -> int:
        return self.sent - len(self.answered)

    @property
    def longest_silence(self) -> float:
        """Seconds for which one packet after the other was lost."""
        longest = silent = 0
        for number in range(1, self.sent + 1):
            silent = 0 if number in self.answered else silent + 1
            longest = max(longest, silent)
        return longest * EVERY


@dataclass(frozen=True)
class RotatingClient:
    """The machine, while site.yml is told that it is a client."""

    host: Host
    directory: Path = RUN

    def roll_out(self, **variables: str) -> Recap:
        inventory = self.directory / "clients.ini"
        inventory.write_text(f"[clients]\n{self.host.name} client_account={ACCOUNT}\n")
        return play("site", "--inventory", str(inventory), "--limit", self.host.name, **variables)

    def command(self, words: str, *, seconds: float = 240) -> str:
        """What `lethe client WORDS` prints. Raises CommandFailed."""
        return self.host.run(f"lethe client {words}", seconds=seconds)

    def status(self) -> dict[str, Any]:
        """Also of one that has a problem, or that has left."""
        found = self.host.try_to_run("cat /run/lethe-client/status.json").stdout
        return dict(json.loads(found)) if found else {}

    def rotate(self) -> None:
        """Change its key, and wait until the one before is gone from the registry: two minutes later, at most. Raises
        CommandFailed.
        """
        self.command("rotate")
        self.host.run(
            "for each in $(seq 240); do"
            '  grep --quiet \'"stage": "settled"\' /run/lethe-client/status.json && exit; sleep 1; '
            "done; exit 1",
            seconds=300,
        )

    @property
    def public_key(self) -> str:
        return self.host.run(f"wg show {INTERFACE} public-key")

    @property
    def addresses(self) -> list[str]:
        """In the tunnel: as allowed IPs."""
        shown = self.host.run(f"ip -o address show dev {INTERFACE} scope global")
        return sorted(re.findall(r"inet6? (\S+)", shown))

    def gateway(self, gateways: tuple[Gateway, ...]) -> Gateway:
        """The one that it is connected to."""
        name = self.status()["gateway"]
        return next(gateway for gateway in gateways if gateway.name == name)

    @contextmanager
    def traffic(self, address: str) -> Iterator[Traffic]:
        """Pings through the tunnel meanwhile; known when it ends."""
        seen = Traffic(0, set())
        ping = self.host.start(f"exec ping -n -i {EVERY} {address}")
        try:
            yield seen
        finally:
            self.host.run(f"pkill -INT --full '^ping -n -i {EVERY} {address}'")
            output, _ = ping.communicate(timeout=60)
            seen.answered.update(int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", output))
            found = re.search(r"(\d+) packets transmitted", output)
            assert found, output
            seen.sent = int(found[1])

    def files_with(self, *secrets: str) -> list[str]:
        """The files on its disk, and in the memory that stands for one, that hold one of the texts."""
        words = " ".join(f"-e '{secret}'" for secret in secrets)
        return self.host.run(f"grep --recursive --files-with-matches --fixed-strings {words} {PLACES} || true").split()

    def private_key(self) -> str:
        return self.host.run(f"wg show {INTERFACE} private-key")
