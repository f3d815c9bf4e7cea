# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""interface_key on a real kernel, with wg as the witness."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from made_up import key, peer

from .conftest import RunModule, Wg, command

FORGET_KEY = Path(__file__).parents[3] / "roles/gateway/files/forget_key.sh"


@pytest.fixture
def file(run: RunModule, tmp_path: Path) -> Path:
    """The private key's file of an interface with peers."""
    path = tmp_path / "wg.key"
    run("interface", private_key_file=str(path), generate_private_key=True, listen_port=51830)
    run("peers", peers=[peer(1, preshared_key=key(1, "preshared"), persistent_keepalive=25), peer(2)])
    return path


def peers(wg: Wg) -> list[str]:
    return wg("dump").splitlines()[1:]


def test_an_interface_takes_its_next_key_and_peers_stay(run: RunModule, wg: Wg, file: Path) -> None:
    before, had = wg("public-key"), peers(wg)
    coming = run("interface_key", private_key_file=str(file), state="prepared")["next_public_key"]
    assert wg("public-key") == before
    told = run("interface_info", private_key_file=str(file))["interface"]
    assert (told["public_key"], told["next_public_key"]) == (before, coming)

    switched = run("interface_key", private_key_file=str(file), state="switched")

    assert switched["steps"] == ["key file", "private_key"]
    assert wg("public-key") == coming
    assert wg("private-key") == file.read_text().strip()
    assert wg("listen-port") == "51830"
    assert peers(wg) == had
    assert list(file.parent.iterdir()) == [file]
    # What brings the interface up at boot, and for site.yml, finds all as it would make it.
    assert not run("interface", private_key_file=str(file), generate_private_key=True).changed
    assert not run("interface_key", private_key_file=str(file), state="switched").changed


def test_a_switch_that_stopped_before_the_kernel_is_ended_by_site_yml_or_the_same_again(
    run: RunModule, wg: Wg, file: Path
) -> None:
    for ends in (
        lambda: run("interface", private_key_file=str(file), generate_private_key=True),
        lambda: run("interface_key", private_key_file=str(file), state="switched"),
    ):
        coming = run("interface_key", private_key_file=str(file), state="prepared")["next_public_key"]
        file.with_name("wg.key.next").replace(file)
        assert run("interface_info", private_key_file=str(file))["interface"]["next_public_key"] == coming
        assert not run("interface_key", private_key_file=str(file), state="prepared").changed
        had = peers(wg)
        assert ends()["steps"] == ["private_key"]
        assert wg("public-key") == coming
        assert peers(wg) == had
        assert run("interface_info", private_key_file=str(file))["interface"]["next_public_key"] is None


def test_an_interface_that_is_not_there_is_not_made(run: RunModule, name: str, tmp_path: Path) -> None:
    file = tmp_path / "wg.key"
    file.write_text(command("wg", "genkey"))
    for state in ("prepared", "switched"):
        assert f"there is no interface {name}" in run("interface_key", private_key_file=str(file), state=state).message
    assert not Path(f"/sys/class/net/{name}").exists()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("mounted", [True, False])
def test_systemds_copy_of_a_key_is_taken_away_when_the_key_has_changed(
    run: RunModule, name: str, file: Path, mounted: bool
) -> None:
    directory = Path(f"/run/credentials/lethe-interface@{name}.service")
    directory.mkdir(parents=True)
    if mounted:
        command("mount", "-t", "tmpfs", "tmpfs", str(directory))
    copy = directory / "private-key"
    copy.write_bytes(file.read_bytes())
    if mounted:
        command("mount", "-o", "remount,ro", str(directory))

    def forget() -> str:
        script = ["/bin/sh", "-c", FORGET_KEY.read_text(), "forget_key", name, str(file)]
        return subprocess.run(script, check=True, capture_output=True, text=True).stdout

    assert forget() == ""
    assert copy.read_bytes() == file.read_bytes()
    for state in ("prepared", "switched"):
        run("interface_key", private_key_file=str(file), state=state)
    assert forget() == f"it is gone from {directory}\n"
    assert list(directory.iterdir()) == []
    assert forget() == ""
    directory.rmdir()
