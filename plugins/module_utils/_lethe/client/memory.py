# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client keeps: its state, with its private keys, in one file; the list of gateways in another. Both are written
whole, for their owner alone, and are on the disk before anything is done because of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..gateways import Gateway, gateways_from
from ..wireguard.errors import InvalidValue, LetheError
from ..wireguard.interface import address_from_text
from ..wireguard.keys import PresharedKey, PrivateKey
from ..wireguard.whole_files import remove_unfinished, write_whole
from .rotation import Own, Registration, Stage, State

ON_DISK = Path("/var/lib/lethe-client")
IN_MEMORY = Path("/run/lethe-client")
"""Gone after a reboot, and with it the keys: the client then registers anew."""

_STATE, _GATEWAYS = "state.json", "gateways.json"


class StateUnusable(LetheError):
    def __init__(self, path: Path, problem: str, remedy: str = "see to the directory") -> None:
        super().__init__(f"{path} {problem}; {remedy}")


class Memory:
    """The two files in one directory."""

    def __init__(self, directory: Path, other: Path | None = None) -> None:
        """``other``: where they are if the setting was another one. See ``tidy_up``."""
        self.directory = directory
        self._other = None if other is None else Memory(other)

    def tidy_up(self) -> None:
        """Remove what a crash has left, and take over what is in the other directory. Raises StateUnusable."""
        self._remove_unfinished()
        if self._other is None:
            return
        if self.read() is None and (state := self._other.read()) is not None:
            self.write(state)
        self._other.forget()

    def read(self) -> State | None:
        """None if there is none. Raises StateUnusable, which shows nothing of what is there."""
        document = self._read(_STATE)
        if document is None:
            return None
        try:
            successor = document["successor"]
            return State(
                Stage(document["stage"]),
                _own(document["key"]),
                None if successor is None else _own(successor),
                float(document["due"]),
            )
        except (InvalidValue, ValueError, KeyError, TypeError):
            # Not overwritten: a key that is lost here stays registered until it expires.
            raise StateUnusable(
                self.directory / _STATE, "is not what the client writes", "remove it: the client registers anew"
            ) from None

    def write(self, state: State) -> None:
        """Raises StateUnusable."""
        successor = None if state.successor is None else _own_as_json(state.successor)
        document = {
            "stage": state.stage.value,
            "key": _own_as_json(state.key),
            "successor": successor,
            "due": state.due,
        }
        self._write(_STATE, document)

    def read_gateways(self) -> tuple[Gateway, ...]:
        """Those that the registry listed last; none if that is not known any more."""
        try:
            document = self._read(_GATEWAYS)
            return () if document is None else gateways_from(document["gateways"])
        except (LetheError, KeyError, TypeError):
            return ()  # the registry will list them

    def write_gateways(self, gateways: tuple[Gateway, ...]) -> None:
        """Raises StateUnusable."""
        self._write(_GATEWAYS, {"gateways": [gateway.as_json() for gateway in gateways]})

    def forget(self) -> None:
        """Remove both, in the other directory as well. Raises StateUnusable."""
        self._remove_unfinished()
        try:
            for name in (_STATE, _GATEWAYS):
                (self.directory / name).unlink(missing_ok=True)
            self._keep_names()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StateUnusable(self.directory, f"cannot be emptied ({error.strerror})") from None
        if self._other is not None:
            self._other.forget()

    def _remove_unfinished(self) -> None:
        """They hold private keys as the state does."""
        try:
            for name in (_STATE, _GATEWAYS):
                remove_unfinished(self.directory / name)
        except OSError as error:
            raise StateUnusable(self.directory, f"cannot be tidied up ({error.strerror})") from None

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.directory / name
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnusable(path, f"cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError):
            document = None
        return document if isinstance(document, dict) else {}

    def _write(self, name: str, document: dict[str, Any]) -> None:
        path = self.directory / name
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = self.directory.stat()
            # What root writes with a command has to be the service's.
            owner, group = (directory.st_uid, directory.st_gid) if os.geteuid() == 0 else (None, None)
            write_whole(path, json.dumps(document).encode("ascii"), owner=owner, group=group)
            self._keep_names()
        except OSError as error:
            raise StateUnusable(path, f"cannot be written ({error.strerror})") from None

    def _keep_names(self) -> None:
        """A file that has just replaced another is on the disk; that it has the name, only after this. Without it, a
        power failure could bring back a key that the registry has removed since.
        """
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _own(document: Any) -> Own:
    given = document["registration"]
    registration = None
    if given is not None:
        expires_day = given["expires_day"]
        registration = Registration(
            tuple(address_from_text(text) for text in given["addresses"]),
            PresharedKey.from_text(given["preshared_key"]),
            None if expires_day is None else int(expires_day),
        )
    return Own(PrivateKey.from_text(document["private_key"]), registration)


def _own_as_json(own: Own) -> dict[str, Any]:
    registration = own.registration
    return {
        "private_key": own.private_key.text,
        "registration": None
        if registration is None
        else {
            "addresses": [str(address) for address in registration.addresses],
            "preshared_key": registration.preshared_key.text,
            "expires_day": registration.expires_day,
        },
    }
