# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and peers for tests: made up, and always the same."""

from __future__ import annotations

import base64
import hashlib
from typing import Any


def key(number: int, kind: str = "public") -> str:
    """A key in base64; another one for each number and kind."""
    return base64.b64encode(hashlib.sha256(f"{kind} {number}".encode()).digest()).decode()


def address(number: int) -> str:
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32"


def peer(number: int, **other: Any) -> dict[str, Any]:
    """A peer as a record, with an address of its own."""
    return {"public_key": key(number), "allowed_ips": [address(number)], **other}
