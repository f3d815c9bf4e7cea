# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an address can look like, and where a gateway has it."""

from __future__ import annotations

import json
import mmap
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from . import search
from .gateway import Gateway

Address = IPv4Address | IPv6Address

PYTHON = "/opt/lethe/current/venv/bin/python"


def recognisable(version: int) -> Address:
    """A random address that nothing else has. Four bytes are found by accident once in so many bytes of random data
    as the machines' memory has five times; those here are no text, no small number and no pointer.
    """
    if version == 6:
        # No group begins with a zero, so that there is one way to write it.
        groups = ("2001", "db8", *(f"{secrets.randbelow(0xF000) + 0x1000:x}" for _ in range(6)))
        return IPv6Address(":".join(groups))
    # 198.18.0.0/15 is for measurements (RFC 2544). Three digits at the end: no address is the beginning of another.
    return IPv4Address(bytes((198, 19, 128 + secrets.randbelow(128), 128 + secrets.randbelow(128))))


def needles(address: Address) -> list[bytes]:
    """The strings of bytes that say this address: as text, as the kernel's hexadecimal, and in binary."""
    packed = address.packed
    # Each 32 bits as a number of this machine: /proc/net/udp, tcp6 and the like.
    swapped = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    spelled = {str(address), address.exploded, packed.hex(), swapped.hex()}
    spelled |= {text.upper() for text in spelled}
    return [packed, swapped, *(text.encode() for text in sorted(spelled))]


@dataclass(frozen=True)
class Traces:
    """Where a gateway has addresses, by their names."""

    places: int  # that were looked at
    found: Mapping[str, tuple[str, ...]]

    @classmethod
    def on(cls, gateway: Gateway, addresses: Mapping[str, Address], since: float) -> Traces:
        """Look everywhere, and into files that have changed since then."""
        program = Path(search.__file__).read_text()
        masked = json.dumps({name: [_masked(each) for each in needles(a)] for name, a in addresses.items()})
        script = f"{PYTHON} - {since:.0f} {shlex.quote(masked)} <<'PROGRAM'\n{program}\nPROGRAM"
        told = json.loads(gateway.host.run(script, seconds=300))
        return cls(told["places"], {name: tuple(places) for name, places in told["found"].items()})


def _masked(needle: bytes) -> str:
    return bytes(byte ^ search.MASK for byte in needle).hex()


def offsets(memory: bytes | mmap.mmap, addresses: Mapping[str, Address]) -> Iterator[tuple[str, int]]:
    """Where in it an address is, in any form, with its name."""
    owners = {needle: name for name, address in addresses.items() for needle in needles(address)}
    for found in re.finditer(b"|".join(map(re.escape, owners)), memory):
        yield owners[found[0]], found.start()
