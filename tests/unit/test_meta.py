# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[2]


def test_the_action_group_has_every_module_that_people_call() -> None:
    group = yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())["action_groups"]["all"]
    # Internal to the runtime role, and says so in its documentation.
    internal = {"runtime_release"}
    modules = {path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py")} - {"__init__"} - internal

    assert modules == set(group)
