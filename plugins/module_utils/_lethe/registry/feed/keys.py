# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signing key: in a file, and beside it the next one while the gateways learn to accept both.

To replace it: ``prepare`` the next one, give the gateways both verify keys, ``switch``, give them the new one alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...feed.signing import Signer, SigningKey, VerifyKey
from ...wireguard.errors import InvalidValue
from ...wireguard.key_files import ensure_key, read_key


class CurrentSigner:
    """Signs with the key that the file held when it was read last."""

    def __init__(self, path: str) -> None:
        """Raises InvalidValue."""
        self._path = path
        self.signer = self._read()

    def reload(self) -> None:
        """Raises InvalidValue; the key in use then stays."""
        self.signer = self._read()

    def _read(self) -> Signer:
        try:
            return Signer(read_key(self._path, SigningKey))
        except InvalidValue as error:
            raise InvalidValue(
                f"feed.signing_key: {error.field}", error.problem, "make it with: lethe registry feed-key create"
            ) from None


def create(path: str) -> bool:
    """Make the key if there is none; returns whether it did. Raises InvalidValue."""
    return "created" in ensure_key(path, SigningKey).steps


def prepare(path: str) -> bool:
    """Make the next key if there is none; returns whether it did. Raises InvalidValue."""
    read_key(path, SigningKey)
    return "created" in ensure_key(_next(path), SigningKey).steps


def switch(path: str) -> None:
    """Let the next key be the key. Raises InvalidValue if none was prepared."""
    read_key(_next(path), SigningKey)
    os.replace(_next(path), path)


def verify_keys(path: str) -> list[VerifyKey]:
    """What gateways have to accept: the key's, and the next one's if there is one. Raises InvalidValue."""
    paths = [Path(path), *(each for each in (_next(path),) if each.exists())]
    return [read_key(each, SigningKey).verify_key() for each in paths]


def _next(path: str) -> Path:
    return Path(f"{path}.next")
