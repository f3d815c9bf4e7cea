# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client keeps: its state, with its private keys, in one file; the list of gateways in another. Both are written
whole, for their owner alone, and are on the disk before anything is done because of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..gateways import Gateway, gateways_from
from ..wireguard.errors import InvalidValue, LetheError
from ..wireguard.interface import address_from_text
from ..wireguard.keys import PresharedKey, PrivateKey, PublicKey
from ..wireguard.whole_files import remove_unfinished, write_whole
from .rotation import Own, Registration, Stage, State

ON_DISK = Path("/var/lib/lethe-client")
IN_MEMORY = Path("/run/lethe-client")
"""Gone after a reboot, and with it the private keys: the client then registers anew."""

_STATE, _GATEWAYS = "state.json", "gateways.json"
_LOGOUT, _REGISTERED = "logout.json", "registered.json"  # on the disk
_INTERFACE = "interface.json"  # in memory, as the interface itself is


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
        self._other.tidy_up()
        if self.read() is None and (state := self._other.read()) is not None:
            self.write(state)
        _remove(self._other.directory, _STATE, _GATEWAYS)

    def read(self) -> State | None:
        """None if there is none. Raises StateUnusable, which shows nothing of what is there."""
        document = _read(self.directory / _STATE)
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
        _write(self.directory / _STATE, document)

    def read_gateways(self) -> tuple[Gateway, ...]:
        """Those that the registry listed last; none if that is not known any more."""
        try:
            document = _read(self.directory / _GATEWAYS)
            return () if document is None else gateways_from(document["gateways"])
        except (LetheError, KeyError, TypeError):
            return ()  # the registry will list them

    def write_gateways(self, gateways: tuple[Gateway, ...]) -> None:
        """Raises StateUnusable."""
        _write(self.directory / _GATEWAYS, {"gateways": [gateway.as_json() for gateway in gateways]})

    def forget(self) -> None:
        """Remove both, in the other directory as well. Raises StateUnusable."""
        self._remove_unfinished()
        _remove(self.directory, _STATE, _GATEWAYS, _INTERFACE, _REGISTERED)
        if self._other is not None:
            self._other.forget()

    def _remove_unfinished(self) -> None:
        """They hold private keys as the state does."""
        try:
            for name in (_STATE, _GATEWAYS):
                remove_unfinished(self.directory / name)
        except OSError as error:
            raise StateUnusable(self.directory, f"cannot be tidied up ({error.strerror})") from None


class FleetingMemory(Memory):
    """One whose keys are gone after a reboot. Their public halves are not, as somebody has to have them removed: an
    account has room for a few.
    """

    def write(self, state: State) -> None:
        """Raises StateUnusable."""
        own = [one.public_key for one in state.own]
        # What was there before is known until it is removed: see ``service.made``.
        before = registered_keys()
        lost = before if state.stage is Stage.REGISTERING else ()
        keep_registered_keys(dict.fromkeys((*lost, *own)), before)
        super().write(state)


def registered_keys() -> tuple[PublicKey, ...]:
    """The public keys of this host that the registry may know; of one whose keys are not on the disk."""
    try:
        document = _read(ON_DISK / _REGISTERED) or {}
        return tuple(PublicKey.from_text(text) for text in document.get("public_keys", ()))
    except (LetheError, TypeError):
        return ()  # they expire


def keep_registered_keys(keys: Iterable[PublicKey], before: Iterable[PublicKey] = ()) -> None:
    """Raises StateUnusable."""
    texts = [key.text for key in keys]
    if texts != [key.text for key in before]:
        _write(ON_DISK / _REGISTERED, {"public_keys": texts})


class Wish:
    """That the client logs out and does not begin again: a command has it, and cannot always wait until it is true. It
    is about one credential, so that a host that is given another one is a client again.
    """

    def __init__(self, credential: str) -> None:
        # Long and random, as the registry's credentials are: the hash tells nothing of it.
        self._document = {"credential": hashlib.sha256(credential.encode()).hexdigest()}

    def is_there(self) -> bool:
        """Raises StateUnusable."""
        return _read(ON_DISK / _LOGOUT) == self._document

    def keep(self) -> None:
        """Raises StateUnusable."""
        _write(ON_DISK / _LOGOUT, self._document)

    @staticmethod
    def drop() -> None:
        """Whichever credential it is about. Raises StateUnusable."""
        _remove(ON_DISK, _LOGOUT)


def interface() -> str | None:
    """What the client's interface was called last, since the boot; None: that is not known. Raises StateUnusable."""
    name = (_read(IN_MEMORY / _INTERFACE) or {}).get("name")
    return name if isinstance(name, str) else None


def keep_interface(name: str) -> None:
    """Raises StateUnusable."""
    _write(IN_MEMORY / _INTERFACE, {"name": name})


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateUnusable(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {}


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = path.parent.stat()
        # What root writes with a command has to be the service's.
        owner, group = (directory.st_uid, directory.st_gid) if os.geteuid() == 0 else (None, None)
        write_whole(path, json.dumps(document).encode("ascii"), owner=owner, group=group)
        _keep_names(path.parent)
    except OSError as error:
        raise StateUnusable(path, f"cannot be written ({error.strerror})") from None


def _remove(directory: Path, *names: str) -> None:
    try:
        for name in names:
            (directory / name).unlink(missing_ok=True)
        _keep_names(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StateUnusable(directory, f"cannot be emptied ({error.strerror})") from None


def _keep_names(directory: Path) -> None:
    """A file that has just replaced another is on the disk; that it has the name, only after this. Without it, a
    power failure could bring back a key that the registry has removed since.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
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
