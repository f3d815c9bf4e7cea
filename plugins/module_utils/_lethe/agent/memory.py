# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interface's agent keeps on the disk: the latest position that it has had, and nothing of what was there.

With it a recorded snapshot, however well signed, cannot bring back a key that has been revoked since.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..feed.position import Position
from ..wireguard.errors import InvalidValue, LetheError
from ..wireguard.whole_files import write_whole

DIRECTORY = Path("/var/lib/lethe-key-sync")


class MemoryUnusable(LetheError):
    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path} {problem}; see to the directory, or remove the file: an older snapshot would then be taken once"
        )


def path_of(directory: Path, interface: str) -> Path:
    return directory / f"{interface}.json"


def read_position(path: Path) -> Position | None:
    """None if there is none. Raises MemoryUnusable."""
    try:
        document = json.loads(path.read_bytes())
        return Position.from_text(document["position"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MemoryUnusable(path, f"cannot be read ({error.strerror})") from None
    except (InvalidValue, ValueError, KeyError, TypeError, RecursionError):
        raise MemoryUnusable(path, "is not what the agent writes") from None


def write_position(path: Path, position: Position) -> None:
    """Raises MemoryUnusable."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = path.parent.stat()
        # What root wrote by hand must be the service's to replace.
        owner, group = (directory.st_uid, directory.st_gid) if os.geteuid() == 0 else (None, None)
        content = json.dumps({"position": position.text}).encode("ascii")
        write_whole(path, content, owner=owner, group=group)
    except OSError as error:
        raise MemoryUnusable(path, f"cannot be written ({error.strerror})") from None
