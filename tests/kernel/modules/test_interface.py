# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""interface on a real kernel, with wg and ip as the witnesses."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from made_up import key, peer

from .conftest import RunModule, Wg, command


def addresses(name: str) -> list[str]:
    (link,) = json.loads(command("ip", "-json", "address", "show", "dev", name, "scope", "global"))
    return [f"{found['local']}/{found['prefixlen']}" for found in link["addr_info"]]


def link(name: str) -> dict[str, Any]:
    (found,) = json.loads(command("ip", "-json", "link", "show", "dev", name))
    return dict(found)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """What a gateway is given."""
    return {
        "private_key_file": str(tmp_path / "wg.key"),
        "generate_private_key": True,
        "listen_port": 51830,
        "fwmark": 51820,
        "mtu": 1400,
        "addresses": ["10.64.0.1/10", "fd00:6c65:7468::1/48"],
    }


def test_an_interface_is_made_as_it_should_be_once(
    run: RunModule, wg: Wg, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    first = run("interface", **options)

    assert first["steps"] == [
        "key file created", "created", "private_key", "listen_port", "fwmark", "mtu", "addresses", "up"
    ]  # fmt: skip
    private_key = (tmp_path / "wg.key").read_text().strip()
    assert wg("private-key") == private_key
    assert stat.S_IMODE((tmp_path / "wg.key").stat().st_mode) == 0o600
    assert (wg("listen-port"), wg("fwmark"), link(name)["mtu"]) == ("51830", "0xca6c", 1400)
    assert addresses(name) == options["addresses"]
    assert "UP" in link(name)["flags"]
    assert first["interface"] == {
        "name": name,
        "state": "up",
        "public_key": wg("public-key"),
        "listen_port": 51830,
        "fwmark": 51820,
        "mtu": 1400,
        "addresses": options["addresses"],
    }
    assert first.tells(private_key) == []
    assert wg("public-key") not in first.diff
    assert not run("interface", **options).changed


def test_check_mode_predicts_and_makes_nothing(
    run: RunModule, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    predicted = run("interface", **options, check=True)

    assert not Path(f"/sys/class/net/{name}").exists()
    assert list(tmp_path.iterdir()) == []
    made = run("interface", **options)
    assert set(predicted["steps"]) == set(made["steps"]) - {"private_key"}
    assert predicted["interface"] == {**made["interface"], "public_key": None}


def test_one_setting_changes_and_peers_stay(run: RunModule, wg: Wg, name: str, options: dict[str, Any]) -> None:
    run("interface", **options)
    run("peers", peers=[peer(1), peer(2)])
    before = wg("dump").splitlines()[1:]

    changed = run("interface", name=name, addresses=["10.64.0.1/10", "10.64.0.2/10"], mtu=1420)

    assert changed["steps"] == ["mtu", "addresses"]
    assert "mtu: 1400" in changed.diff.split("---")[0]
    assert "mtu: 1420" in changed.diff.split("---")[1]
    assert addresses(name) == ["10.64.0.1/10", "10.64.0.2/10"]
    assert wg("dump").splitlines()[1:] == before


def test_a_key_given_as_a_value_is_set_and_not_told(run: RunModule, wg: Wg) -> None:
    private_key = command("wg", "genkey")

    outcome = run("interface", private_key=private_key)

    assert wg("private-key") == private_key
    assert outcome.tells(private_key) == []
    assert not run("interface", private_key=private_key).changed


def test_an_interface_goes_down_and_up(run: RunModule, name: str, options: dict[str, Any]) -> None:
    run("interface", **options)

    assert run("interface", **options, state="down")["steps"] == ["down"]
    assert "UP" not in link(name)["flags"]
    assert addresses(name) == options["addresses"]
    assert not run("interface", **options, state="down").changed
    assert run("interface", **options)["steps"] == ["up"]


def test_an_interface_is_removed_with_its_peers(
    run: RunModule, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    run("interface", **options)
    run("peers", peers=[peer(n) for n in range(100)])

    assert run("interface", state="absent", check=True).changed
    assert Path(f"/sys/class/net/{name}").exists()
    removed = run("interface", state="absent")

    assert removed["interface"] == {"name": name, "state": "absent"}
    assert not Path(f"/sys/class/net/{name}").exists()
    assert (tmp_path / "wg.key").exists()
    assert not run("interface", state="absent").changed


def test_a_port_that_is_taken_is_said_to_be_taken(run: RunModule) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 51831))
        outcome = run("interface", private_key=key(1), listen_port=51831)

    assert outcome.failed
    assert "Address already in use" in outcome.message
    assert outcome.tells(key(1)) == []
