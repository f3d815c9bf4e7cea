# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import ipaddress
import struct
from typing import Any

import netaddr
import pytest
import strategies
from hiding import told_by
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import (
    AllowedIP,
    AllowedIPs,
    Endpoint,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

NO_ADDRESS, BAD_PREFIX, HOST_BITS = "is not an IP address", "has a bad prefix", "has bits set"
BAD_ALLOWED_IPS = {
    "": NO_ADDRESS,
    "/32": NO_ADDRESS,
    "/": NO_ADDRESS,
    "10.1.2/24": NO_ADDRESS,
    "10.1.2.256/32": NO_ADDRESS,
    "10.1.2.3.4/32": NO_ADDRESS,
    "010.1.2.3/32": NO_ADDRESS,
    "0x0a.1.2.3/32": NO_ADDRESS,
    "167837955/32": NO_ADDRESS,
    "10.1.2.3 /32": NO_ADDRESS,
    " 10.1.2.3/32": NO_ADDRESS,
    "10.1.2.3\n/32": NO_ADDRESS,
    "10.1.2.3\0/32": NO_ADDRESS,
    "\u0661\u0660.1.2.3/32": NO_ADDRESS,
    "10.1.2.3\ud800/32": NO_ADDRESS,
    "gateway.example.com/32": NO_ADDRESS,
    "10.1.2.3/255.255.255.0": BAD_PREFIX,
    "10.1.2.3/": BAD_PREFIX,
    "10.1.2.3/33": BAD_PREFIX,
    "10.1.2.3/128": BAD_PREFIX,
    "10.1.2.3/-1": BAD_PREFIX,
    "10.1.2.3/+8": BAD_PREFIX,
    "10.1.2.3/8 ": BAD_PREFIX,
    "10.1.2.3/\u0663\u0662": BAD_PREFIX,
    "10.1.2.3/32/32": BAD_PREFIX,
    "10.1.2.3/0000000032": BAD_PREFIX,
    "10.1.2.3/1e1": BAD_PREFIX,
    "10.1.2.3/24": HOST_BITS,
    "10.1.2.3/0": HOST_BITS,
    "fd00::1/129": BAD_PREFIX,
    "fd00::1/64": HOST_BITS,
    "fd00::1/127": HOST_BITS,
    "fd00:::1/128": NO_ADDRESS,
    "fd00::1::2/128": NO_ADDRESS,
    "fe80::1%eth0/128": NO_ADDRESS,
    "[fd00::1]/128": NO_ADDRESS,
    "fd00::12345/128": NO_ADDRESS,
}
# Lists so that hypothesis and pytest show them; a dict and a slice differ between Python 3.11 and 3.12.
NOT_TEXT: list[Any] = [None, 12, 10.1, b"10.1.2.3/32", ["10.1.2.3/32"], {"10.1.2.3/32": 1}, {}, True]


@pytest.mark.parametrize(("text", "problem"), BAD_ALLOWED_IPS.items(), ids=map(repr, BAD_ALLOWED_IPS))
def test_a_bad_allowed_ip_is_refused_by_place_and_without_showing_it(text: str, problem: str) -> None:
    with pytest.raises(InvalidValue) as one:
        AllowedIP.from_text(text, "allowed_ips[7]")
    with pytest.raises(InvalidValue) as listed:
        AllowedIPs.from_texts(["10.9.9.9/32", text])
    assert one.value.field == "allowed_ips[7]"
    assert listed.value.field == "allowed_ips[1]"
    for error in (one.value, listed.value):
        assert error.problem.startswith(problem)
        # The remedy shows an address of its own.
        told = told_by(error).replace(error.remedy, "").replace(f"/{text.partition('/')[2]}", "")
        assert len(text) < 4 or text.partition("/")[0] not in told


@pytest.mark.parametrize("value", NOT_TEXT, ids=repr)
def test_an_allowed_ip_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match=r"^allowed_ips\[0\]: is not text"):
        AllowedIPs.from_texts([value])


