# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused of an interface before the kernel is asked."""

from __future__ import annotations

import pytest

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.interface import (
    InterfaceOptions,
    address_from_text,
    check_name,
)


@pytest.mark.parametrize("name", ["wg0", "w", "a-very-long-one", "wg.100", "wg_0@x", "wégé", "..."])
def test_names_that_the_kernel_takes(name: str) -> None:
    assert check_name(name) == name
    assert InterfaceOptions(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a/b", "../wg0", "a:b", "wg%d", "a b", " wg0", "wg0\n", "\t", "wg0\0", "wg\x7f", "wg\udcff",
        "a-very-long-name", "ééééééé0é", "wg\u2003",
    ],
    ids=repr,
)  # fmt: skip
def test_names_that_the_kernel_does_not_take(name: str) -> None:
    with pytest.raises(InvalidValue, match=r"^name: is no name for an interface"):
        check_name(name)
    with pytest.raises(InvalidValue, match="is no name"):
        InterfaceOptions(name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("listen_port", -1), ("listen_port", 65536), ("fwmark", -1), ("fwmark", 2**32), ("mtu", 1279), ("mtu", 0),
        ("mtu", 65536),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(InvalidValue, match=f"^{field}: is {value}; give a number from "):
        InterfaceOptions("wg0", **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "value"), [("listen_port", 0), ("listen_port", 65535), ("fwmark", 0), ("mtu", 1280)])
def test_the_ends_of_ranges_are_inside(field: str, value: int) -> None:
    assert getattr(InterfaceOptions("wg0", **{field: value}), field) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["10.0.0.1/8", "fd00::1/48", "10.0.0.1"])
def test_addresses_are_parsed(text: str) -> None:
    assert str(address_from_text(text)).startswith(text)


@pytest.mark.parametrize(
    "value", ["", "10.0.0.1/33", "10.0.0.256/8", "fe80::1%eth0/64", "host/8", None, 5, b"10.0.0.1"]
)
def test_bad_addresses_are_refused_by_place(value: object) -> None:
    with pytest.raises(InvalidValue, match=r"^addresses\[2\]: is not an address with a prefix"):
        address_from_text(value, "addresses[2]")
