# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that the kernel refuses: said with the remedy, and nothing changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up import peer

from .conftest import RunModule, Wg, command

ON_AN_INTERFACE: list[tuple[str, dict[str, Any]]] = [
    ("peers", {"peers": [peer(1)]}),
    ("peer", peer(1)),
    ("peer", {"public_key": peer(1)["public_key"], "state": "absent"}),
    ("purge", {}),
    ("interface_info", {}),
    ("interface_key", {"private_key_file": "/nowhere/wg.key", "state": "prepared"}),
    ("interface_key", {"private_key_file": "/nowhere/wg.key", "state": "switched"}),
]


@pytest.mark.parametrize(("module", "options"), ON_AN_INTERFACE)
@pytest.mark.parametrize("check", [False, True])
def test_an_unknown_interface(run: RunModule, name: str, module: str, options: dict[str, Any], check: bool) -> None:
    outcome = run(module, **options, check=check)

    assert outcome.message.startswith(f"there is no interface {name} here; create it with the module")


@pytest.mark.parametrize(
    ("module", "options"),
    [*ON_AN_INTERFACE, ("interface", {}), ("interface", {"state": "absent"}), ("interface", {"mtu": 1300})],
)
def test_an_interface_that_is_not_wireguard(run: RunModule, name: str, module: str, options: dict[str, Any]) -> None:
    command("ip", "link", "add", name, "type", "dummy")

    outcome = run(module, **options)

    assert outcome.message.startswith(f"the interface {name} exists and is not a WireGuard interface; it was left")
    assert "dummy" in command("ip", "-details", "link", "show", "dev", name)


def test_a_user_without_the_right_to_it(interface: str, wg: Wg) -> None:
    """All modules in one process of its own: root without CAP_NET_ADMIN, as in a container."""
    tests = Path(__file__).resolve().parents[2]
    program = (
        "import json, sys; from ansible_module import run_module; "
        "print(json.dumps([run_module(*arguments).result for arguments in json.load(sys.stdin)]))"
    )
    runs = [
        (module, {"interface": interface, **options})
        for module, options in [*ON_AN_INTERFACE, ("interface", {"mtu": 1300}), ("interface", {"state": "absent"})]
    ]

    process = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}/.ansible/collections"},
        input=json.dumps(runs),
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    for (module, _), result in zip(runs, json.loads(process.stdout), strict=True):
        assert result["failed"], module
        assert "CAP_NET_ADMIN is needed; run it as root (Ansible: become: true)" in result["msg"], module
    assert wg("peers") == ""


@pytest.mark.usefixtures("interface")
def test_more_peers_than_it_may_have_removed(run: RunModule, wg: Wg) -> None:
    run("peers", peers=[peer(n) for n in range(30)])

    outcome = run("peers", peers=[])

    assert "this would remove 30 of 30 peers" in outcome.message
    assert len(wg("peers").splitlines()) == 30


def test_the_interfaces_own_key(run: RunModule, interface: str, wg: Wg) -> None:
    for outcome in (
        run("peers", peers=[peer(1), {"public_key": wg("public-key")}]),
        run("peer", public_key=wg("public-key")),
    ):
        assert outcome.message.startswith(f"public_key: is the public key of {interface} itself; give the other end's")
    assert wg("peers") == ""
