# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys in files on a host: read, made once, written whole and for the owner alone."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from .errors import InvalidValue
from .keys import Key, PrivateKey, PublicKey, generate_preshared_key, generate_private_key
from .whole_files import write_whole

_SECRET_MODE = 0o600
_PUBLIC_MODE = 0o644
_LARGEST = 4096  # bytes: a key and white space; more is not a key file

K = TypeVar("K", bound=Key)


@dataclass(frozen=True, slots=True)
class KeyFile(Generic[K]):
    """A key file as it is, or with check as it would be."""

    key: K | None  # None: with check, one would be made
    steps: list[str]  # what was done: "created", "regenerated", "mode", "owner"


def read_key(path: str | Path, kind: type[K]) -> K:
    """The key in a file. Raises InvalidValue, which names the file and shows nothing of what it holds."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST)
    except OSError as error:
        raise InvalidValue(
            f"{path}", f"cannot be read: {error.strerror}", "give the path of a key file on this host"
        ) from None
    try:
        return kind.from_text(content.strip().decode("ascii", "replace"))
    except InvalidValue as error:
        raise InvalidValue(f"{path}", "holds no key", error.remedy) from None


def ensure_key(
    path: str | Path,
    kind: type[K],
    *,
    regenerate: bool = False,
    owner: int | None = None,
    group: int | None = None,
    check: bool = False,
) -> KeyFile[K]:
    """Make there be a key of this kind at ``path``, readable by its owner alone; keep one that is there.

    ``owner``, ``group``: numeric ids; None: left alone, or this process's. Raises InvalidValue if a file is
    there that holds something else: it is never overwritten, unless with ``regenerate``.
    """
    path = Path(path)
    exists = path.exists()
    if exists and not regenerate:
        return KeyFile(read_key(path, kind), _ensure_access(path, owner, group, check))
    steps = ["regenerated" if exists else "created"]
    if check:
        return KeyFile(None, steps)
    key = cast(K, generate_private_key() if kind is PrivateKey else generate_preshared_key())
    _write(path, key.text, _SECRET_MODE, owner, group, replace=regenerate)
    return KeyFile(key, steps)


def ensure_public_key(path: str | Path, key: PublicKey | None, *, check: bool = False) -> list[str]:
    """Make there be this public key at ``path``, readable by all; returns what was done, "written" or nothing.
    None: the key of a pair that, with check, would be made. Raises InvalidValue if a file is there that holds
    something else than a key.
    """
    path = Path(path)
    if path.exists() and read_key(path, PublicKey) == key:
        return []
    if key is not None and not check:
        _write(path, key.text, _PUBLIC_MODE, None, None, replace=True)
    return ["written"]


def remove_key(path: str | Path, *, check: bool = False) -> list[str]:
    """Make there be no file at ``path``; returns what was done, "removed" or nothing."""
    path = Path(path)
    if not path.exists():
        return []
    if not check:
        path.unlink()
    return ["removed"]


def _ensure_access(path: Path, owner: int | None, group: int | None, check: bool) -> list[str]:
    now = path.stat()
    steps = []
    if owner not in (None, now.st_uid) or group not in (None, now.st_gid):
        steps.append("owner")
    if stat.S_IMODE(now.st_mode) != _SECRET_MODE:
        steps.append("mode")
    if steps and not check:
        os.chmod(path, _SECRET_MODE)
        os.chown(path, -1 if owner is None else owner, -1 if group is None else group)
    return steps


def _write(path: Path, text: str, mode: int, owner: int | None, group: int | None, *, replace: bool) -> None:
    content = f"{text}\n".encode("ascii")
    try:
        # Not replacing: two runs at the same time must not end with two keys.
        write_whole(path, content, mode=mode, owner=owner, group=group, replace=replace)
    except OSError as error:
        raise InvalidValue(f"{path}", f"cannot be written: {error.strerror}", "create its directory first") from None
