# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lethe audit command, on a gateway in a directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from audit_host import PlantedHost, gateway

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe import cli
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit import host as host_module
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.audit.run import CHECKS

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlantedHost:
    """What the command looks at."""
    one = gateway(tmp_path)
    monkeypatch.setattr(host_module, "Host", lambda interfaces: one)
    return one


def test_a_gateway_in_order_ends_with_0(host: PlantedHost, capsys: Captured) -> None:
    assert cli.main(["audit"]) == 0
    assert capsys.readouterr().out.endswith(" checks: no findings\n")


@pytest.mark.parametrize(("fail_on", "status"), [("low", 3), ("medium", 3), ("high", 0), ("never", 0)], ids=str)
def test_the_exit_status_is_3_at_the_severity_that_was_named(host: PlantedHost, fail_on: str, status: int) -> None:
    host.enabled.add("rsyslog.service")  # medium
    assert cli.main(["audit", "--fail-on", fail_on]) == status


def test_what_is_accepted_does_not_count(host: PlantedHost) -> None:
    host.enabled |= {"rsyslog.service", "sysstat.service"}
    assert cli.main(["audit", "--accept", "syslog"]) == 3
    assert cli.main(["audit", "--accept", "syslog", "--accept", "statistics"]) == 0


def test_a_check_that_does_not_exist_is_named_and_nothing_is_printed(host: PlantedHost, capsys: Captured) -> None:
    assert cli.main(["audit", "--accept", "syslog", "--accept", "sislog"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("lethe: accept[1]: is no check; take one of: ")
    assert said.out == ""


@pytest.mark.parametrize("form", ["table", "json", "junit", "prometheus"])
def test_a_report_in_a_file_is_the_one_that_is_printed(
    host: PlantedHost, form: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    output = tmp_path / "report"

    assert cli.main(["audit", "--format", form]) == 0
    printed = capsys.readouterr().out
    assert cli.main(["audit", "--format", form, "--output", str(output)]) == 0

    assert output.read_text() == printed
    assert capsys.readouterr().out == ""
    assert output.stat().st_mode & 0o777 == 0o644  # node_exporter has to read it


def test_a_file_that_cannot_be_written_is_named(host: PlantedHost, capsys: Captured, tmp_path: Path) -> None:
    assert cli.main(["audit", "--output", str(tmp_path / "none/report")]) == 1
    assert capsys.readouterr().err.startswith("lethe: --output: cannot be written: No such file or directory; give")


def test_the_report_in_json_is_one_object(host: PlantedHost, capsys: Captured) -> None:
    host.planted.entries = 1
    assert cli.main(["audit", "--format", "json"]) == 3
    assert [each["check"] for each in json.loads(capsys.readouterr().out)["findings"]] == ["tracked"]


def test_the_checks_are_listed(host: PlantedHost, capsys: Captured) -> None:
    assert cli.main(["audit", "--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [one.id for one in CHECKS]


def test_the_exit_statuses_are_documented(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        cli.main(["audit", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Exit status: 0 nothing was found that counts; 1 the audit failed" in said
    assert "3 there are findings at or above --fail-on" in said


def test_an_interface_that_cannot_be_one_is_refused(capsys: Captured) -> None:
    assert cli.main(["audit", "--interface", "wg/0"]) == 1
    assert capsys.readouterr().err.startswith("lethe: name: is no name for an interface")
