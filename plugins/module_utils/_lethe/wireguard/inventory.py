# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desired peers of an interface, from a list or from a file; every fault is named by place and field.

A file holds a JSON array of peers, or one JSON object per line (for large fleets: it is read in pieces,
so memory stays small). Each object has ``public_key`` and ``allowed_ips``, and may have
``preshared_key``, ``persistent_keepalive`` and ``endpoint``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .addresses import AllowedIPs, Endpoint
from .errors import InvalidValue
from .keys import KEY_BYTES, NO_PRESHARED_KEY, PresharedKey, PublicKey
from .peers import Peer

_FIELDS = frozenset(("public_key", "preshared_key", "allowed_ips", "persistent_keepalive", "endpoint"))
_LINES_AT_ONCE = 2000


def peer_from(record: Any) -> Peer:
    """One peer from a mapping. Raises InvalidValue, whose field is a key of the mapping."""
    if not isinstance(record, dict):
        raise InvalidValue("peer", "is not an object", 'write {"public_key": ..., "allowed_ips": [...]}')
    if not record.keys() <= _FIELDS:
        unknown = min(map(str, record.keys() - _FIELDS))
        # What is no name may be a key or an address that came to stand in its place.
        name = unknown if unknown.isidentifier() and len(unknown) < KEY_BYTES else "?"
        raise InvalidValue(name, "is not a field of a peer", f"use one of {', '.join(sorted(_FIELDS))}")
    get = record.get
    public_key = get("public_key")
    if public_key is None:
        raise InvalidValue("public_key", "is missing", "every peer needs its public key")
    preshared_key, endpoint = get("preshared_key"), get("endpoint")
    allowed_ips, keepalive = get("allowed_ips"), get("persistent_keepalive")
    return Peer(
        PublicKey.from_text(public_key),
        NO_PRESHARED_KEY if preshared_key is None else PresharedKey.from_text(preshared_key),
        0 if keepalive is None else keepalive_from(keepalive),
        AllowedIPs() if allowed_ips is None else AllowedIPs.from_texts(allowed_ips),
        None if endpoint is None else Endpoint.from_text(endpoint),
    )


def keepalive_from(value: Any) -> int:
    """Seconds between keepalives, 0 to 65535. Raises InvalidValue."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise InvalidValue("persistent_keepalive", "is not a time", "write seconds from 0 (off) to 65535")
    return value


def peers_from_list(records: Iterable[Any]) -> dict[PublicKey, Peer]:
    """Peers from a list of mappings. Raises InvalidValue with a field like ``peers[3].public_key``."""
    return _collect(enumerate(records), "", "peers[{}]")


def peers_from_file(path: str | Path) -> dict[PublicKey, Peer]:
    """Peers from a file. Raises InvalidValue with a field like ``line 18.allowed_ips[0]``, which never
    shows what the file holds.
    """
    try:
        # With or without the byte order mark that some editors and shells begin a file with.
        with open(path, encoding="utf-8-sig") as file:
            if _first_character(file) == "[":
                return _collect(enumerate(_parsed(file.read(), f"{path}")), f"{path}: ", "peers[{}]")
            return _collect(_records_of_lines(file, path), f"{path}: ", "line {}")
    except UnicodeDecodeError:
        problem, remedy = "is not UTF-8 text", "write JSON"
    except OSError as error:
        problem, remedy = f"cannot be read: {error.strerror}", "give the path of a file on this host"
    raise InvalidValue(f"{path}", problem, remedy)  # from here: the decoder's exception holds what it read


def _first_character(file: Any) -> str:
    for line in file:
        if line.strip():
            file.seek(0)
            return str(line.lstrip()[0])
    file.seek(0)
    return ""


def _records_of_lines(file: Iterable[str], path: str | Path) -> Iterator[tuple[int, Any]]:
    numbered = enumerate(file, 1)
    while chunk := list(islice(numbered, _LINES_AT_ONCE)):
        try:
            # One call for many lines: three times as fast as one for each.
            records = json.loads("[" + ",".join([line for _, line in chunk]) + "]")
        except (ValueError, RecursionError):
            records = []
        if len(records) == len(chunk):
            yield from zip((number for number, _ in chunk), records, strict=True)
            continue
        for number, line in chunk:  # a blank line, or a fault to be named
            if line.strip():
                yield number, _parsed(line, f"{path}: line {number}")


def _parsed(text: str, where: str) -> Any:
    """``text`` as JSON. Raises InvalidValue, which says where the fault is."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        inside = f"line {error.lineno}, " if error.lineno > 1 else ""
        problem = f"is not JSON ({error.msg} at {inside}column {error.colno})"
    except (ValueError, RecursionError):  # a number or a nest that no peer has
        problem = "is not JSON of peers"
    # From here: the decoder's exception holds the text.
    raise InvalidValue(where, problem, "write a JSON array of peers, or one JSON object per line")


def _collect(records: Iterable[tuple[int, Any]], source: str, place: str) -> dict[PublicKey, Peer]:
    """``place`` is the text that a record's number completes to where it stands in the ``source``."""
    peers: dict[PublicKey, Peer] = {}
    claimed: set[bytes] = set()
    claims = 0
    for number, record in records:
        try:
            peer = peer_from(record)
        except InvalidValue as error:
            raise error.inside(source + place.format(number)) from None
        if peers.setdefault(peer.public_key, peer) is not peer:
            raise InvalidValue(
                f"{source}{place.format(number)}.public_key", "is that of an earlier peer too", "list each peer once"
            )
        nests = peer.allowed_ips.nests()
        claimed.update(nests)
        claims += len(nests)
        if len(claimed) != claims:
            raise InvalidValue(
                f"{source}{place.format(number)}.allowed_ips",
                "has an address that an earlier peer has too",
                "give each address to one peer: the kernel would silently leave it with the last",
            )
    return peers
