# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that nft itself prints: the role's own table, and such as log and trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader
from namespaces import PORT, Namespace, run

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.rulesets import Rule, exempt, rules

TEMPLATES = Path(__file__).parents[3] / "roles/gateway/templates"
BOTH = {"ip", "ip6"}


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    network = Namespace()
    with network:
        yield
    network.close()


def load_role_table() -> None:
    environment = Environment(loader=FileSystemLoader(TEMPLATES))
    environment.filters["bool"] = bool
    table = environment.get_template("firewall.nft.j2").render(
        ansible_managed="test",
        __gateway_table="lethe_wg0",
        gateway_interface="wg0",
        gateway_listen_port=PORT,
        gateway_uplink="eth1",
        gateway_nat=True,
        gateway_isolate_clients=True,
        gateway_allow_input=["udp dport 53"],
        gateway_forward_others=False,
    )
    run("nft", "--file", "/proc/self/fd/0", text=table)


def present() -> list[Rule]:
    return rules(run("nft", "--json", "--terse", "list", "ruleset"))


def test_the_roles_table_exempts_the_port_and_logs_nothing() -> None:
    load_role_table()
    assert exempt(present(), PORT) == {"incoming": BOTH, "outgoing": BOTH}
    assert exempt(present(), PORT + 1) == {"incoming": set(), "outgoing": set()}
    assert [rule for rule in present() if rule.logs or rule.traces or rule.opaque] == []


@pytest.mark.parametrize(
    ("table", "families"),
    [
        ("inet", BOTH),
        ("ip", {"ip"}),
        ("ip6", {"ip6"}),
    ],
)
def test_a_table_exempts_the_packets_that_it_sees(table: str, families: set[str]) -> None:
    chain = f"chain c {{ type filter hook prerouting priority raw; udp dport {{ 443, {PORT} }} notrack; }};"
    run("nft", f"table {table} t {{ {chain} }}")
    assert exempt(present(), PORT) == {"incoming": families, "outgoing": set()}


@pytest.mark.parametrize(
    ("statement", "logs", "traces"),
    [
        ("log", True, False),
        ('udp dport 51820 log prefix "x" accept', True, False),
        ("log group 7", True, False),
        ("meta nftrace set 1", False, True),
        ("meta nftrace set 0", False, False),
        ("counter accept", False, False),
    ],
    ids=["log", "port", "group", "trace", "no trace", "counter"],
)
def test_rules_that_log_and_trace_are_told_from_others(statement: str, logs: bool, traces: bool) -> None:
    run("nft", f"table inet t {{ chain c {{ type filter hook prerouting priority filter; {statement}; }}; }}")
    (rule,) = present()
    assert (rule.logs and rule.sees_udp, rule.traces) == (logs, traces)


def test_a_log_rule_of_another_protocol_sees_no_packets_of_wireguard() -> None:
    run("nft", "table inet t { chain c { type filter hook input priority filter; tcp dport 22 log; }; }")
    (rule,) = present()
    assert not rule.sees_udp
