# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desired peers of an interface, from a list or from a file; every fault is named by place and field.

A file holds a JSON array of peers, or one JSON object per line (for large fleets: it is read in pieces,
so memory stays small), or packed peers (packed.py: for the largest). Each object has ``public_key`` and
``allowed_ips``, and may have ``preshared_key``, ``persistent_keepalive`` and ``endpoint``.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, repeat
from operator import add
from pathlib import Path
from typing import Any, TypeVar

from .addresses import AllowedIPs, Endpoint, host_nests
from .bulk import collection_paused
from .errors import InvalidValue
from .keys import KEY_BYTES, NO_PRESHARED_KEY, PresharedKey, PublicKey
from .packed import MAGIC, PackedPeers
from .peers import Peer

K = TypeVar("K", PublicKey, PresharedKey)

_FIELDS = frozenset(("public_key", "preshared_key", "allowed_ips", "persistent_keepalive", "endpoint"))
_AT_ONCE = 2000  # records: enough to share the costs, few enough to stay in the processor's cache


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


@collection_paused()
def peers_from_list(records: Iterable[Any]) -> dict[PublicKey, Peer]:
    """Peers from a list of mappings. Raises InvalidValue with a field like ``peers[3].public_key``."""
    return _collect(enumerate(records), "", "peers[{}]")


@collection_paused()
def peers_from_file(path: str | Path) -> Mapping[PublicKey, Peer]:
    """Peers from a file, as text or packed.

    Raises InvalidValue with a field like ``line 18.allowed_ips[0]``, which never shows what the file holds.
    """
    problem, remedy = "is not UTF-8 text", "write JSON"
    try:
        with open(path, "rb") as packed:
            if packed.read(len(MAGIC)) == MAGIC:
                packed.seek(0)
                return PackedPeers(packed.read(), f"{path}")
        # With or without the byte order mark that some editors and shells begin a file with.
        with open(path, encoding="utf-8-sig") as file:
            if _first_character(file) == "[":
                return _collect(enumerate(_parsed(file.read(), f"{path}")), f"{path}: ", "peers[{}]")
            return _collect(_records_of_lines(file, path), f"{path}: ", "line {}")
    except UnicodeDecodeError:
        pass  # said below
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
    while chunk := list(islice(numbered, _AT_ONCE)):
        try:
            # One call for many lines: three times as fast as one for each.
            records = json.loads("[" + ",".join([line for _number, line in chunk]) + "]")
        except (ValueError, RecursionError):
            records = []
        if len(records) == len(chunk):
            yield from zip([number for number, _line in chunk], records, strict=True)
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


class _Peers:
    """Peers collected so far, and the allowed IPs that they claim."""

    def __init__(self) -> None:
        self.by_key: dict[PublicKey, Peer] = {}
        self.claimed: set[bytes] = set()

    def add(self, peer: Peer) -> None:
        """Raises InvalidValue if the key, or one of the allowed IPs, is an earlier peer's."""
        if peer.public_key in self.by_key:
            raise InvalidValue("public_key", "is that of an earlier peer too", "list each peer once")
        nests = peer.allowed_ips.nests()
        if not self.claimed.isdisjoint(nests):
            raise InvalidValue(
                "allowed_ips",
                "has an address that an earlier peer has too",
                "give each address to one peer: the kernel would silently leave it with the last",
            )
        self.claimed.update(nests)
        self.by_key[peer.public_key] = peer

    def add_alike(self, records: list[Any]) -> bool:
        """Take many records at once, or none of them: only if all have the shape that a registry gives (a key,
        a preshared key or none, one IPv4 and one IPv6 address) and nothing is wrong with any. Three times as
        fast as one after the other, because each step is one call for all of them.
        """
        try:
            allowed_ips = [record["allowed_ips"] for record in records]
            keys = _keys(PublicKey, [record["public_key"] for record in records])
            fields = set(map(len, records))
            if fields == {3}:
                preshared = _keys(PresharedKey, [record["preshared_key"] for record in records])
            elif fields == {2}:
                preshared = [NO_PRESHARED_KEY] * len(records)
            else:
                return False
            if set(map(type, allowed_ips)) != {list}:
                return False
            ipv4, ipv6 = host_nests(allowed_ips)
        except (KeyError, TypeError, ValueError, OSError, AttributeError):
            return False
        claims = {*ipv4, *ipv6}
        new = set(keys)
        if (
            len(new) != len(keys)
            or len(claims) != 2 * len(keys)
            or not self.by_key.keys().isdisjoint(new)
            or not self.claimed.isdisjoint(claims)
        ):
            return False
        self.claimed |= claims
        both = map(bytes.__new__, repeat(AllowedIPs), map(add, ipv4, ipv6))
        made = map(tuple.__new__, repeat(Peer), zip(keys, preshared, repeat(0), both, repeat(None), strict=False))
        self.by_key.update(zip(keys, made, strict=True))
        return True


def _keys(kind: type[K], texts: list[str]) -> list[K]:
    """Keys from canonical texts; ValueError or TypeError if one of them is none."""
    raw = list(map(a2b_base64, texts))
    # b2a_base64 ends each with a line feed. Encoding again catches what decoding lets pass.
    if set(map(len, raw)) != {KEY_BYTES} or b"".join(map(b2a_base64, raw)).decode("ascii") != "\n".join([*texts, ""]):
        raise ValueError("not a key")
    return list(map(bytes.__new__, repeat(kind), raw))


def _collect(records: Iterable[tuple[int, Any]], source: str, place: str) -> dict[PublicKey, Peer]:
    """``place`` is the text that a record's number completes to where it stands in the ``source``."""
    peers = _Peers()
    records = iter(records)
    while chunk := list(islice(records, _AT_ONCE)):
        if peers.add_alike([record for _number, record in chunk]):
            continue
        for number, record in chunk:
            try:
                peers.add(peer_from(record))
            except InvalidValue as error:
                raise error.inside(source + place.format(number)) from None
    return peers.by_key
