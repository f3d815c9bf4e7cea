# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any sequence of requests, against a model: a few of them; the slower tests try more."""

from __future__ import annotations

from pathlib import Path

from registry.machine import run_on_postgresql, run_on_sqlite
from registry.postgresql_server import PostgresqlServer


def test_any_sequence_of_requests_on_sqlite(sqlite_template: Path) -> None:
    run_on_sqlite(sqlite_template, examples=15, steps=30)


def test_any_sequence_of_requests_on_postgresql(postgresql: PostgresqlServer, postgresql_template: str) -> None:
    run_on_postgresql(postgresql, postgresql_template, examples=4, steps=25)
