# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_module import Run, module, run_module
from registry.fixtures import sqlite_template  # noqa: F401 - a fixture
from registry.site import Site, served
from registry.support import Clock

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PrivateKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice

RunModule = Callable[..., Run]


@pytest.fixture
def device() -> MemoryDevice:
    device = MemoryDevice("wg0")
    device.configure(private_key=PrivateKey(bytes(32)))
    return device


@pytest.fixture
def run(device: MemoryDevice, monkeypatch: pytest.MonkeyPatch) -> RunModule:
    """Runs a module on ``device``, whatever interface it is told."""

    def run(name: str, /, *, check: bool = False, **options: Any) -> Run:
        if hasattr(module(name), "open_device"):
            monkeypatch.setattr(module(name), "open_device", lambda _: device)
            options.setdefault("interface", "wg0")
        return run_module(name, options, check=check)

    return run


@pytest.fixture
def site(sqlite_template: Path, tmp_path: Path) -> Iterator[Site]:  # noqa: F811 - the fixture
    """A registry that is served over HTTP."""
    database = tmp_path / "registry.sqlite3"
    shutil.copy(sqlite_template, database)
    with served(f"sqlite:///{database}", Clock()) as one:
        yield one


@pytest.fixture
def ask(site: Site) -> RunModule:
    """Runs a module on ``site``. ``as_``: whose credential it has, a client's being of the account ``of``;
    ``no_log``: whether the task has that.
    """

    def ask(
        name: str,
        /,
        *,
        as_: str = "operator",
        of: str = "alice",
        check: bool = False,
        no_log: bool = False,
        **options: Any,
    ) -> Run:
        caller = {"operator": site.operator, "gateway": site.gateway, "client": lambda: site.client(of)}.get(as_)
        token = {} if caller is None else {"token": caller().token}
        run = run_module(name, {"url": site.url, **token, **options, "_ansible_no_log": no_log}, check=check)
        assert run.tells(*token.values()) == []
        return run

    return ask