@pytest.mark.parametrize("value", ["10.1.2.3/32", b"", {"10.1.2.3/32": 1}, 7, {"10.1.2.3/32"}], ids=repr)
def test_allowed_ips_that_are_no_list_are_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match=r"^allowed_ips: is not a list"):
        AllowedIPs.from_texts(value)


_numbers = st.sampled_from(["0", "1", "9", "10", "255", "256", "01", "", "a", "1e2", "fd00", "ffff", "12345"])
_almost_addresses = st.one_of(
    st.builds(".".join, st.lists(_numbers, min_size=3, max_size=5)),
    st.builds(":".join, st.lists(_numbers, min_size=2, max_size=9)),
    st.builds("::".join, st.lists(_numbers, min_size=2, max_size=3)),
    st.ip_addresses().map(str),
    st.text(max_size=12),
)


@given(_almost_addresses)
@example("::")
@example("1::255.255.255.255")
@example("::ffff:1.2.3.4")
def test_what_netaddr_takes_as_an_address_is_what_is_taken(text: str) -> None:
    try:
        oracle = netaddr.IPAddress(text, flags=netaddr.INET_PTON)
    except (netaddr.AddrFormatError, ValueError, TypeError):
        oracle = None
    try:
        taken = AllowedIP.from_text(text).address
    except InvalidValue:
        taken = None
    if "/" not in text and "%" not in text:
        assert taken == (None if oracle is None else oracle.packed)


@given(strategies.networks)
def test_an_allowed_ip_reads_back_from_its_text_and_from_the_kernels_bytes(network: AllowedIP) -> None:
    assert AllowedIP.from_text(network.text) == network
    assert AllowedIPs.of([network]).ips() == [network]
    assert netaddr.IPNetwork(network.text) == netaddr.IPNetwork(network.text).cidr


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)), st.integers(0, 128))
def test_bits_beyond_the_prefix_are_refused_exactly_when_there_are_any(address: bytes, prefix: int) -> None:
    host = ipaddress.ip_address(address)
    if prefix > host.max_prefixlen:
        return
    try:
        ipaddress.ip_network((address, prefix))
        whole = True
    except ValueError:
        whole = False
    try:
        AllowedIP.from_text(f"{host}/{prefix}")
        taken = True
    except InvalidValue:
        taken = False
    assert taken == whole


@given(st.lists(strategies.networks, max_size=12))
def test_a_list_keeps_its_order_and_counts_a_network_once(networks: list[AllowedIP]) -> None:
    texts = [network.text for network in networks]
    allowed_ips = AllowedIPs.from_texts(texts)
    once = list(dict.fromkeys(texts))
    assert allowed_ips.texts == once
    assert allowed_ips == AllowedIPs.of(dict.fromkeys(networks))
    assert b"".join(allowed_ips.nests()) == allowed_ips
    assert len(allowed_ips.nests()) == len(once)


@pytest.mark.parametrize(
    ("text", "same"),
    [("10.1.2.3", "10.1.2.3/32"), ("fd00::1", "fd00::1/128"), ("FD00:0:0::0:1/128", "fd00::1/128"),
     ("::ffff:10.1.2.3/128", "::ffff:a01:203/128"), ("10.0.0.0/08", "10.0.0.0/8"), ("0.0.0.0/0", "0.0.0.0/0")],
)  # fmt: skip
def test_spellings_of_one_network_are_one_network(text: str, same: str) -> None:
    assert AllowedIPs.from_texts([text, same]) == AllowedIPs.from_texts([same])


@given(st.binary(max_size=100))
def test_bytes_that_are_no_allowed_ips_raise_value_error_and_nothing_else(raw: bytes) -> None:
    with contextlib.suppress(ValueError):
        AllowedIPs(raw).nests()


