# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from made_up import key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PrivateKey

from .conftest import RunModule


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wg0.key"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_key_is_made_once_and_stays_on_the_host(run: RunModule, path: Path) -> None:
    first = run("keypair", path=str(path))

    assert first.changed
    assert mode(path) == 0o600
    private_key = path.read_text().strip()
    assert first["public_key"] == PrivateKey.from_text(private_key).public_key().text
    assert first.tells(private_key) == []
    second = run("keypair", path=str(path))
    assert not second.changed
    assert second["public_key"] == first["public_key"]


def test_check_mode_makes_nothing(run: RunModule, path: Path) -> None:
    outcome = run("keypair", path=str(path), public_key_path=f"{path}.pub", return_private_key=True, check=True)

    assert outcome.changed
    assert (outcome["public_key"], outcome["private_key"]) == (None, None)
    assert outcome.diff == "---\ncreated\npublic key written\n"
    assert list(path.parent.iterdir()) == []


def test_the_public_key_is_written_for_all_to_read(run: RunModule, path: Path) -> None:
    run("keypair", path=str(path))
    public = Path(f"{path}.pub")

    outcome = run("keypair", path=str(path), public_key_path=str(public))

    assert outcome["steps"] == ["public key written"]
    assert public.read_text() == outcome["public_key"] + "\n"
    assert mode(public) == 0o644
    assert not run("keypair", path=str(path), public_key_path=str(public)).changed


def test_the_private_key_is_returned_only_when_asked_for(run: RunModule, path: Path) -> None:
    outcome = run("keypair", path=str(path), return_private_key=True)

    assert outcome["private_key"] == path.read_text().strip()
    assert not any(outcome["private_key"] in line for line in outcome.journal)


def test_a_preshared_key_is_made_once(run: RunModule, path: Path) -> None:
    first = run("keypair", path=str(path), type="preshared")
    content = path.read_text()

    second = run("keypair", path=str(path), type="preshared", return_private_key=True)

    assert first.changed
    assert not second.changed
    assert second["preshared_key"] == content.strip()
    assert first.tells(content.strip()) == []
    assert "public_key" not in second.result
    assert mode(path) == 0o600


def test_force_makes_another_key(run: RunModule, path: Path) -> None:
    first = run("keypair", path=str(path), public_key_path=f"{path}.pub")

    second = run("keypair", path=str(path), public_key_path=f"{path}.pub", force=True)

    assert second["steps"] == ["regenerated", "public key written"]
    assert second["public_key"] != first["public_key"]


def test_a_key_that_others_can_read_is_taken_from_them(run: RunModule, path: Path) -> None:
    run("keypair", path=str(path))
    path.chmod(0o644)

    assert run("keypair", path=str(path), check=True)["steps"] == ["mode"]
    assert mode(path) == 0o644
    assert run("keypair", path=str(path))["steps"] == ["mode"]
    assert mode(path) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("owner", ["nobody", "65534"])
def test_the_key_belongs_to_whom_it_should(run: RunModule, path: Path, owner: str) -> None:
    run("keypair", path=str(path))

    assert run("keypair", path=str(path), owner=owner)["steps"] == ["owner"]
    assert path.stat().st_uid == 65534
    assert not run("keypair", path=str(path), owner=owner).changed


def test_a_pair_is_removed(run: RunModule, path: Path) -> None:
    options = {"path": str(path), "public_key_path": f"{path}.pub"}
    run("keypair", **options)

    assert run("keypair", **options, state="absent", check=True).changed
    assert path.exists()
    assert run("keypair", **options, state="absent")["steps"] == ["removed", "public key removed"]
    assert list(path.parent.iterdir()) == []
    assert not run("keypair", **options, state="absent").changed


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"path": "/nowhere/wg0.key"}, "/nowhere/wg0.key: cannot be written"),
        ({"owner": "nobody-of-that-name"}, "owner: is no user of this host"),
        ({"group": "nobody-of-that-name"}, "group: is no group of this host"),
        ({"type": "preshared", "public_key_path": "/tmp/x"}, "public_key_path: is given for a preshared key"),
        ({"type": "public"}, "value of type must be one of: private, preshared"),
    ],
)
def test_a_fault_is_named_and_nothing_is_written(
    run: RunModule, path: Path, options: dict[str, Any], complaint: str
) -> None:
    outcome = run("keypair", **{"path": str(path), **options})

    assert outcome.failed
    assert complaint in outcome.message
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("which", ["path", "public_key_path"])
def test_a_file_that_holds_something_else_is_never_overwritten(run: RunModule, path: Path, which: str) -> None:
    other = path.with_name("precious")
    other.write_text("not a key\n")

    outcome = run("keypair", **{"path": str(path), which: str(other)})

    assert f"{other}: holds no key" in outcome.message
    assert outcome.tells("not a key\n") == []
    assert other.read_text() == "not a key\n"


def test_what_a_broken_key_file_holds_is_not_shown(run: RunModule, path: Path) -> None:
    path.write_text(key(1, "private") + "x")

    assert run("keypair", path=str(path)).tells(key(1, "private")) == []
