# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: what the kernel's WireGuard itself keeps, for how long, and whether the purge that ends it is alive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..wireguard.errors import LetheError
from ..wireguard.keys import PublicKey
from ..wireguard.peers import PeerState
from ..wireguard.purge import SESSION_LIMIT, Figures, Memory, select
from ..wireguard.purge_run import STATE_DIRECTORY, read_memory
from .finding import Leak, Severity, check
from .host import CannotLook, Host

GRACE = 10  # seconds in which a run that is due has come to its end, on a slow machine
_ACCURACY = 1  # second, of the purge's timer
_SECOND = 1_000_000_000
_PERIOD = 15  # seconds, where no timer says

# Its own release, told by the first two numbers, and the first one of it without the fault.
_FREES_NODES = {(5, 10): 43, (5, 12): 10}
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Purge:
    """What the purge of an interface is told, by its units."""

    idle_after: int = SESSION_LIMIT
    period: int = _PERIOD
    exempt: frozenset[PublicKey] = frozenset()

    @classmethod
    def of(cls, host: Host, interface: str) -> Purge:
        service = host.unit_file(f"lethe-purge@{interface}.service") or ""
        timer = host.unit_file(f"lethe-purge@{interface}.timer") or ""
        idle_after = re.search(r"--idle-after (\d+)", service)
        period = re.search(r"^OnUnitActiveSec=(\d+)$", timer, re.MULTILINE)
        try:
            keys = [PublicKey.from_text(key) for key in re.findall(r"--exempt (\S+)", service)]
        except LetheError:
            raise CannotLook(f"the purge of {interface} is told of a peer that has no valid key") from None
        return cls(
            int(idle_after[1]) if idle_after else SESSION_LIMIT,
            int(period[1]) if period else _PERIOD,
            frozenset(keys),
        )

    def bound(self, memory: Memory | None) -> int:
        """Seconds after its last handshake at which a peer's address is gone (role purge)."""
        last = memory.figures.duration if memory and memory.figures else 0.0
        return int(self.idle_after + self.period + _ACCURACY + last + GRACE)


def heard(host: Host, interface: str) -> list[PeerState]:
    """The peers that the kernel knows an address or a handshake of."""
    return host.once(
        ("heard", interface),
        lambda: host.kernel.device(interface).read_heard(lambda states: [state for state in states if state]),
    )


def addresses(host: Host) -> frozenset[bytes]:
    """Where the peers of all interfaces are just now, 4 or 16 bytes each. Peers with a fixed address are left out."""
    return frozenset(
        state.endpoint.address
        for interface in host.interfaces
        for exempt in [Purge.of(host, interface).exempt]
        for state in heard(host, interface)
        if state.endpoint is not None and state.public_key not in exempt
    )


def _memory(host: Host, interface: str) -> Memory | None:
    return read_memory(host.path(f"{STATE_DIRECTORY}/{interface}.json"))


def _overdue(host: Host, interface: str, *, ghosts: bool) -> tuple[Figures, int]:
    """What a purge would find by now that it should have found before; and the bound in seconds. One for ghosts is a
    period longer.
    """
    purge, memory = Purge.of(host, interface), _memory(host, interface)
    bound = purge.bound(memory) + (purge.period if ghosts else 0)
    states = heard(host, interface)
    selection = select(states, memory or Memory(), host.clocks(), idle_after=bound, exempt=purge.exempt)
    return selection.figures, bound


@check("endpoints", Severity.HIGH, "no peer that left is remembered for longer than the bound")
def endpoints(host: Host) -> Iterator[Leak]:
    for interface in host.interfaces:
        figures, bound = _overdue(host, interface, ghosts=False)
        if figures.idle:
            yield Leak(
                f"{interface} has addresses or handshakes of peers that left",
                f"{figures.idle} peers, silent for more than {bound} s",
                f"see why the purge does not run: systemctl status lethe-purge@{interface}.timer; "
                f"forget them now: lethe purge {interface}",
            )


