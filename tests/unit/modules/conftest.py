# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_module import Run, module, run_module

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
