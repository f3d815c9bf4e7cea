# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device in memory keeps the contract that the kernel's keeps (tests/kernel/test_device.py)."""

from __future__ import annotations

import pytest
from device_contract import *  # noqa: F403

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice


@pytest.fixture
def device() -> MemoryDevice:
    return MemoryDevice()
