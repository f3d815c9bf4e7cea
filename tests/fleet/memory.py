# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's whole memory, seen from outside: what somebody gets who takes a running gateway's memory away."""

from __future__ import annotations

import json
import mmap
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .hosts import LAB, RUN, Host
from .traces import Address, offsets

_PAGE = 4096

# A packet has the hardware address of one of the lab's machines (lethe_lab/hosts.py) not far before the address.
_HARDWARE, _HEADERS = bytes.fromhex("525400"), 96

# Tells what the kernel uses pages for. The flags of /proc/kpageflags are in Documentation/admin-guide/mm/pagemap.rst.
_KINDS = """
import json, struct, sys
KINDS = ((7, "kernel objects"), (12, "a process"), (10, "free"), (5, "files and processes"), (26, "page tables"))
told = []
with open("/proc/kpageflags", "rb", buffering=0) as flags:
    for page in json.loads(sys.argv[1]):
        flags.seek(page * 8)
        (found,) = struct.unpack("Q", flags.read(8))
        told.append(next((kind for bit, kind in KINDS if found >> bit & 1), "free, or the kernel's own"))
print(json.dumps(told))
"""


def physical_memory(host: Host, addresses: Mapping[str, Address]) -> dict[str, dict[str, int]]:
    """How often each address is in the machine's memory, by what is there: a packet, or what the page with it is used
    for a moment later.
    """
    with tempfile.TemporaryDirectory(dir=RUN) as directory:
        file = Path(directory, "memory")
        subprocess.run([LAB, "memory", host.name, file], check=True)
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            found = [(name, at, _HARDWARE in memory[at - _HEADERS : at]) for name, at in offsets(memory, addresses)]
    kinds = _kinds_of(host, [at // _PAGE for _, at, _ in found])
    seen: dict[str, Counter[str]] = {name: Counter() for name in addresses}
    for (name, _, in_packet), kind in zip(found, kinds, strict=True):
        seen[name]["a packet" if in_packet else kind] += 1
    return {name: dict(counted) for name, counted in seen.items()}


def _kinds_of(host: Host, pages: list[int]) -> list[str]:
    return json.loads(host.run(f"python3 - '{json.dumps(pages)}' <<'PROGRAM'\n{_KINDS}\nPROGRAM"))
