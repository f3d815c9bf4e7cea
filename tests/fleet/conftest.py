# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from fleet.evidence import pytest_runtest_makereport  # noqa: F401 - a hook
from fleet.fleet import Fleet


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The lab's fleet after site.yml, with both clients knowing the gateways."""
    found = Fleet.in_lab()
    for client in (found.alice, found.bob):
        client.connect(found.gateways)
    return found
