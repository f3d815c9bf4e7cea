# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as the checks see it: its files, its commands, its kernel.

Whatever cannot be looked at is an exception, and in the end a finding; never a host that seems clean.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from ..wireguard.clock import ClockReading, read_clocks
from ..wireguard.errors import LetheError
from ..wireguard.interface import check_name
from .kernel import Kernel

T = TypeVar("T")

_SECONDS = 120.0  # for one command
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_CONFIGURATION = ("etc", "run", "usr/local/lib", "usr/lib")  # systemd's, the first has precedence
_UNITS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
_SETTING = re.compile(r"^\s*([A-Za-z]+)\s*=\s*(.*?)\s*$")


class CannotLook(LetheError):
    """A check cannot see what it asks for. The text is ours, and repeats nothing that was read."""


@dataclass(frozen=True, slots=True)
class Unit:
    """How systemd has a unit."""

    load: str = "not-found"
    active: str = "inactive"
    enabled: str = ""
    result: str = ""

    @property
    def there(self) -> bool:
        """It runs, or is going to at the next boot."""
        return self.active in ("active", "activating", "reloading") or self.enabled in ("enabled", "enabled-runtime")


class Host:
    """``root`` is where its files are, for tests; ``interfaces`` the WireGuard interfaces it is about, None for all."""

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        kernel: Kernel | None = None,
        interfaces: Sequence[str] | None = None,
        clocks: Callable[[], ClockReading] = read_clocks,
    ) -> None:
        self.root = root
        self.kernel = kernel or Kernel()
        self.clocks = clocks
        self._interfaces = None if interfaces is None else [check_name(name) for name in interfaces]
        self._remembered: dict[object, object] = {}

    @cached_property
    def interfaces(self) -> list[str]:
        """The WireGuard interfaces: those that were named, or all."""
        if self._interfaces is not None:
            return self._interfaces
        named = self.files("/sys/class/net", "*")
        return sorted(each.name for each in named if "DEVTYPE=wireguard" in self.lines(each / "uevent"))

    def once(self, name: object, look: Callable[[], T]) -> T:
        """What ``look`` returns, looked at once for all checks."""
        if name not in self._remembered:
            self._remembered[name] = look()
        return self._remembered[name]  # type: ignore[return-value]

    # --- files ----------------------------------------------------------------------------------------

    def path(self, name: str | Path) -> Path:
        """A path of the host, wherever its root is."""
        return name if isinstance(name, Path) else self.root / name.lstrip("/")

    def text(self, name: str | Path) -> str | None:
        """All of a file, None if there is none. Raises CannotLook."""
        content = self.content(name)
        return None if content is None else content.decode("utf-8", "replace")

    def content(self, name: str | Path) -> bytes | None:
        """The same in bytes."""
        try:
            return self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise CannotLook(f"a file cannot be read: {error.strerror}") from None

    def lines(self, name: str | Path) -> list[str]:
        """The lines of a file; none if there is none. Raises CannotLook."""
        return (self.text(name) or "").splitlines()

    def number(self, name: str | Path) -> int | None:
        """The number that a file of /proc or /sys has; None if there is no such file. Raises CannotLook."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            raise CannotLook("a file that should have a number has something else") from None

    def files(self, directory: str | Path, *patterns: str) -> list[Path]:
        """What is in a directory and has such a name; nothing if there is no directory. Raises CannotLook."""
        try:
            with os.scandir(self.path(directory)) as entries:
                found = [Path(each.path) for each in entries if any(fnmatch(each.name, one) for one in patterns)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CannotLook(f"a directory cannot be listed: {error.strerror}") from None
        return sorted(found)

    def all_files(self, directory: str | Path) -> Iterator[Path]:
        """Every regular file below a directory. Raises CannotLook."""

        def refused(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise CannotLook(f"a directory cannot be listed: {error.strerror}") from None

        for parent, _directories, names in os.walk(self.path(directory), onerror=refused):
            for name in sorted(names):
                path = Path(parent, name)
                if path.is_file() and not path.is_symlink():
                    yield path

    def setting(self, file: str, name: str) -> str:
        """What systemd's configuration, ``/etc/systemd/FILE`` and its drop-ins, says; empty if nothing. The last
        drop-in by name counts, and of two with one name that in /etc.
        """
        drop_ins: dict[str, Path] = {}
        for place in reversed(_CONFIGURATION):
            drop_ins.update((path.name, path) for path in self.files(f"/{place}/systemd/{file}.d", "*.conf"))
        mains = (self.path(f"/{place}/systemd/{file}") for place in _CONFIGURATION)
        main = next((path for path in mains if path.exists()), None)
        value = ""
        for path in [*([main] if main else []), *(drop_ins[name] for name in sorted(drop_ins))]:
            for line in self.lines(path):
                found = _SETTING.match(line)
                if found and found[1] == name:
                    value = found[2]
        return value

    def unit_file(self, unit: str) -> str | None:
        """The file of a unit; None if there is none. Empty where it is masked."""
        for place in _UNITS:
            path = self.path(f"/{place}/{unit}")
            if path.is_symlink() and str(path.readlink()) == "/dev/null":
                return ""
            text = self.text(path)
            if text is not None:
                return text
        return None

    # --- commands -------------------------------------------------------------------------------------

    def run(self, *command: str) -> str:
        """The standard output of a command. Raises CannotLook; what it said is not repeated, it may name somebody."""
        try:
            done = subprocess.run(
                command, env=_ENVIRONMENT, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL, check=False
            )
        except FileNotFoundError:
            raise CannotLook(f"the command {command[0]} is not there") from None
        except (OSError, subprocess.TimeoutExpired):
            raise CannotLook(f"the command {command[0]} did not come to an end") from None
        if done.returncode != 0:
            raise CannotLook(f"the command {command[0]} ended with {done.returncode}")
        return done.stdout.decode("utf-8", "replace")

    def units(self, *names: str) -> Mapping[str, Unit]:
        """How systemd has these units, also those that it does not have. Raises CannotLook."""
        shown = self.run("systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState,Result", *names)
        found = {}
        for block in shown.strip().split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            found[values.get("Id", "")] = Unit(
                values.get("LoadState", ""),
                values.get("ActiveState", ""),
                values.get("UnitFileState", ""),
                values.get("Result", ""),
            )
        # An alias is shown by another name: it is looked for under that.
        return {name: found.get(name, Unit()) for name in names}
