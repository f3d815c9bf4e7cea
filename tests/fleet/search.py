# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a gateway as root, with Lethe's Python: looks for addresses wherever a gateway could keep them.

    search.py SINCE NEEDLES

SINCE, in seconds since 1970: the files that have changed since then are read. NEEDLES, a JSON object: by names, the
strings of bytes to look for, masked (traces.py makes them), so that neither the arguments of this nor what SSH has in
its buffers is found. Prints a JSON object: the names and the places where one of its needles is. What is found is never
printed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

MASK = 0xA5
CHUNK, LONGEST = 1 << 20, 64  # bytes read at once of something large, and of the longest needle
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
LARGEST = 64 << 20  # bytes read of one file

# What the kernel and the host tell who asks.
COMMANDS = (
    "wg show all dump",
    "conntrack -L",
    "conntrack -L -f ipv6",
    "conntrack -L expect",
    "conntrack -L dying",
    "ip -4 route show table all",
    "ip -6 route show table all",
    "ip -4 route show cache",
    "ip -6 route show cache",
    "ip neighbour show",
    "ip tcp_metrics show",
    "ip address show",
    "ss --all --numeric",
    "nft list ruleset",
    "dmesg",
    "journalctl --output=export --no-pager",
    "last --ip",
)
# Not read: all of the memory, which is looked at from outside; a number for each page; what waits for events; and
# thousands of files that describe events, types and caches.
UNREAD = {
    "/proc/kcore", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/kmsg", "/proc/kallsyms",
    "/sys/kernel/tracing/events", "/sys/kernel/debug/tracing", "/sys/kernel/btf", "/sys/kernel/slab",
}  # fmt: skip
LASTING = {"ext4", "xfs", "btrfs", "tmpfs", "ramfs", "devtmpfs"}  # file systems whose files somebody has written


def places(since: float) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Every place with what is there, in pieces."""
    yield "WireGuard's netlink dump", wireguard_dump()
    for command in COMMANDS:
        yield command, command_output(command)
    for file in chain(below("/proc", "/proc/self/net", "/sys/kernel"), written(since)):
        yield f"the file {file}", contents(file)
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid():
            yield from of_process(process)


def wireguard_dump() -> Iterator[bytes]:
    from lethe.wireguard.netlink import WireGuardSocket

    for interface in Path("/sys/class/net").iterdir():
        if "DEVTYPE=wireguard" in (interface / "uevent").read_text():
            with WireGuardSocket(interface.name) as kernel:
                yield from kernel.dump()


def command_output(command: str) -> Iterator[bytes]:
    done = subprocess.run(command.split(), capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"search: {command} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    yield done.stdout


def below(*roots: str) -> Iterator[str]:
    """The files in these, but for processes and what is not read."""
    for root in roots:
        for directory, directories, files in os.walk(root):
            paths = [f"{directory}/{name}" for name in directories]
            directories[:] = [p.rpartition("/")[2] for p in paths if p not in UNREAD and not p[6:].isdecimal()]
            if directory == "/proc":
                directories[:] = [name for name in directories if name not in ("self", "thread-self")]
            yield from (path for name in files if (path := f"{directory}/{name}") not in UNREAD)


def written(since: float) -> Iterator[str]:
    """The files that have changed, and all journals."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [mount[1] for mount in mounts if mount[2] in LASTING]
    tests = ["-xdev", "-type", "f", "(", "-newerct", f"@{since}", "-o", "-path", "*/log/journal/*", ")", "-print0"]
    found = subprocess.run(["find", *roots, *tests], stdout=subprocess.PIPE, check=False).stdout
    yield from {os.fsdecode(path) for path in found.split(b"\0") if path}


def contents(file: str) -> Iterator[bytes]:
    """What can be read of a file, in chunks that overlap."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    with open(descriptor, "rb", buffering=0) as stream:
        before = b""
        for _ in range(LARGEST // CHUNK):
            try:
                chunk = stream.read(CHUNK)
            except OSError:
                return
            if not chunk:
                return
            yield before + chunk
            before = chunk[-LONGEST:]


def of_process(process: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Its arguments and environment, and its memory, but for what is a file on the disk."""
    try:
        name = (process / "comm").read_text().strip()
        for what in ("cmdline", "environ"):
            yield f"{what} of {name}", contents(f"{process}/{what}")
        regions = [line.split(maxsplit=5) for line in (process / "maps").read_text().splitlines()]
    except OSError:
        return  # it has ended
    yield f"memory of {name}", memory(process, regions)


def memory(process: Path, regions: list[list[str]]) -> Iterator[bytes]:
    try:
        descriptor = os.open(process / "mem", os.O_RDONLY)
    except OSError:
        return
    try:
        for addresses, permissions, _offset, _device, inode, *_path in regions:
            if permissions[0] != "r" or (inode != "0" and permissions[1] != "w"):
                continue
            begin, end = (int(address, 16) for address in addresses.split("-"))
            while begin < end:
                wanted = min(CHUNK + LONGEST, end - begin)
                try:
                    part = os.pread(descriptor, wanted, begin)
                except OSError:
                    break  # no memory: a device's, or gone
                yield part
                # It reads as far as it can: the page that it stopped at is left out, not the rest.
                begin += CHUNK if len(part) == wanted else len(part) + PAGE
    finally:
        os.close(descriptor)


def unmasked(masked: str) -> bytes:
    return bytes(byte ^ MASK for byte in bytes.fromhex(masked))


def main(since: str, needles: str) -> None:
    owners = {unmasked(each): name for name, masked in json.loads(needles).items() for each in masked}
    pattern = re.compile(b"|".join(map(re.escape, owners)))
    found: dict[str, set[str]] = {name: set() for name in owners.values()}
    looked = 0
    for place, pieces in places(float(since)):
        looked += 1
        for piece in pieces:
            for each in set(pattern.findall(piece)):
                found[owners[each]].add(place)
    print(json.dumps({"places": looked, "found": {name: sorted(where) for name, where in found.items()}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
