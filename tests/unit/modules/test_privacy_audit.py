# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_module import module
from audit_host import GONE_AT, SECRETS, SILENT, PlantedHost, gateway

from .conftest import RunModule


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlantedHost:
    """What the module looks at."""
    one = gateway(tmp_path)
    monkeypatch.setattr(module("privacy_audit"), "Host", lambda interfaces: one)
    return one


def test_a_gateway_in_order_has_no_findings(host: PlantedHost, run: RunModule) -> None:
    outcome = run("privacy_audit")

    assert not outcome.changed
    assert outcome["findings"] == []
    assert outcome["counts"] == {"high": 0, "medium": 0, "low": 0}
    assert outcome["checks"] > 30
    assert outcome["reports"] == {}


def test_findings_are_returned_and_fail_nothing(host: PlantedHost, run: RunModule) -> None:
    host.planted.entries = 3
    host.enabled.add("rsyslog.service")

    outcome = run("privacy_audit")

    assert not outcome.changed
    assert outcome["counts"] == {"high": 1, "medium": 1, "low": 0}
    assert outcome["findings"][0] == {
        "check": "tracked",
        "severity": "high",
        "what": "connection tracking has clients' public addresses, of the port of wg0",
        "evidence": "3 entries",
        "fix": "roll out the role gateway; remove the entries now: lethe untrack 51820",
        "looked": True,
        "accepted": False,
    }


def test_check_mode_looks_as_well(host: PlantedHost, run: RunModule) -> None:
    host.planted.entries = 3
    assert [each["check"] for each in run("privacy_audit", check=True)["findings"]] == ["tracked"]


def test_what_is_accepted_is_returned_and_not_counted(host: PlantedHost, run: RunModule) -> None:
    host.enabled.add("rsyslog.service")

    outcome = run("privacy_audit", accept=["syslog"])

    assert [(each["check"], each["accepted"]) for each in outcome["findings"]] == [("syslog", True)]
    assert outcome["counts"]["medium"] == 0


def test_reports_are_returned_if_they_are_asked_for(host: PlantedHost, run: RunModule) -> None:
    host.planted.entries = 3

    reports = run("privacy_audit", formats=["table", "json", "junit", "prometheus"], label="gateway7")["reports"]

    assert reports["table"].startswith("gateway7, ")
    assert json.loads(reports["json"])["host"] == "gateway7"
    (suite,) = ElementTree.fromstring(reports["junit"])
    assert (suite.get("name"), suite.get("failures")) == ("gateway7", "1")
    assert 'lethe_audit_findings{check="tracked",severity="high"} 1' in reports["prometheus"]


def test_nobody_is_named(host: PlantedHost, run: RunModule) -> None:
    host.peer(SILENT, f"{GONE_AT}:4500", handshake_ago=300)
    host.write("/var/log/kern.log", f"wireguard: wg0: handshake from peer 3 ({GONE_AT}:4500)\n")

    outcome = run("privacy_audit", formats=["table", "json", "junit", "prometheus"])

    assert len(outcome["findings"]) == 2
    assert outcome.tells(*SECRETS) == []


def test_a_check_that_does_not_exist_is_refused(host: PlantedHost, run: RunModule) -> None:
    assert run("privacy_audit", accept=["sislog"]).message.startswith("accept[0]: is no check; take one of: agent, ")


def test_an_interface_that_cannot_be_one_is_refused(run: RunModule) -> None:
    assert run("privacy_audit", interfaces=["wg/0"]).message.startswith("name: is no name for an interface")
