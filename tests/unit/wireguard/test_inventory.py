# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import strategies
from hiding import told_by
from hypothesis import given
from made_up import key, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.inventory import (
    peer_from,
    peers_from_file,
    peers_from_list,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import NO_PRESHARED_KEY, PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer

WriteFile = Callable[[str], Path]


def record_of(wanted: Peer) -> dict[str, Any]:
    record: dict[str, Any] = {"public_key": wanted.public_key.text, "allowed_ips": wanted.allowed_ips.texts}
    if wanted.preshared_key != NO_PRESHARED_KEY:
        record["preshared_key"] = wanted.preshared_key.text
    if wanted.persistent_keepalive:
        record["persistent_keepalive"] = wanted.persistent_keepalive
    if wanted.endpoint is not None:
        record["endpoint"] = wanted.endpoint.text
    return record


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    def write(text: str) -> Path:
        path = tmp_path / "peers.json"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@given(strategies.fleets())
def test_a_list_gives_the_peers_it_describes(fleet: dict[PublicKey, Peer]) -> None:
    assert peers_from_list([record_of(wanted) for wanted in fleet.values()]) == fleet


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inventory") / "peers.json"


@given(strategies.fleets())
def test_an_array_and_lines_and_a_list_agree(file: Path, fleet: dict[PublicKey, Peer]) -> None:
    records = [record_of(wanted) for wanted in fleet.values()]
    for text in (json.dumps(records), json.dumps(records, indent=1), "\n\n" + json.dumps(records), lines(records)):
        file.write_text(text, encoding="utf-8")
        assert peers_from_file(file) == fleet


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param("\n \n", 0, id="blank"),
        pytest.param("[]", 0, id="an empty array"),
        pytest.param("\n{0}\n\n{1}\n", 2, id="blank lines between"),
        pytest.param("{0}\n{1}", 2, id="no newline at the end"),
        pytest.param("{0}\r\n{1}\r\n", 2, id="lines of Windows"),
        pytest.param("\ufeff{0}\n{1}\n", 2, id="a byte order mark"),
        pytest.param("\ufeff[{0},{1}]", 2, id="an array after a byte order mark"),
        pytest.param("  {0}\n\t{1}", 2, id="indented"),
    ],
)
def test_a_file_in_other_shapes_is_read(write: WriteFile, text: str, count: int) -> None:
    text = text.replace("{0}", json.dumps(peer(0))).replace("{1}", json.dumps(peer(1)))
    assert len(peers_from_file(write(text))) == count


def test_what_is_left_out_is_off() -> None:
    (only,) = peers_from_list([{"public_key": key(1)}]).values()
    assert only == Peer(PublicKey.from_text(key(1)))


def test_null_is_as_good_as_left_out() -> None:
    nothing = dict.fromkeys(("preshared_key", "allowed_ips", "persistent_keepalive", "endpoint"))
    assert peer_from({"public_key": key(1), **nothing}) == peer_from({"public_key": key(1)})


SECRET = key(99)
BAD_RECORDS: list[tuple[Any, str]] = [
    ({}, ".public_key: is missing"),
    ({"public_key": None}, ".public_key: is missing"),
    ({"public_key": SECRET[:-1]}, ".public_key: is not a key"),
    ({"public_key": 5}, ".public_key: is not a key"),
    (peer(1, preshared_key=SECRET + " "), ".preshared_key: is not a key"),
    (peer(1, allowed_ips="10.0.0.1/32"), ".allowed_ips: is not a list"),
    (peer(1, allowed_ips=["10.0.0.1/32", "10.0.0.2/33"]), ".allowed_ips[1]: has a bad prefix"),
    (peer(1, allowed_ips=["10.0.0.1/24"]), ".allowed_ips[0]: has bits set beyond its /24"),
    (peer(1, allowed_ips=[["10.0.0.1/32"]]), ".allowed_ips[0]: is not text"),
    (peer(1, allowed_ips=[{}]), ".allowed_ips[0]: is not text"),
    (peer(1, persistent_keepalive=-1), ".persistent_keepalive: is not a time"),
    (peer(1, persistent_keepalive=65536), ".persistent_keepalive: is not a time"),
    (peer(1, persistent_keepalive=True), ".persistent_keepalive: is not a time"),
    (peer(1, persistent_keepalive="25"), ".persistent_keepalive: is not a time"),
    (peer(1, persistent_keepalive=2.5), ".persistent_keepalive: is not a time"),
    (peer(1, endpoint="vpn.example.com:1"), ".endpoint: is not an IP address"),
    (peer(1, alowed_ips=[]), ".alowed_ips: is not a field of a peer"),
    ({SECRET: {}}, ".?: is not a field of a peer"),
    ({"10.0.0.1": {}}, ".?: is not a field of a peer"),
    (7, ".peer: is not an object"),
    (None, ".peer: is not an object"),
    (SECRET, ".peer: is not an object"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "fault"), BAD_RECORDS)
