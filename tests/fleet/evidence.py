# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machines have to say about a test that failed: they are thrown away with the lab. A plugin of pytest."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from .hosts import Host, lab_hosts

_LINES = 80  # of each machine, the latest
_SAID = (
    f"cat /proc/loadavg; journalctl --boot --no-pager --output=short-precise --lines={_LINES}"
    " _TRANSPORT=kernel + _COMM=lethe + _COMM=systemd"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections.extend(_evidence())
    return report


def _evidence() -> Iterator[tuple[str, str]]:
    try:
        hosts = [host for group in lab_hosts().values() for host in group]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        yield "the lab", f"cannot be asked: {error}"
        return
    for host in hosts:
        yield f"the journal of {host.name}", _said_by(host)


def _said_by(host: Host) -> str:
    try:
        asked = host.try_to_run(_SAID, seconds=60)
    except subprocess.TimeoutExpired:
        return "it does not answer"
    return asked.stdout + asked.stderr
