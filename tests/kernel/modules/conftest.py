# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_module import Run, run_module

Wg = Callable[..., str]
Interface = Callable[..., Run]
RunModule = Callable[..., Run]


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def name() -> Iterator[str]:
    """A name that is free, for an interface or something else; what has it afterwards is removed."""
    yield "wgmod0"
    if Path("/sys/class/net/wgmod0").exists():
        command("ip", "link", "del", "wgmod0")


@pytest.fixture
def interface(name: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A WireGuard interface made by others, with a private key and without peers."""
    private_key = tmp_path_factory.mktemp("interface") / "key"
    private_key.write_text(command("wg", "genkey"))
    command("ip", "link", "add", name, "type", "wireguard")
    command("wg", "set", name, "private-key", str(private_key))
    return name


@pytest.fixture
def run(name: str) -> RunModule:
    """Runs a module on the interface of the test."""

    def run(module: str, /, *, check: bool = False, **options: Any) -> Run:
        return run_module(module, {"interface": name, **options}, check=check)

    return run


@pytest.fixture
def wg(name: str) -> Wg:
    """What the kernel has, as wireguard-tools see it: ``wg("peers")`` is ``wg show wgmod0 peers``."""
    return lambda what: command("wg", "show", name, what)