@check("ghosts", Severity.HIGH, "no address without a handshake is remembered for longer than the bound")
def ghosts(host: Host) -> Iterator[Leak]:
    for interface in host.interfaces:
        figures, bound = _overdue(host, interface, ghosts=True)
        # Their age is known from the purge's runs alone: without one, they have been there for who knows how long.
        unknown = figures.waiting_ghosts if _memory(host, interface) is None else 0
        if figures.ghosts + unknown:
            age = f"for more than {bound} s" if figures.ghosts else "nobody knows for how long: no purge has run"
            yield Leak(
                f"{interface} has addresses of peers that never completed a handshake",
                f"{figures.ghosts + unknown} peers, {age}",
                f"see why the purge does not run: systemctl status lethe-purge@{interface}.timer; "
                f"forget them with two runs, {SESSION_LIMIT} s apart: lethe purge {interface}",
            )


@check("purge-timer", Severity.HIGH, "the purge runs, and is going to after a reboot")
def purge_timer(host: Host) -> Iterator[Leak]:
    for interface in host.interfaces:
        timer, service = f"lethe-purge@{interface}.timer", f"lethe-purge@{interface}.service"
        units = host.units(timer, service)
        found = units[timer]
        if found.active != "active" or found.enabled != "enabled":
            yield Leak(
                f"nothing makes {interface} forget",
                f"{timer}: {'active' if found.active == 'active' else 'not active'}, "
                f"{'enabled' if found.enabled == 'enabled' else 'not enabled'}",
                "roll out the role purge (site.yml --tags purge)",
            )
        elif units[service].result not in ("", "success"):
            yield Leak(
                f"the last purge of {interface} failed",
                service,
                f"read why: journalctl --unit={service} --lines=5",
            )


@check("purge-late", Severity.HIGH, "the last purge was a moment ago")
def purge_late(host: Host) -> Iterator[Leak]:
    for interface in host.interfaces:
        memory, period = _memory(host, interface), Purge.of(host, interface).period
        if memory is None or memory.last_run is None:
            yield Leak(
                f"no purge has run on {interface} since boot",
                "0 runs",
                f"start one and see what it says: systemctl start lethe-purge@{interface}.service",
            )
            continue
        ago = (host.clocks().boottime - memory.last_run) // _SECOND
        allowed = 2 * period + _ACCURACY + GRACE + int(memory.figures.duration if memory.figures else 0)
        if not 0 <= ago <= allowed:
            yield Leak(
                f"the last purge of {interface} is too long ago",
                f"{ago} s, where it should run every {period} s",
                f"see what holds it up: systemctl status lethe-purge@{interface}.service",
            )


@check("kernel-version", Severity.MEDIUM, "the kernel is none that is known to keep more")
def kernel_version(host: Host) -> Iterator[Leak]:
    release = (host.text("/proc/sys/kernel/osrelease") or "").strip()
    found = _RELEASE.match(release)
    if not found:
        raise CannotLook("the kernel's release is not known")
    major, minor, patch = int(found[1]), int(found[2]), int(found[3] or 0)
    fixed = _FREES_NODES.get((major, minor))
    # "wireguard: allowedips: free empty intermediate nodes when removing single node", Linux 5.13, 5.12.10, 5.10.43
    if (major, minor) < (5, 13) and (fixed is None or patch < fixed):
        yield Leak(
            "this kernel keeps a trace of a removed peer's tunnel addresses for as long as the interface is there",
            f"Linux {major}.{minor}.{patch}",
            "boot 5.10.43, 5.13 or a newer one; if your distribution has mended its own, accept this finding",
        )
    version = (host.text("/sys/module/wireguard/version") or "").strip()
    if version not in ("", "1.0.0"):  # WIREGUARD_VERSION, drivers/net/wireguard/version.h, of every kernel since 5.6
        yield Leak(
            "WireGuard is not the kernel's own, but a module from elsewhere, on which nothing here was tried",
            "/sys/module/wireguard/version",
            "remove the package wireguard-dkms and reboot",
        )