@pytest.mark.parametrize("before", [0, 1, 2500])
def test_every_fault_is_named_by_place_and_field_and_never_shown(
    write: WriteFile, record: Any, fault: str, before: int
) -> None:
    records = [*map(peer, range(1000, 1000 + before)), record]
    path = write(lines(records))
    with pytest.raises(InvalidValue) as of_lines:
        peers_from_file(path)
    path.write_text(json.dumps(records), encoding="utf-8")
    with pytest.raises(InvalidValue) as of_array:
        peers_from_file(path)
    with pytest.raises(InvalidValue) as of_list:
        peers_from_list(records)
    for error, place in (
        (of_lines.value, f"{path}: line {before + 1}"),
        (of_array.value, f"{path}: peers[{before}]"),
        (of_list.value, f"peers[{before}]"),
    ):
        assert str(error).startswith(place + fault)
        assert SECRET[:8] not in told_by(error)
        assert "example.com" not in told_by(error)


@pytest.mark.parametrize("gap", [0, 3, 2500])
def test_two_peers_with_one_key_are_refused(write: WriteFile, gap: int) -> None:
    records = [peer(1), *map(peer, range(10, 10 + gap)), {"public_key": key(1)}]
    with pytest.raises(InvalidValue, match=r"is that of an earlier peer too") as caught:
        peers_from_file(write(lines(records)))
    assert caught.value.field.endswith(f": line {gap + 2}.public_key")


@pytest.mark.parametrize("again", ["10.0.0.1/32", "10.0.0.1"])
def test_two_peers_that_claim_one_address_are_refused(again: str) -> None:
    one = {"public_key": key(1), "allowed_ips": ["fd00::1/128", "10.0.0.1/32"]}
    other = {"public_key": key(2), "allowed_ips": ["10.0.0.2/32", again]}
    with pytest.raises(InvalidValue) as caught:
        peers_from_list([one, other])
    assert caught.value.field == "peers[1].allowed_ips"
    assert "10.0.0.1" not in told_by(caught.value)


def test_networks_inside_one_another_may_be_of_two_peers() -> None:
    one = {"public_key": key(1), "allowed_ips": ["10.0.0.0/8"]}
    other = {"public_key": key(2), "allowed_ips": ["10.0.0.0/24"]}
    assert len(peers_from_list([one, other])) == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{0}\n{", ": line 2: is not JSON (Expecting"),
        ("{0}\n\n{0", ": line 3: is not JSON (Expecting"),
        ("{0}{1}\n", ": line 1: is not JSON (Extra data at column "),
        ("{0},{1}\n", ": line 1: is not JSON (Extra data at column "),
        ("{0},\n{1}\n", ": line 1: is not JSON (Extra data at column "),
        ("[{0},]", ": is not JSON ("),
        ("[{0}\n", ": is not JSON (Expecting ',' delimiter at line 2, column "),
        ("[{0}]\n{1}", ": is not JSON (Extra data at line 2, column 1)"),
        ("public_key: x\n", ": line 1: is not JSON ("),
        ("{'a': 1}", ": line 1: is not JSON ("),
        ('{"public_key": 1' + "0" * 5000 + "}", ": line 1: is not JSON"),
        ("[" * 100_000, ": is not JSON"),
        ('{"a":' * 100_000, ": line 1: is not JSON"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_not_json_is_refused_by_place(write: WriteFile, text: str, fault: str) -> None:
    path = write(text.replace("{0}", json.dumps(peer(1))).replace("{1}", json.dumps(peer(2))))
    with pytest.raises(InvalidValue) as caught:
        peers_from_file(path)
    assert str(caught.value).startswith(f"{path}{fault}")
    assert key(1)[:8] not in told_by(caught.value)
    assert key(2)[:8] not in told_by(caught.value)


def test_what_is_not_utf8_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(json.dumps(peer(1)).encode() + b"\n\xff\xfe")
    with pytest.raises(InvalidValue, match=r"is not UTF-8 text") as caught:
        peers_from_file(path)
    assert key(1)[:8] not in told_by(caught.value)


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "directory" else tmp_path / "missing.json"
    with pytest.raises(InvalidValue, match=r"cannot be read: ") as caught:
        peers_from_file(path)
    assert caught.value.field == str(path)


def test_a_path_with_braces_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "peers-{}-{0}-{name}.json"
    path.write_text(lines([{}]), encoding="utf-8")
    with pytest.raises(InvalidValue) as caught:
        peers_from_file(path)
    assert caught.value.field == f"{path}: line 1.public_key"


def test_thousands_of_lines_with_blank_ones_give_every_peer(write: WriteFile) -> None:
    text = "".join(json.dumps(peer(n)) + ("\n\n" if n % 1500 == 7 else "\n") for n in range(5000))
    peers = peers_from_file(write(text))
    assert [wanted.text for wanted in peers] == [key(n) for n in range(5000)]
