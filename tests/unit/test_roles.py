# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every role: what a person can set is documented, and the documentation tells the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"
PLAYBOOKS = sorted((ROLES.parent / "playbooks").glob("*.yml"))
HARMLESS = "not ansible_check_mode"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def defaults(role: str) -> dict[str, Any]:
    path = ROLES / role / "defaults/main.yml"
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(role: str) -> dict[str, dict[str, Any]]:
    """The options of all entry points; one that several have is the same in all."""
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    merged: dict[str, dict[str, Any]] = {}
    for name, spec in specs.items():
        for option, definition in (spec.get("options") or {}).items():
            assert merged.setdefault(option, definition) == definition, f"{option} differs in entry point {name}"
    return merged


@pytest.mark.parametrize("role", NAMES)
def test_every_variable_begins_with_the_name_of_the_role(role: str) -> None:
    assert [name for name in {**defaults(role), **options(role)} if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", NAMES)
def test_defaults_and_argument_specs_agree_in_names(role: str) -> None:
    optional = {name for name, option in options(role).items() if "default" in option}

    assert set(defaults(role)) == optional


@pytest.mark.parametrize("role", NAMES)
def test_defaults_and_argument_specs_agree_in_values(role: str) -> None:
    documented = {name: option["default"] for name, option in options(role).items() if "default" in option}

    assert defaults(role) == documented


@pytest.mark.parametrize("role", NAMES)
def test_every_option_has_a_type_and_a_description(role: str) -> None:
    assert [name for name, option in options(role).items() if not {"type", "description"} <= option.keys()] == []


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_no_role_is_imported_under_a_condition(playbook: Path) -> None:
    """Its handlers would be under that condition as well, also where other tasks notify them. In check mode they do
    nothing anyway.
    """
    tasks = [
        task
        for play in yaml.safe_load(playbook.read_text())
        for part in ("pre_tasks", "tasks", "post_tasks")
        for task in play.get(part, [])
    ]
    imported = [task for task in tasks if "ansible.builtin.import_role" in task]
    conditional = [task["name"] for task in imported if task.get("when", HARMLESS) != HARMLESS]

    assert conditional == []
