# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of an interface's private key in two steps, so that its clients can be told of the next key before it is in
use. The next key is in a file beside the one with the key:

    file   next file   kernel
    A      -           A        nothing is under way
    A      B           A        prepared
    B      -           A        for a moment, or because the host failed at it
    B      -           B        switched

The file changes before the kernel does, so whatever reads it next, at boot or for site.yml, leads on and never back.

The bytes of the key before are overwritten where they are. File systems that never write in place, and flash memory,
may keep them until they use the blocks again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from .device import Device
from .key_files import ensure_key, read_key
from .keys import PrivateKey, PublicKey


@dataclass(frozen=True, slots=True)
class InterfaceKeys:
    """An interface's keys as they are, or with check as they would be."""

    present: PublicKey | None  # in the kernel
    next: PublicKey | None  # None: none, or with check one that would be made
    steps: list[str] = field(default_factory=list)  # what was done: "next key created", "key file", "private_key"


def next_public_key(device: Device, path: Path) -> PublicKey | None:
    """The key to which the interface is going to change; None if it stays as it is. ``path``: of its private key.

    Raises InvalidValue for a file that holds no key, and the errors of the kernel.
    """
    path, following = _files(path)
    coming = following if following.exists() else path
    if not coming.exists():
        return None
    key = read_key(coming, PrivateKey).public_key()
    return None if key == device.settings().public_key else key


def prepare(device: Device, path: Path, *, check: bool = False) -> InterfaceKeys:
    """Make there be a next key; one that is there is kept. Raises as next_public_key does."""
    path, following = _files(path)
    present = device.settings().public_key
    read_key(path, PrivateKey)
    coming = next_public_key(device, path)
    if coming is not None and not following.exists():
        return InterfaceKeys(present, coming)  # a switch that was not finished; it is, before there is another
    made = ensure_key(following, PrivateKey, check=check)
    steps = [f"next key {step}" for step in made.steps]
    return InterfaceKeys(present, made.key.public_key() if made.key else None, steps)


def switch(device: Device, path: Path, *, check: bool = False) -> InterfaceKeys:
    """Make the interface and its file have the next key, if there is one, and let nothing remain of the key before.
    Sessions end and peers stay. Raises as next_public_key does, and OSError.
    """
    path, following = _files(path)
    coming = next_public_key(device, path)
    steps = ["key file"] if following.exists() else []
    if coming is not None:
        steps.append("private_key")
    if check or not steps:
        return InterfaceKeys(coming or device.settings().public_key, None, steps)
    with device.exclusive():
        if following.exists():
            _move(following, path)
        key = read_key(path, PrivateKey)
        if key.public_key() != device.settings().public_key:
            device.configure(private_key=key)
    return InterfaceKeys(device.settings().public_key, None, steps)


def _files(path: Path) -> tuple[Path, Path]:
    """The file itself, wherever a symbolic link leads, and the one for the next key."""
    path = path.resolve()
    return path, path.with_name(f"{path.name}.next")


def _move(new: Path, path: Path) -> None:
    """Let ``new`` take the place of ``path``, for good before anything is done because of it; then overwrite what was
    there.
    """
    old = os.open(path, os.O_WRONLY) if path.exists() else None
    try:
        os.replace(new, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        if old is not None:
            os.write(old, bytes(os.fstat(old).st_size))
            os.fsync(old)
    finally:
        if old is not None:
            os.close(old)
