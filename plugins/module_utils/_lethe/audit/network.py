# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: what the network stack around WireGuard keeps of its packets."""

from __future__ import annotations

from collections.abc import Iterator

from . import rulesets
from .finding import Leak, Severity, check
from .host import CannotLook, Host

KEPT_ROUTE = 60  # seconds for which a route to one address may be kept; the role gateway sets it

_TRACKING = "/proc/sys/net/netfilter/nf_conntrack_max"


def ruleset(host: Host) -> list[rulesets.Rule]:
    """The rules of nftables, also those that iptables made through it."""

    def look() -> list[rulesets.Rule]:
        try:
            return rulesets.rules(host.run("nft", "--json", "--terse", "list", "ruleset"))
        except rulesets.NotARuleset:
            raise CannotLook("nft printed something that is not a ruleset in JSON") from None

    return host.once("ruleset", look)


def _ports(host: Host) -> dict[str, int]:
    """By interface; those that listen."""
    ports = {name: host.kernel.device(name).settings().listen_port for name in host.interfaces}
    return {name: port for name, port in ports.items() if port}


@check("tracked", Severity.HIGH, "connection tracking has no entry of a client")
def tracked(host: Host) -> Iterator[Leak]:
    if not host.path(_TRACKING).exists():
        return
    for interface, port in _ports(host).items():
        count = host.kernel.tracked(port)
        if count:
            yield Leak(
                f"connection tracking has clients' public addresses, of the port of {interface}",
                f"{count} entries",
                f"roll out the role gateway; remove the entries now: lethe untrack {port}",
            )


@check("tracking-rules", Severity.HIGH, "the WireGuard port is exempt from connection tracking, in both directions")
def tracking_rules(host: Host) -> Iterator[Leak]:
    # Without the module nothing is tracked. It comes with the first rule that needs it.
    if not host.path(_TRACKING).exists():
        return
    for interface, port in _ports(host).items():
        exempt = rulesets.exempt(ruleset(host), port)
        missing = [
            f"{direction} {name}"
            for direction, families in exempt.items()
            for family, name in (("ip", "IPv4"), ("ip6", "IPv6"))
            if family not in families
        ]
        if missing:
            yield Leak(
                f"packets of {interface} itself are tracked: no rule exempts its port",
                ", ".join(missing),
                f"systemctl restart lethe-firewall@{interface}.service; where there is none, roll out the role gateway",
            )


@check("neighbours", Severity.MEDIUM, "hosts on the same network with which nobody speaks any more are forgotten")
def neighbours(host: Host) -> Iterator[Leak]:
    # neigh_periodic_work(), net/core/neighbour.c: with fewer entries than this none is ever collected.
    for version in ("ipv4", "ipv6"):
        entries = host.number(f"/proc/sys/net/{version}/neigh/default/gc_thresh1")
        if entries:
            yield Leak(
                f"{version.replace('ip', 'IP')}: the addresses of hosts on the same network, as clients can be, stay",
                f"up to {entries} entries, without an end (net.{version}.neigh.default.gc_thresh1)",
                "roll out the role gateway (/etc/sysctl.d/90-lethe.conf)",
            )


@check("kept-routes", Severity.MEDIUM, "no route to a single address is kept for more than a minute")
def kept_routes(host: Host) -> Iterator[Leak]:
    long = [seconds for seconds in host.kernel.kept_routes() if seconds > KEPT_ROUTE]
    if long:
        ends = [seconds for seconds in long if seconds != float("inf")]
        last = f"the last for {max(ends):.0f} s" if ends else "for ever"
        yield Leak(
            "the kernel has routes to single addresses, as it makes them for a client behind a smaller MTU",
            f"{len(long)} routes, {last}",
            "ip route flush cache; ip -6 route flush cache",
        )


@check("kept-routes-time", Severity.MEDIUM, "such routes are kept for a minute at most")
def kept_routes_time(host: Host) -> Iterator[Leak]:
    for version in ("ipv4", "ipv6"):
        seconds = host.number(f"/proc/sys/net/{version}/route/mtu_expires")
        if seconds is not None and seconds > KEPT_ROUTE:
            yield Leak(
                f"{version.replace('ip', 'IP')}: routes to single addresses are kept for too long",
                f"net.{version}.route.mtu_expires is {seconds} s",
                "roll out the role gateway (/etc/sysctl.d/90-lethe.conf)",
            )
