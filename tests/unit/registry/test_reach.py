# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which gateways have a key, by what they reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from registry.fixtures import MakeRegistry
from registry.support import Registry, key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.gateways import Gateway
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, reach, reports
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.history import begin_epoch
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.reach import APPLIED, AWAY, FRESH, PENDING
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.reports import InterfaceReport, Report

GATEWAYS = tuple(Gateway(f"gateway{n}", key(100 + n), f"gateway{n}.example", 51820) for n in (1, 2))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """With the gateways that clients are told of: two."""
    return listed(tmp_path / "gateways.json", *GATEWAYS)


def listed(file: Path, *gateways: Gateway) -> Path:
    found = [{**gateway.as_json(), "interface": gateway.interface} for gateway in gateways]
    file.write_text(json.dumps({"gateways": found}))
    return file


@pytest.fixture
def registry(make_registry: MakeRegistry, file: Path) -> Registry:
    """With an account ``alice``."""
    one = make_registry(gateways_file=str(file))
    one.create("alice")
    for gateway in GATEWAYS:
        one.store.write(lambda tx, name=gateway.name: credentials.issue(tx, credentials.GATEWAY, name))
    return one


def report(
    registry: Registry, label: str, revision: int | None = None, epoch: str | None = None, interface: str = "wg0"
) -> None:
    """As a gateway does that has all there is, unless another ``revision`` is given."""
    position = registry.position()
    revision = position.revision if revision is None else revision
    one = InterfaceReport(interface, epoch or position.epoch, revision, 1, None, 0)
    latest = {label: Report((one,), "1.0.0", int(registry.clock.now))}
    registry.store.write(lambda tx: reports.keep(tx, latest))


def reached(registry: Registry, number: int = 1) -> tuple[str, ...]:
    return tuple(each.state for each in registry.store.read(lambda tx: reach.of_key(tx, key(number))))


def is_everywhere(registry: Registry) -> bool:
    return registry.store.read(lambda tx: reach.is_everywhere(reach.of_key(tx, key(1))))


def test_a_gateway_has_a_key_once_it_reports_its_revision(registry: Registry) -> None:
    report(registry, "gateway1")
    registry.register("alice", key(1))
    assert reached(registry) == (PENDING, AWAY)
    registry.register("alice", key(2))
    report(registry, "gateway1", revision=1)
    assert reached(registry, 1) == (APPLIED, AWAY)
    assert reached(registry, 2) == (PENDING, AWAY)


def test_everywhere_is_where_gateways_are_connected(registry: Registry) -> None:
    registry.register("alice", key(1))
    assert not is_everywhere(registry)  # nobody reports: it is not known
    report(registry, "gateway1")
    assert is_everywhere(registry)
    report(registry, "gateway2", revision=0)
    assert reached(registry) == (APPLIED, PENDING)
    assert not is_everywhere(registry)
    registry.clock.move(seconds=FRESH)
    report(registry, "gateway1")
    assert not is_everywhere(registry)
    registry.clock.move(seconds=1)
    assert is_everywhere(registry)


def test_a_report_counts_for_its_interface_and_epoch(registry: Registry, file: Path) -> None:
    registry.register("alice", key(1))
    report(registry, "gateway1", interface="wg1")
    assert reached(registry) == (AWAY, AWAY)
    report(registry, "gateway1", epoch="0" * 32)
    assert reached(registry) == (PENDING, AWAY)
    report(registry, "gateway1")
    registry.store.write(begin_epoch)
    assert reached(registry) == (PENDING, AWAY)
    listed(file, replace(GATEWAYS[0], interface="wg7"))
    report(registry, "gateway1", interface="wg7")
    assert reached(registry) == (APPLIED,)


def test_a_gateway_without_a_credential_is_away(registry: Registry) -> None:
    registry.register("alice", key(1))
    report(registry, "gateway1")
    registry.store.write(lambda tx: credentials.withdraw(tx, credentials.GATEWAY, "gateway1"))
    assert reached(registry) == (AWAY, AWAY)


def test_a_key_of_before_the_retained_changes_is_where_those_are(registry: Registry) -> None:
    registry.register("alice", key(1))
    registry.register("alice", key(2))
    registry.position()
    registry.clock.move(days=2)
    registry.tidy()
    assert registry.changes() == []
    report(registry, "gateway1", revision=1)
    assert reached(registry) == (PENDING, AWAY)
    report(registry, "gateway1")
    assert reached(registry) == (APPLIED, AWAY)


def test_a_resumed_key_is_nowhere_until_it_is_there_again(registry: Registry) -> None:
    registry.register("alice", key(1))
    report(registry, "gateway1")
    registry.suspend("alice")
    registry.resume("alice")
    assert reached(registry) == (PENDING, AWAY)
    report(registry, "gateway1")
    assert reached(registry) == (APPLIED, AWAY)


def test_a_change_without_a_revision_is_nowhere(registry: Registry) -> None:
    report(registry, "gateway1")
    registry.register("alice", key(1))
    assert reached(registry) == (PENDING, AWAY)  # on PostgreSQL nobody has stamped it
    report(registry, "gateway1")
    assert reached(registry) == (APPLIED, AWAY)
