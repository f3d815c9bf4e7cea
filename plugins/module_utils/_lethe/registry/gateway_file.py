# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateways that clients are told of, in a file that the operator writes, or the role registry out of the inventory.

Not what gateways report of themselves: a stolen credential of one could then send clients to another key.
"""

from __future__ import annotations

import json
import logging
import os

from ..gateways import Gateway, gateways_from
from ..wireguard.errors import InvalidValue

_log = logging.getLogger(__name__)

_Mark = tuple[int, int, int]


class GatewayFile:
    """A JSON object with ``gateways``; it is read anew whenever it has changed, so nothing need be started again."""

    def __init__(self, path: str) -> None:
        """``path``: "" for no gateways. Raises InvalidValue for a file that is there and not usable."""
        self._path = path
        self._latest = self._read()

    def gateways(self) -> tuple[Gateway, ...]:
        """As the file has them; as it had them, if it cannot be used any more."""
        mark, gateways = self._latest
        if self._mark() != mark:
            try:
                self._latest = self._read()
            except InvalidValue as error:
                self._latest = (self._mark(), gateways)  # said once
                _log.error("the list of gateways stays as it was: %s", error)
        return self._latest[1]

    def _read(self) -> tuple[_Mark | None, tuple[Gateway, ...]]:
        mark = self._mark()
        if mark is None:
            return None, ()
        try:
            with open(self._path, "rb") as file:
                document = json.load(file)
        except OSError as error:
            raise InvalidValue(self._path, f"cannot be read: {error.strerror}", "let the registry read it") from None
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise InvalidValue(self._path, "is not a JSON object", 'write one object with "gateways"')
        try:
            return mark, _each_once(gateways_from(document.get("gateways")))
        except InvalidValue as error:
            raise error.inside(self._path) from None

    def _mark(self) -> _Mark | None:
        """What changes when the file does; None if there is none."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _each_once(gateways: tuple[Gateway, ...]) -> tuple[Gateway, ...]:
    seen: set[object] = set()
    for i, gateway in enumerate(gateways):
        names: list[object] = [(gateway.name, gateway.interface), *(way.public_key for way in gateway.ways)]
        if len(set(names)) < len(names) or not seen.isdisjoint(names):
            raise InvalidValue(f"gateways[{i}]", "is there twice", "list each interface of a gateway once")
        seen.update(names)
    return gateways
