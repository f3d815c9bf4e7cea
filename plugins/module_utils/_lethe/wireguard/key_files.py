# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys in files on a host: read, made once, written whole and for the owner alone."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple, TypeVar

from .errors import InvalidValue
from .keys import PresharedKey, PrivateKey, generate_preshared_key, generate_private_key

_MODE = 0o600
_LARGEST = 4096  # bytes: a key and white space; more is not a key file

K = TypeVar("K", PrivateKey, PresharedKey)


class KeyFile(NamedTuple):
    """A key file as it is, or with check as it would be."""

    key: PrivateKey | PresharedKey | None  # None: with check, one would be made
    steps: list[str]  # what was done: "created", "regenerated", "mode", "owner", "removed"


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
) -> KeyFile:
    """Make there be a key of this kind at ``path``, readable by its owner alone; keep one that is there.

    ``owner``, ``group``: numeric ids; None: left alone, or this process's. Raises InvalidValue if a file is
    there that holds something else: it is never overwritten, unless with ``regenerate``.
    """
    path = Path(path)
    exists = path.exists()
    if exists and not regenerate:
        key: PrivateKey | PresharedKey = read_key(path, kind)
        return KeyFile(key, _ensure_access(path, owner, group, check))
    steps = ["regenerated" if exists else "created"]
    if check:
        return KeyFile(None, steps)
    key = generate_private_key() if kind is PrivateKey else generate_preshared_key()
    _write(path, key.text, owner, group, replace=regenerate)
    return KeyFile(key, steps)


def remove_key(path: str | Path, *, check: bool = False) -> KeyFile:
    """Make there be no file at ``path``."""
    path = Path(path)
    if not path.exists():
        return KeyFile(None, [])
    if not check:
        path.unlink()
    return KeyFile(None, ["removed"])


def _ensure_access(path: Path, owner: int | None, group: int | None, check: bool) -> list[str]:
    now = path.stat()
    steps = []
    if owner not in (None, now.st_uid) or group not in (None, now.st_gid):
        steps.append("owner")
    if stat.S_IMODE(now.st_mode) != _MODE:
        steps.append("mode")
    if steps and not check:
        os.chmod(path, _MODE)
        os.chown(path, -1 if owner is None else owner, -1 if group is None else group)
    return steps


def _write(path: Path, text: str, owner: int | None, group: int | None, *, replace: bool) -> None:
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InvalidValue(f"{path}", f"cannot be written: {error.strerror}", "create its directory first") from None
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, _MODE)
            os.fchown(descriptor, -1 if owner is None else owner, -1 if group is None else group)
            file.write(text + "\n")
            file.flush()
            os.fsync(descriptor)
        if replace:
            os.replace(temporary, path)
        else:
            # Unlike a rename this fails if somebody made the file meanwhile: two runs must not end with two keys.
            os.link(temporary, path)
            os.unlink(temporary)
    except BaseException:
        os.unlink(temporary)
        raise