@given(st.lists(strategies.networks, min_size=1, max_size=3), st.integers(1, 40))
def test_truncated_allowed_ips_are_noticed(networks: list[AllowedIP], cut: int) -> None:
    whole = AllowedIPs.of(networks)
    lengths = {0}
    for nest in whole.nests():
        lengths.add(max(lengths) + len(nest))
    short = AllowedIPs(whole[: max(0, len(whole) - cut)])
    if len(short) in lengths:
        short.nests()
    else:
        with pytest.raises(ValueError, match="unknown layout"):
            short.nests()


def test_printing_shows_no_address() -> None:
    allowed_ips = AllowedIPs.from_texts(["10.1.2.3/32", "fd00::7/128"])
    endpoint = Endpoint.from_text("192.0.2.1:51820")
    printed = [
        repr(allowed_ips), str(allowed_ips), f"{allowed_ips}", repr(allowed_ips.ips()), str(allowed_ips.ips()[0]),
        repr(endpoint), str(endpoint), f"{endpoint}",
    ]  # fmt: skip
    assert printed == [
        *["<AllowedIPs: 2>"] * 3, "[<AllowedIP>, <AllowedIP>]", "<AllowedIP>", *["<Endpoint>"] * 3,
    ]  # fmt: skip


# --- endpoints ----------------------------------------------------------------------------------------


@given(strategies.endpoint_texts)
def test_an_endpoint_reads_back_from_its_text(text: str) -> None:
    endpoint = Endpoint.from_text(text)
    assert Endpoint.from_text(endpoint.text) == endpoint
    host, _, port = endpoint.text.rpartition(":")
    assert ipaddress.ip_address(host.strip("[]")) == ipaddress.ip_address(text.rpartition(":")[0].strip("[]"))
    assert port == text.rpartition(":")[2]


def test_an_endpoint_is_the_kernels_socket_address() -> None:
    four, six = Endpoint.from_text("192.0.2.1:258"), Endpoint.from_text("[2001:db8::1]:258")
    assert four == struct.pack("=H", 2) + bytes([1, 2, 192, 0, 2, 1]) + bytes(8)
    assert six == struct.pack("=H", 10) + bytes.fromhex("0102 00000000 20010db8000000000000000000000001 00000000")


def test_the_zone_of_a_link_local_endpoint_is_shown() -> None:
    endpoint = Endpoint.from_text("[fe80::1]:1")
    assert Endpoint(endpoint[:-4] + struct.pack("=I", 3)).text == "[fe80::1%3]:1"


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:+1",
        "192.0.2.1:http", "192.0.2.1: 1", "192.0.2.1:\u0663", "192.0.2.1:000001", "192.0.2.1:0000019999",
        "192.0.2.1:" + "9" * 5000, ":51820", "[]:1", "[:1", "]:1", "[192.0.2.1]:1", "2001:db8::1:51820",
        "[2001:db8::1]", "[2001:db8::1]51820", "[fe80::1%eth0]:1", "gateway.example.com:51820", "192.0.2.1\0:1",
        "192.0.2.1\ud800:1", "[2001:db8::1\ud800]:1", None, 5, b"192.0.2.1:1", ["192.0.2.1:1"],
    ],
    ids=lambda text: repr(text)[:30],
)  # fmt: skip
def test_a_bad_endpoint_is_refused_without_showing_it(text: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        Endpoint.from_text(text, "peers[2].endpoint")
    assert caught.value.field == "peers[2].endpoint"
    told = told_by(caught.value).replace(caught.value.remedy, "")
    assert "192.0.2" not in told
    assert "db8" not in told
    assert "gateway" not in told


@given(st.text(max_size=30))
def test_no_text_at_all_makes_an_endpoint_crash(text: str) -> None:
    with contextlib.suppress(InvalidValue):
        Endpoint.from_text(text)


@given(st.text(max_size=30))
def test_no_text_at_all_makes_an_allowed_ip_crash(text: str) -> None:
    with contextlib.suppress(InvalidValue):
        AllowedIPs.from_texts([text])
