# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway knows about a client, by witnesses that are not ours: wg, conntrack, nft, systemd."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .hosts import Host

INTERFACE = "wg0"
PORT = 51820


@dataclass(frozen=True)
class Gateway:
    """One gateway of the lab, as rolled out by site.yml."""

    host: Host
    number: int

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def tunnel_ipv4(self) -> str:
        return f"10.64.0.{self.number}"

    @property
    def tunnel_ipv6(self) -> str:
        return f"fd00:6c65:7468::{self.number}"

    def public_key(self) -> str:
        return self.host.run(f"wg show {INTERFACE} public-key")

    def peers(self) -> list[str]:
        """The public keys in the kernel."""
        return self.host.run(f"wg show {INTERFACE} peers").split()

    def endpoint(self, public_key: str) -> str | None:
        """Where the kernel thinks that the client is; None when it does not know."""
        endpoint = self._of("endpoints", public_key)
        return None if endpoint == "(none)" else endpoint

    def handshake_age(self, public_key: str) -> float | None:
        """Seconds since the latest handshake, by the gateway's clock; None when the kernel knows of none."""
        lines = self.host.run(f"date +%s; wg show {INTERFACE} latest-handshakes").splitlines()
        when = int(_value(lines[1:], public_key))
        return None if when == 0 else int(lines[0]) - when

    def transferred(self, public_key: str) -> tuple[int, int]:
        """Bytes received from and sent to the client."""
        received, sent = self._of("transfer", public_key).split()
        return int(received), int(sent)

    def tracked(self, address: str) -> list[str]:
        """The connection tracking entries that hold an address."""
        listed = self.host.run("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null")
        return [line for line in listed.splitlines() if f"={address} " in line]

    def last_purge(self) -> str:
        """What `lethe purge --status` says."""
        return self.host.run("lethe purge --status")

    def wait_until_forgotten(self, public_key: str, *, seconds: float) -> float | None:
        """Look every second until the endpoint is gone. Returns the seconds it took, None if it did not go."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if self.endpoint(public_key) is None:
                return time.monotonic() - begin
            time.sleep(1)
        return None

    def wait_until_disconnected(self) -> None:
        """Wait until the agent has noticed that it hears nothing from the registry any more. Raises CommandFailed."""
        self.host.run(
            "for each in $(seq 100); do"
            "  lethe agent status --json | grep --quiet '\"connected\": *true' || exit 0; sleep 1; "
            "done; exit 1",
            seconds=400,
        )

    def _of(self, what: str, public_key: str) -> str:
        return _value(self.host.run(f"wg show {INTERFACE} {what}").splitlines(), public_key)


def _value(lines: list[str], public_key: str) -> str:
    for line in lines:
        key, _, value = line.partition("\t")
        if key == public_key:
            return value
    raise LookupError("the gateway has no such peer")
