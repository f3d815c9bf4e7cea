# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's packet filter rules, as far as they say what is tracked and what is logged. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_BEFORE_TRACKING = -200  # NF_IP_PRI_CONNTRACK, include/uapi/linux/netfilter_ipv4.h
_BOTH = frozenset(("ip", "ip6"))
_FAMILIES = {"inet": _BOTH, "ip": frozenset(("ip",)), "ip6": frozenset(("ip6",))}
_LOGGING = frozenset(("log", "dup"))
_LOGGING_TARGETS = frozenset(("LOG", "NFLOG", "ULOG", "TRACE", "TEE"))
_JUMP = re.compile(r" -j (\S+)")


class NotARuleset(ValueError):
    """nft printed something else."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of nftables, in the words of ``nft --json``."""

    families: frozenset[str]  # "ip", "ip6"; empty for those that see no IP packets, or all
    hook: str  # of its chain; empty for a chain that others jump to
    priority: int
    statements: tuple[Mapping[str, Any], ...]

    def has(self, statement: str) -> bool:
        return any(statement in each for each in self.statements)

    def matches_port(self, field: str, port: int) -> bool:
        """Whether it is about a UDP port (``sport``, ``dport``), alone or among others."""
        for each in self.statements:
            match = each.get("match") or {}
            left = match.get("left") if isinstance(match, Mapping) else None
            if isinstance(left, Mapping) and left.get("payload") == {"protocol": "udp", "field": field}:
                right = match.get("right")
                ports = right.get("set", []) if isinstance(right, Mapping) else [right]
                if match.get("op") in ("==", "in") and port in ports:
                    return True
        return False

    @property
    def sees_udp(self) -> bool:
        """False if it is about another protocol, as a rule for a service over TCP is."""
        for each in self.statements:
            match = each.get("match")
            left = match.get("left") if isinstance(match, Mapping) else None
            payload = left.get("payload") if isinstance(left, Mapping) else None
            protocol = payload.get("protocol") if isinstance(payload, Mapping) else None
            if protocol in ("tcp", "icmp", "icmpv6", "sctp", "dccp", "arp", "ether"):
                return False
        return True

    @property
    def traces(self) -> bool:
        for each in self.statements:
            changed = each.get("mangle")
            if isinstance(changed, Mapping) and changed.get("key") == {"meta": {"key": "nftrace"}}:
                return changed.get("value") != 0
        return self._targets("TRACE")

    @property
    def logs(self) -> bool:
        """Whether it logs or copies packets."""
        return any(self.has(name) for name in _LOGGING) or self._targets(*_LOGGING_TARGETS - {"TRACE"})

    @property
    def opaque(self) -> bool:
        """It is of iptables, and nft does not say what it does."""
        return any("xt" in each and not isinstance(each["xt"], Mapping) for each in self.statements)

    def _targets(self, *names: str) -> bool:
        return any(isinstance(each.get("xt"), Mapping) and each["xt"].get("name") in names for each in self.statements)


def rules(text: str) -> list[Rule]:
    """Of ``nft --json --terse list ruleset``. Raises NotARuleset."""
    try:
        return list(_rules(json.loads(text)["nftables"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotARuleset from None


def _rules(objects: list[dict[str, Any]]) -> Iterator[Rule]:
    chains = {_name(each["chain"], "name"): each["chain"] for each in objects if "chain" in each}
    for each in objects:
        rule = each.get("rule")
        if rule is not None:
            chain = chains.get(_name(rule, "chain"), {})
            yield Rule(
                _FAMILIES.get(rule["family"], frozenset()),
                chain.get("hook", ""),
                int(chain.get("prio", 0)),
                tuple(statement for statement in rule["expr"] if isinstance(statement, dict)),
            )


def _name(of: Mapping[str, Any], key: str) -> tuple[str, str, str]:
    return of["family"], of["table"], of[key]


def exempt(ruleset: list[Rule], port: int) -> dict[str, frozenset[str]]:
    """By direction, for which families packets of a UDP port are never tracked."""
    found = {}
    for direction, hook, field in (("incoming", "prerouting", "dport"), ("outgoing", "output", "sport")):
        families = [
            rule.families
            for rule in ruleset
            if rule.hook == hook
            and rule.priority < _BEFORE_TRACKING
            and rule.has("notrack")
            and rule.matches_port(field, port)
        ]
        found[direction] = frozenset().union(*families)
    return found


def logging_lines(saved: str) -> tuple[int, int]:
    """How many rules of ``iptables-save`` log or copy packets, and how many trace them."""
    logs = traces = 0
    for line in saved.splitlines():
        jump = _JUMP.search(line)
        target = jump[1] if jump else ""
        udp = " -p " not in line or " -p udp" in line
        traces += target == "TRACE"
        logs += target in _LOGGING_TARGETS - {"TRACE"} and udp
    return logs, traces
