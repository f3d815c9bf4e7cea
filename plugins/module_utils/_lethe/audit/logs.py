# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: what is written down, and by whom."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from .finding import Leak, Severity, check
from .host import CannotLook, Host
from .peers import addresses

SEARCHED_BYTES = 4 << 30
"""How much of logs is searched; a host that has more is told that it could not be done."""

_LOGS = ("/var/log", "/run/log")
_PIECE = 4 << 20  # bytes
_LONGEST_LINE = 1 << 16  # bytes; what is longer may be divided
_UNPACK: dict[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # type: ignore[dict-item]
_NOT_UNPACKED = (".zst", ".lz4")

# An address on its own: what looks like one and is none is sorted out by the parser.
_ADDRESS = re.compile(
    rb"(?<![0-9A-Fa-f:.])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9]|\.[0-9])"
    rb"|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3})?(?![0-9A-Fa-f:]))"
)
_MAPPED = bytes(10) + b"\xff\xff"
# What the kernel says of a peer when its debug messages are on: "wireguard: wg0: ... peer 1 (192.0.2.1:4500)".
_DEBUG_MESSAGE = re.compile(rb"wireguard: [^\n\0]{1,150}\((?:[0-9.]+|\[[0-9A-Fa-f:%a-z]+\]):[0-9]+\)")
# A packet that the packet filter logged: "SRC=... DST=... PROTO=UDP SPT=... DPT=51820".
_LOGGED_PACKET = re.compile(rb"SRC=\S+ DST=\S+ [^\n\0]{0,300}PROTO=UDP SPT=([0-9]+) DPT=([0-9]+)")

_SYSLOG = ("rsyslog.service", "syslog-ng.service")
_SHIPPERS = (
    "systemd-journal-upload.service",
    "systemd-journal-gatewayd.socket",
    "fluent-bit.service",
    "td-agent.service",
    "filebeat.service",
    "promtail.service",
    "alloy.service",
    "vector.service",
    "splunk.service",
    "nxlog.service",
)
_FLOWS = (
    "softflowd.service",
    "fprobe.service",
    "nfdump.service",
    "pmacctd.service",
    "nfacctd.service",
    "hsflowd.service",
    "ntopng.service",
    "nprobe.service",
    "argus.service",
    "argus-server.service",
    "ulogd2.service",
    "suricata.service",
    "zeek.service",
    "snort.service",
    "darkstat.service",
    "bandwidthd.service",
    "conntrackd.service",
)


@check("journal-on-disk", Severity.MEDIUM, "the journal is kept in memory alone")
def journal_on_disk(host: Host) -> Iterator[Leak]:
    storage = host.setting("journald.conf", "Storage") or "auto"
    directory = host.path("/var/log/journal")
    if storage == "persistent" or (storage == "auto" and directory.is_dir()):
        yield Leak(
            "the journal is written to the disk",
            f"Storage={'persistent' if storage == 'persistent' else 'auto, and /var/log/journal exists'}",
            "roll out the role gateway with gateway_volatile_journal: true",
        )
    kept = [path.stat().st_size for path in host.all_files(directory) if path.suffix in (".journal", ".journal~")]
    if kept:
        yield Leak(
            "journals of earlier are on the disk",
            f"{len(kept)} files in /var/log/journal, {sum(kept) >> 20} MiB",
            "roll out the role gateway with gateway_volatile_journal: true, or: rm -r /var/log/journal/*",
        )


@check("logged-endpoints", Severity.HIGH, "no log has an address at which a peer is or was")
def logged_endpoints(host: Host) -> Iterator[Leak]:
    present = addresses(host)
    ports = {host.kernel.device(name).settings().listen_port for name in host.interfaces}
    places = files = searched = 0
    for log in _logs(host):
        found = 0
        for piece in log:
            searched += len(piece)
            if searched > SEARCHED_BYTES:
                raise CannotLook(f"there are more than {SEARCHED_BYTES >> 30} GiB of logs")
            found += _named(piece, present, ports)
        places += found
        files += found > 0
    if places:
        yield Leak(
            "logs have addresses of peers",
            f"{places} places in {files} files below {' and '.join(_LOGS)}, or in the kernel's own log",
            "find out what writes them, see the other findings; then remove them: journalctl --rotate "
            "--vacuum-size=1K, dmesg --clear",
        )


def _logs(host: Host) -> Iterator[Iterable[bytes]]:
    """The pieces of each log."""
    for directory in _LOGS:
        for path in host.all_files(directory):
            yield _pieces(path)
    yield [host.run("dmesg").encode()]


def _pieces(path: Path) -> Iterator[bytes]:
    """A file in pieces of whole lines, without its holes: some logs are nearly nothing but holes. Raises CannotLook."""
    if path.suffix in _NOT_UNPACKED:
        raise CannotLook(f"a log is packed with {path.suffix.removeprefix('.')}, which is not read here")
    unpack = _UNPACK.get(path.suffix)
    try:
        with open(path, "rb") if unpack is None else unpack(path) as file:
            rest = b""
            while piece := (_next_data(file) if unpack is None else file.read(_PIECE)):
                whole = rest + piece
                end = max(whole.rfind(b"\n"), whole.rfind(b"\0")) + 1
                if len(whole) - end > _LONGEST_LINE:
                    end = len(whole)
                yield whole[:end]
                rest = whole[end:]
            yield rest
    except FileNotFoundError:
        return  # rotated away just now
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        raise CannotLook("a log cannot be read, or unpacked") from None


def _next_data(file: IO[bytes]) -> bytes:
    """The next piece that is no hole; nothing at the end."""
    try:
        file.seek(file.tell(), os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return b""  # nothing but a hole is left
        raise
    begin = file.tell()
    end = file.seek(begin, os.SEEK_HOLE)
    file.seek(begin)
    return file.read(min(_PIECE, end - begin))


def _named(content: bytes, present: frozenset[bytes], ports: set[int]) -> int:
    """How often a peer's address is there."""
    count = sum(1 for _found in _DEBUG_MESSAGE.finditer(content))
    for found in _LOGGED_PACKET.finditer(content):
        count += bool(ports & {int(port) for port in found.groups()})
    if present:
        count += sum(1 for found in _ADDRESS.finditer(content) if parsed(found[0]) in present)
    return count


def parsed(text: bytes) -> bytes:
    """An address in 4 or 16 bytes; nothing if it is none."""
    family = socket.AF_INET6 if b":" in text else socket.AF_INET
    try:
        address = socket.inet_pton(family, text.decode("ascii"))
    except (OSError, ValueError):
        return b""
    return address[12:] if address.startswith(_MAPPED) else address


def named_in(line: bytes) -> Iterator[bytes]:
    """The addresses in a text, 4 or 16 bytes each."""
    return filter(None, (parsed(found[0]) for found in _ADDRESS.finditer(line)))


def _running(host: Host, names: tuple[str, ...]) -> list[str]:
    return [name for name, unit in host.units(*names).items() if unit.there]


@check("syslog", Severity.MEDIUM, "no second logging daemon writes to the disk")
def syslog(host: Host) -> Iterator[Leak]:
    for name in _running(host, _SYSLOG):
        yield Leak(
            "a logging daemon writes what the journal only keeps in memory",
            name,
            f"systemctl disable --now {name}, and remove what it wrote in /var/log; or accept this, if it does "
            "not write the kernel's messages",
        )


@check("log-export", Severity.MEDIUM, "no logs are sent elsewhere")
def log_export(host: Host) -> Iterator[Leak]:
    for name in _running(host, _SHIPPERS):
        yield Leak("logs are sent to other hosts, where nothing is forgotten", name, f"systemctl disable --now {name}")


@check("flow-export", Severity.HIGH, "nobody counts or exports flows")
def flow_export(host: Host) -> Iterator[Leak]:
    for name in _running(host, _FLOWS):
        yield Leak("flows are recorded with the addresses of both ends", name, f"systemctl disable --now {name}")
    if host.path("/sys/module/ipt_NETFLOW").exists():
        yield Leak("the kernel exports flows", "the module ipt_NETFLOW is loaded", "rmmod ipt_NETFLOW")


@check("kernel-audit", Severity.MEDIUM, "the kernel's audit trail is not written")
def kernel_audit(host: Host) -> Iterator[Leak]:
    for name in _running(host, ("auditd.service",)):
        yield Leak(
            "the audit trail has the addresses of connections, and is on the disk",
            name,
            f"systemctl disable --now {name}; remove /var/log/audit",
        )


@check("statistics", Severity.LOW, "nobody keeps statistics of the network over time")
def statistics(host: Host) -> Iterator[Leak]:
    for name in _running(host, ("sysstat.service", "sysstat-collect.timer", "vnstat.service", "atop.service")):
        yield Leak(
            "what the network did is recorded minute by minute, and tells when somebody came and left",
            name,
            f"systemctl disable --now {name}",
        )
