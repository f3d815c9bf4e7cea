# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit has found, for people and for machines: a table, JSON, JUnit XML, the text format of Prometheus."""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from .finding import Check, Finding, Severity

_WIDTH = 100  # characters
_INDENT = " " * 8


@dataclass(frozen=True, slots=True)
class Report:
    """One audit of one host."""

    host: str
    time: float  # seconds since 1970
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]  # the worst first

    def counting(self, least: Severity) -> list[Finding]:
        """The findings that are that bad, without those that are accepted."""
        return [each for each in self.findings if each.severity >= least and not each.accepted]

    def as_json(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "time": int(self.time),
            "checks": len(self.checks),
            "findings": [{**asdict(each), "severity": each.severity.text} for each in self.findings],
        }


def table(report: Report) -> str:
    """For people: the worst first, what it is, what was seen, what to do."""
    lines = [_headline(report)]
    for each in report.findings:
        marks = (" (accepted)" if each.accepted else "") + ("" if each.looked else " (not checked)")
        lines += ["", f"{each.severity.text.upper():<7} {each.check}{marks}"]
        for label, text in (("", each.what), ("seen: ", each.evidence), ("fix:  ", each.fix)):
            lines += textwrap.wrap(
                label + text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT + " " * len(label),
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return "\n".join(lines) + "\n"


def _headline(report: Report) -> str:
    counts = Counter(each.severity for each in report.findings if not each.accepted)
    accepted = sum(each.accepted for each in report.findings)
    parts = [f"{counts[severity]} {severity.text}" for severity in sorted(Severity, reverse=True) if counts[severity]]
    parts += [f"{accepted} accepted"] if accepted else []
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(report.time))
    return f"{report.host}, {when}, {len(report.checks)} checks: {', '.join(parts) or 'no findings'}"


def as_json(report: Report) -> str:
    """One JSON object."""
    return json.dumps(report.as_json(), indent=2) + "\n"


def junit(report: Report) -> str:
    """JUnit's XML: each check is a test; one that could not look is in error, an accepted finding skips it."""
    by_check = _by_check(report)
    cases = [_case(one, by_check.get(one.id, [])) for one in report.checks]
    counts = Counter(kind for kind, _lines in cases)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(report.time))
    totals = (
        f'tests="{len(cases)}" failures="{counts["failure"]}" errors="{counts["error"]}" skipped="{counts["skipped"]}"'
    )
    suite = f"<testsuite name={quoteattr(report.host)} timestamp={quoteattr(when)} {totals}>"
    lines = [line for _kind, of_case in cases for line in of_case]
    head = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites {totals}>", suite]
    return "\n".join([*head, *lines, "</testsuite>", "</testsuites>"]) + "\n"


def _case(one: Check, findings: list[Finding]) -> tuple[str, list[str]]:
    """What became of a test, and its lines."""
    opening = f"<testcase classname={quoteattr(f'lethe.audit.{one.severity.text}')} name={quoteattr(one.id)}"
    if not findings:
        return "passed", [f"{opening}/>"]
    if all(each.accepted for each in findings):
        return "skipped", [f"{opening}>", '<skipped message="accepted"/>', "</testcase>"]
    kind = "failure" if any(each.looked for each in findings) else "error"
    said = "; ".join(f"{each.what}: {each.evidence}. {each.fix}" for each in findings)
    said_so = f"<{kind} type={quoteattr(one.severity.text)} message={quoteattr(said)}/>"
    return kind, [f"{opening}>", said_so, "</testcase>"]


def prometheus(report: Report) -> str:
    """For node_exporter's textfile collector."""
    by_check = _by_check(report)
    lines = [
        "# HELP lethe_audit_findings Findings of each check, without those that are accepted.",
        "# TYPE lethe_audit_findings gauge",
        *(
            f"lethe_audit_findings{_labels(one)} {sum(not each.accepted for each in by_check.get(one.id, []))}"
            for one in report.checks
        ),
        "# HELP lethe_audit_checked Whether each check could look.",
        "# TYPE lethe_audit_checked gauge",
        *(
            f"lethe_audit_checked{_labels(one)} {int(all(each.looked for each in by_check.get(one.id, [])))}"
            for one in report.checks
        ),
        "# HELP lethe_audit_timestamp_seconds When the audit was.",
        "# TYPE lethe_audit_timestamp_seconds gauge",
        f"lethe_audit_timestamp_seconds {report.time:.0f}",
    ]
    return "\n".join(lines) + "\n"


def _labels(one: Check) -> str:
    return f'{{check="{one.id}",severity="{one.severity.text}"}}'


def _by_check(report: Report) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for each in report.findings:
        found.setdefault(each.check, []).append(each)
    return found


FORMATS: Mapping[str, Callable[[Report], str]] = {
    "table": table,
    "json": as_json,
    "junit": junit,
    "prometheus": prometheus,
}
