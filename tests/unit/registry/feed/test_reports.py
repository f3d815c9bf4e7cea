# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateways say they have applied, and what operators see of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from registry.feeding import FeedSite
from registry.support import key, until

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, history, reports
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api.bodies import GatewaysAnswer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.reports import Gateway


def interface(site: FeedSite, **other: Any) -> dict[str, Any]:
    position = site.position()
    return {
        "interface": "wg0",
        "epoch": position.epoch,
        "revision": position.revision,
        "peers": 7,
        "oldest_endpoint": 12.5,
        "drift": 0,
        **other,
    }


def gateways(site: FeedSite) -> list[Gateway]:
    return site.registry.store.read(reports.gateways)


def told(site: FeedSite, gateway: httpx.Client, *interfaces: dict[str, Any], version: str = "1.2.3") -> None:
    """Report, and wait until it is written down."""
    answer = gateway.post("/v1/feed/report", json={"interfaces": interfaces, "version": version})
    assert (answer.status_code, answer.content) == (204, b"")
    wanted = [each["interface"] for each in interfaces]
    until(
        lambda: (
            not site.in_loop(lambda: len(site.service.reports))
            and any(
                each.report is not None and sorted(one.interface for one in each.report.interfaces) == sorted(wanted)
                for each in gateways(site)
            )
        )
    )


def test_the_latest_report_of_each_gateway_is_kept(site: FeedSite) -> None:
    site.registry.register("alice", key(1))
    site.token("gateway two")
    with site.asking(site.token("gateway one")) as gateway:
        told(site, gateway, interface(site), interface(site, interface="wg1", oldest_endpoint=None, drift=3))
        told(site, gateway, interface(site, peers=8), version="1.2.4")
    one, two = gateways(site)
    assert (one.label, two) == ("gateway one", Gateway("gateway two", None))
    assert one.report is not None
    assert one.report.version == "1.2.4"
    (only,) = one.report.interfaces
    assert (only.interface, only.revision, only.peers, only.oldest_endpoint) == ("wg0", 1, 8, 12.5)


def test_operators_see_who_is_behind(site: FeedSite) -> None:
    with site.asking(site.token("gateway one")) as gateway:
        told(site, gateway, interface(site), interface(site, interface="wg1", epoch="0" * 32))
    site.registry.register("alice", key(1))
    site.token("gateway two")
    site.registry.settle()
    seen = site.registry.store.read(
        lambda tx: GatewaysAnswer.of(history.position(tx), reports.gateways(tx), tx.now + 10**9)
    ).model_dump()
    assert (seen["epoch"], seen["revision"]) == (site.position().epoch, 1)
    one, two = seen["gateways"]
    assert [(each["interface"], each["behind"]) for each in one["interfaces"]] == [("wg0", 1), ("wg1", None)]
    assert one["age"] > 0
    assert two == {"label": "gateway two", "age": None, "version": None, "interfaces": []}


def test_a_gateway_that_left_is_forgotten(site: FeedSite) -> None:
    with site.asking(site.token("gateway one")) as gateway:
        told(site, gateway, interface(site))
    site.registry.store.write(lambda tx: credentials.withdraw(tx, "gateway", "gateway one"))
    assert gateways(site) == []
    assert site.registry.store.write(lambda tx: history.prune(tx, 100)) == 1
    assert site.registry.store.write(lambda tx: history.prune(tx, 100)) == 0


def test_what_a_later_version_adds_is_ignored(site: FeedSite) -> None:
    with site.asking(site.token()) as gateway:
        told(site, gateway, interface(site, mood="good"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"interface": "wg 0"},
        {"interface": "a" * 16},
        {"epoch": "secret"},
        {"revision": -1},
        {"revision": "1"},
        {"revision": 2**63},
        {"peers": -1},
        {"oldest_endpoint": -1.0},
        {"drift": None},
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_field(site: FeedSite, wrong: dict[str, Any]) -> None:
    with site.asking(site.token()) as gateway:
        answer = gateway.post("/v1/feed/report", json={"interfaces": [interface(site, **wrong)], "version": "1"})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [f"interfaces.0.{next(iter(wrong))}"]
    assert "secret" not in answer.text
    assert not site.service.reports
