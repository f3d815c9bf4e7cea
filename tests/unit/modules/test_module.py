# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all modules share: the interpreter they run under, and how they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import ansible
import nacl
import pytest
from made_up import peer

from ansible_collections.lethe.wireguard.plugins.module_utils import _module
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import (
    InterfaceNotFound,
    KernelWithoutWireGuard,
    MissingLibrary,
    PermissionMissing,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PrivateKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice

from .conftest import RunModule

CHECKOUT = Path(__file__).resolve().parents[3]


class Respawned(Exception):
    """The module would have started again."""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that looks like the runtime's environment."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").touch()
    monkeypatch.setattr(_module, "RUNTIME", tmp_path / "venv")

    def respawn(interpreter: str) -> NoReturn:
        raise Respawned(interpreter)

    monkeypatch.setattr(_module, "respawn_module", respawn)
    return tmp_path / "venv"


def of_this_interpreter(runtime: Path) -> Path:
    """Make it one that has the interpreter which runs the test; returns where its libraries are."""
    (runtime / "bin/python").unlink()
    (runtime / "bin/python").symlink_to(sys.executable)
    site_packages = runtime / "lib/python3.11/site-packages"
    site_packages.mkdir(parents=True)
    return site_packages


def test_a_module_that_needs_a_library_takes_the_runtimes(
    run: RunModule, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    site_packages = of_this_interpreter(runtime)

    assert run("keypair", path=str(tmp_path / "key")).changed
    assert sys.path[0] == str(site_packages)


def test_one_that_was_started_again_keeps_the_libraries_of_where_it_is(
    run: RunModule, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of the registry's runtime, which has more of them."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    site_packages = of_this_interpreter(runtime)
    monkeypatch.setattr(_module, "has_respawned", lambda: True)

    assert run("keypair", path=str(tmp_path / "key")).changed
    assert str(site_packages) not in sys.path


def test_it_starts_again_under_a_runtime_of_another_interpreter(run: RunModule, runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(Respawned, match=f"{runtime}/bin/python"):
        run("keypair", path=str(tmp_path / "key"))
    assert not (tmp_path / "key").exists()


@pytest.mark.usefixtures("runtime")
def test_under_mitogen_it_says_that_it_cannot_start_again(
    run: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mitogen", ModuleType("mitogen"))

    outcome = run("keypair", path=str(tmp_path / "key"))

    assert outcome.failed
    assert "strategy: linear" in outcome.result["msg"]
    assert not (tmp_path / "key").exists()


@pytest.mark.usefixtures("runtime")
def test_it_starts_again_only_once(run: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_module, "has_respawned", lambda: True)

    assert run("keypair", path=str(tmp_path / "key")).changed


def test_it_does_not_start_again_where_it_is_already(
    run: RunModule, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(runtime))

    assert run("keypair", path=str(tmp_path / "key")).changed


@pytest.mark.usefixtures("runtime")
def test_a_module_that_needs_no_library_stays_where_it_is(run: RunModule, tmp_path: Path) -> None:
    assert run("keypair", path=str(tmp_path / "key"), type="preshared").changed
    assert run("keypair", path=str(tmp_path / "key"), state="absent").changed
    assert run("peers", peers=[peer(1)]).changed
    assert run("peer", **peer(2)).changed
    assert not run("purge", state_directory=str(tmp_path)).changed


def test_without_runtime_and_library_it_says_how_to_get_them(
    run: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_module, "RUNTIME", tmp_path / "nowhere")
    monkeypatch.setattr(_module, "find_spec", lambda _: None)

    outcome = run("keypair", path=str(tmp_path / "key"))

    assert outcome.failed
    assert "Python library (PyNaCl)" in outcome.message
    assert "deploy the role lethe.wireguard.runtime" in outcome.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (InterfaceNotFound("wg0"), "there is no interface wg0 here; create it with the module"),
        (
            KernelWithoutWireGuard(),
            "this kernel has no WireGuard (no generic netlink family 'wireguard'); try",
        ),
        (PermissionMissing("list the peers of wg0"), "CAP_NET_ADMIN is needed; run it as root (Ansible: become: true)"),
        (MissingLibrary("netaddr", "check ranges"), "deploy the role lethe.wireguard.runtime"),
        (PermissionError(13, "Permission denied", "/run/lethe"), "the host refused: [Errno 13] Permission denied"),
    ],
)
def test_errors_become_a_failure_with_the_next_step(
    run: RunModule, device: MemoryDevice, monkeypatch: pytest.MonkeyPatch, error: Exception, complaint: str
) -> None:
    def fail() -> Any:
        raise error

    monkeypatch.setattr(device, "settings", fail)

    outcome = run("peers", peers=[])

    assert outcome.failed
    assert complaint in outcome.message
    assert "exception" not in outcome.result


@pytest.mark.parametrize("links", ["--symlinks", "--copies"])
def test_the_runtime_really_takes_over(tmp_path: Path, links: str) -> None:
    """The host's Python has no library, the runtime's has; as on a gateway, without the network in between. A copy of
    the interpreter is another one.
    """
    bare = Path(sys.base_prefix) / "bin/python3"
    runtime = tmp_path / "runtime"
    subprocess.run([bare, "-m", "venv", links, "--without-pip", runtime], check=True)
    (site_packages,) = runtime.glob("lib/python3.*/site-packages")
    (site_packages / "lethe.pth").write_text(f"{Path(nacl.__file__).parents[1]}\n")
    (tmp_path / "modlib").mkdir()
    (tmp_path / "modlib/ansible").symlink_to(Path(ansible.__file__).parent)
    collections = CHECKOUT / ".ansible/collections/ansible_collections"
    (tmp_path / "modlib/ansible_collections").symlink_to(collections)
    start = """
import json, sys
modlib, runtime, options = sys.argv[1:]
sys.path.insert(0, modlib)
from pathlib import Path
from ansible.module_utils._internal._ansiballz import _loader
from ansible_collections.lethe.wireguard.plugins.module_utils import _module
assert _module.find_spec("nacl") is None
_module.RUNTIME = Path(runtime)
_loader.run_module(json_params=options.encode(), profile="legacy", modlib_path=modlib, extensions={},
    module_fqn="ansible_collections.lethe.wireguard.plugins.modules.keypair")
"""
    options = json.dumps({"ANSIBLE_MODULE_ARGS": {"path": str(tmp_path / "key")}})

    process = subprocess.run(
        [bare, "-I", "-S", "-c", start, tmp_path / "modlib", runtime, options],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stdout + process.stderr
    public_key = PrivateKey.from_text((tmp_path / "key").read_text().strip()).public_key().text
    assert json.loads(process.stdout)["public_key"] == public_key


def test_each_module_is_sent_with_all_it_needs(tmp_path: Path) -> None:
    """Packed by Ansible itself; each module then gets as far as it can without a kernel."""
    expected = {
        "interface": ({"name": "lo", "state": "absent"}, "is not a WireGuard interface"),
        "interface_info": ({"interface": "lo"}, "is not a WireGuard interface"),
        "interface_key": (
            {"interface": "wg/0", "private_key_file": "/nowhere/key", "state": "prepared"},
            "name: is no name for an interface",
        ),
        "peers": ({"interface": "wg0", "file": "/nowhere/peers"}, "/nowhere/peers: cannot be read"),
        "peer": ({"interface": "wg0", "public_key": "nonsense"}, "public_key: is not a key"),
        "purge": ({"interface": "wg0", "idle_after": 1}, "idle_after: is 1 s"),
        "keypair": ({"path": "/nowhere/key"}, "/nowhere/key: cannot be written"),
    }
    tasks = [
        {f"lethe.wireguard.{name}": options, "register": name, "ignore_errors": True}
        for name, (options, _) in expected.items()
    ]
    results = "{{ [" + ", ".join(expected) + "] | map(attribute='msg') | to_json }}"
    report = {"ansible.builtin.copy": {"dest": str(tmp_path / "messages"), "content": results}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [*tasks, report]}
    (tmp_path / "play.json").write_text(json.dumps([play]))

    process = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", "play.json"],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".ansible/collections"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stdout + process.stderr
    for (_, complaint), message in zip(expected.values(), json.loads((tmp_path / "messages").read_text()), strict=True):
        assert complaint in message
