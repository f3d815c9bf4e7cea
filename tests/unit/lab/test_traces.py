# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from fleet import search
from fleet.traces import needles, offsets, recognisable


@pytest.mark.parametrize(
    ("address", "spelled"),
    [
        ("198.19.129.254", b"198.19.129.254"),
        ("198.19.129.254", bytes((198, 19, 129, 254))),
        ("198.19.129.254", bytes((254, 129, 19, 198))),  # as a number of a machine with the usual order
        ("198.19.129.254", b"FE8113C6"),  # /proc/net/udp
        ("198.19.129.254", b"c61381fe"),
        ("2001:db8:1000::5", b"2001:db8:1000::5"),
        ("2001:db8:1000::5", b"2001:0db8:1000:0000:0000:0000:0000:0005"),
        ("2001:db8:1000::5", b"20010db8100000000000000000000005"),  # /proc/net/if_inet6
        ("2001:db8:1000::5", b"B80D0120000000100000000005000000"),  # /proc/net/udp6
        ("2001:db8:1000::5", bytes.fromhex("20010db8100000000000000000000005")),
    ],
)
def test_an_address_is_found_in_every_form(address: str, spelled: bytes) -> None:
    assert list(offsets(b"before" + spelled + b"after", {"a": ip_address(address)})) == [("a", 6)]


@pytest.mark.parametrize("version", [4, 6])
def test_a_recognisable_address_is_of_that_kind_and_another_each_time(version: int) -> None:
    several = {recognisable(version) for _ in range(5)}

    assert {address.version for address in several} == {version}
    assert len(several) == 5
    assert all(len(needle) <= search.LONGEST for address in several for needle in needles(address))


def test_what_is_at_the_edge_of_two_chunks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CHUNK", 100)
    (tmp_path / "file").write_bytes(b"." * 95 + b"needle of ten" + b"." * 300)

    assert any(b"needle of ten" in piece for piece in search.contents(str(tmp_path / "file")))


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    assert list(search.contents(str(tmp_path / "none"))) == []
