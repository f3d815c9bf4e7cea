# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as people get it: built, installed somewhere else, and used from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MODULES = sorted(path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py") if path.stem != "__init__")
ROLES = sorted(path.parent.parent.name for path in CHECKOUT.glob("roles/*/meta/argument_specs.yml"))
SHIPPED = {
    "CHANGELOG.rst",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "inventories",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}


def ansible(command: str, *arguments: str | Path, collections: Path, home: Path) -> str:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_FORCE_COLOR": "0",
    }
    done = subprocess.run(
        [BIN / command, *arguments], env=environment, cwd=home, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    directory = tmp_path_factory.mktemp("built")
    ansible("ansible-galaxy", "collection", "build", CHECKOUT, "--output-path", directory, collections=home, home=home)
    (built,) = directory.glob("lethe-wireguard-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    collections = tmp_path_factory.mktemp("installed")
    ansible(
        "ansible-galaxy", "collection", "install", tarball, "--offline", "--collections-path", collections,
        collections=collections, home=home,
    )  # fmt: skip
    return collections


def test_the_tarball_holds_what_is_shipped_and_nothing_of_the_checkout(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()

    assert {name.split("/")[0] for name in names} <= SHIPPED
    assert [name for name in names if "__pycache__" in name or name.startswith("inventories/lab")] == []


def test_the_tarball_has_the_lock_that_the_runtime_role_installs(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        assert "roles/runtime/files/requirements.txt" in archive.getnames()


def test_every_module_is_documented_where_the_collection_is_installed(installed: Path, home: Path) -> None:
    names = [f"lethe.wireguard.{name}" for name in MODULES]
    documented = json.loads(
        ansible("ansible-doc", "--json", "--type", "module", *names, collections=installed, home=home)
    )

    assert sorted(documented) == names
    assert [name for name in names if not documented[name]["examples"]] == []


def test_every_role_is_documented_where_the_collection_is_installed(installed: Path, home: Path) -> None:
    names = [f"lethe.wireguard.{name}" for name in ROLES]
    documented = json.loads(
        ansible("ansible-doc", "--json", "--type", "role", *names, collections=installed, home=home)
    )

    assert sorted(documented) == names


def test_site_yml_is_found_by_its_name_where_the_collection_is_installed(installed: Path, home: Path) -> None:
    inventory = home / "hosts"
    inventory.write_text("[gateways]\n[clients]\n")

    ansible(
        "ansible-playbook", "--syntax-check", "--inventory", inventory, "lethe.wireguard.site",
        collections=installed, home=home,
    )  # fmt: skip
