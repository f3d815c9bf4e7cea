# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The codec against literal bytes: the kernel's, those of wireguard-tools, and its own."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from netlink_tree import Request, request

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import dumps, messages
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs, Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PrivateKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer, PeerState

CAPTURES = Path(__file__).parent / "captures"

KEY = PublicKey(bytes(range(0x60, 0x80)))
PSK = PresharedKey(bytes(range(0xA0, 0xC0)))
KEY_HEX = KEY.hex()
PSK_HEX = PSK.hex()

# All on a little-endian machine, like every one that tests run on.
pytestmark = pytest.mark.skipif(
    struct.pack("=H", 1) != b"\1\0", reason="the bytes are those of a little-endian machine"
)


def show(state: PeerState) -> str:
    """A peer as a line of `wg show INTERFACE dump`."""
    fields = (
        state.public_key.text,
        "(none)" if state.preshared_key == NO_PRESHARED_KEY else state.preshared_key.text,
        "(none)" if state.endpoint is None else state.endpoint.text,
        ",".join(state.allowed_ips.texts) or "(none)",
        state.handshake // 1_000_000_000,
        state.received,
        state.sent,
        state.persistent_keepalive or "off",
    )
    return "\t".join(map(str, fields))


@pytest.fixture(scope="module")
def bodies() -> list[bytes]:
    datagrams = [bytes.fromhex(line) for line in (CAPTURES / "dump.hex").read_text(encoding="ascii").splitlines()]
    found = [message for datagram in datagrams for message in messages.split(datagram)]
    assert [message.type for message in found] == [found[0].type] * (len(found) - 1) + [messages.NLMSG_DONE]
    assert messages.error_of(found[-1].body) == 0
    return [message.body for message in found[:-1]]


@pytest.fixture(scope="module")
def shown() -> list[str]:
    return (CAPTURES / "dump.show").read_text(encoding="ascii").splitlines()


def test_the_captured_dump_is_read_as_wg_shows_it(bodies: list[bytes], shown: list[str]) -> None:
    assert [show(state) for state in dumps.peer_states(bodies)] == shown[1:]


def test_in_the_captured_dump_a_peer_straddles_two_messages(bodies: list[bytes]) -> None:
    """Else the test above would show less than it should: this peer is read in two parts without merging."""
    apart = [state.public_key for body in bodies for state in dumps.peer_states([body])]
    assert len(apart) == len(set(apart)) + 1


def test_the_captured_dump_goes_through_the_fast_path(bodies: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[int] = []
    general = dumps._any_peer
    monkeypatch.setattr(dumps, "_any_peer", lambda *peer: slow.append(peer[2]) or general(*peer))
    states = list(dumps.peer_states(bodies))
    assert len(states) == 6
    assert len(slow) == 1  # the continuation


def test_the_general_path_reads_the_captured_dump_alike(
    bodies: list[bytes], shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps, "_fixed_peer", lambda *_: None)
    monkeypatch.setattr(dumps, "_is_row", lambda *_: False)
    assert [show(state) for state in dumps.peer_states(bodies)] == shown[1:]


def test_the_captured_interface_is_read_as_wg_shows_it(bodies: list[bytes], shown: list[str]) -> None:
    private, public, port, fwmark = shown[0].split("\t")
    settings = messages.device_settings(bodies[0])
    assert settings.public_key is not None
    assert [settings.public_key.text, str(settings.listen_port), hex(settings.fwmark)] == [public, port, fwmark]
    assert private not in repr(settings)
    assert PrivateKey.from_text(private).public_key() == settings.public_key


# --- what wg sends ------------------------------------------------------------------------------------


def sent_by_wg() -> dict[str, Request]:
    lines = (CAPTURES / "messages.hex").read_text(encoding="ascii").splitlines()
    return {
        comment.removeprefix("# wg set wg9 "): request(bytes.fromhex(data))
        for comment, data in zip(lines[::2], lines[1::2], strict=True)
    }


def our(**settings: object) -> Request:
    return request(messages.set_device(0x16, 7, "wg9", **settings))  # type: ignore[arg-type]


def by_wg(begin: str) -> Request:
    (found,) = (message for command, message in sent_by_wg().items() if begin in command)
    return found


def named(command_part: str) -> PublicKey:
    (peer,) = by_wg(command_part).device["peers"]
    return PublicKey(peer["public_key"])


def test_an_interfaces_settings_are_sent_as_wg_sends_them() -> None:
    wg = by_wg("private-key")
    # wg leaves clamping to the kernel; we must not (keys.py).
    private_key = PrivateKey(wg.device.pop("private_key"))
    ours = our(private_key=private_key, listen_port=51820, fwmark=0x1234)
    assert ours.device.pop("private_key") == private_key
    assert ours == wg


def test_a_peer_is_sent_as_wg_sends_it() -> None:
    wg = by_wg("preshared-key")
    (peer,) = wg.device["peers"]
    pieces = messages.encode_update(
        PublicKey(peer["public_key"]),
        preshared_key=PresharedKey(peer["preshared_key"]),
        persistent_keepalive=25,
        endpoint=Endpoint.from_text("192.0.2.7:1111"),
        allowed_ips=AllowedIPs.from_texts(["10.1.2.3/32", "fd00::1/128", "10.2.0.0/16"]),
    )
    (mine,) = our(peers=b"".join(pieces)).device["peers"]
    # wg would make a new peer of it; we change only what is there.
    assert (peer["flags"], mine.pop("flags")) == (2, 2 | 4)
    del peer["flags"]
    assert mine == peer


def test_taking_all_allowed_ips_from_a_peer_is_sent_as_wg_sends_it() -> None:
    (peer,) = by_wg('allowed-ips ""').device["peers"]
    pieces = messages.encode_update(
        PublicKey(peer["public_key"]),
        persistent_keepalive=0,
        endpoint=Endpoint.from_text("[2001:db8::7]:2222"),
        allowed_ips=AllowedIPs(),
    )
    (mine,) = our(peers=b"".join(pieces)).device["peers"]
    assert mine == {**peer, "flags": 2 | 4}


def test_a_removal_is_sent_as_wg_sends_it() -> None:
    assert our(peers=messages.encode_removal(named("remove"))) == by_wg("remove")


# --- our own bytes ------------------------------------------------------------------------------------


def hexadecimal(text: str) -> bytes:
    """Hexadecimal with comments."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in text.splitlines()))


def test_bytes_of_the_request_for_the_family() -> None:
    assert messages.get_family(3) == hexadecimal("""
        24000000 1000 0100 03000000 00000000  # 36 bytes to the controller, request, sequence 3
        03 01 0000                            # CTRL_CMD_GETFAMILY
        0e00 0200 776972656775617264 00 0000  # CTRL_ATTR_FAMILY_NAME: wireguard
    """)


def test_bytes_of_the_request_for_a_dump() -> None:
    assert messages.get_device(0x1C, 4, "wg0") == hexadecimal("""
        1c000000 1c00 0103 04000000 00000000  # request, dump
        00 01 0000                            # WG_CMD_GET_DEVICE
        0800 0200 77673000                    # WGDEVICE_A_IFNAME
    """)


def test_bytes_of_all_settings() -> None:
    data = messages.set_device(
        0x1C, 5, "wg10", private_key=PrivateKey(bytes(range(32))), listen_port=51820, fwmark=0x1234, replace_peers=True,
        peers=b"peer",
    )  # fmt: skip
    assert data == hexadecimal("""
        64000000 1c00 0500 05000000 00000000  # request, acknowledge
        01 01 0000                            # WG_CMD_SET_DEVICE
        0900 0200 7767313000 000000           # WGDEVICE_A_IFNAME
        0800 0500 01000000                    # WGDEVICE_A_FLAGS: REPLACE_PEERS
        2400 0300 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e5f  # WGDEVICE_A_PRIVATE_KEY
        0600 0600 6cca 0000                   # WGDEVICE_A_LISTEN_PORT
        0800 0700 34120000                    # WGDEVICE_A_FWMARK
        0800 0880 70656572                    # WGDEVICE_A_PEERS, nested
    """)


def test_bytes_of_a_peer() -> None:
    peer = Peer(KEY, PSK, 25, AllowedIPs.from_texts(["10.1.2.3/32", "fd00::/64"]), Endpoint.from_text("192.0.2.7:258"))
    assert messages.encode_peer(peer) == [
        hexadecimal(f"""
        b800 0080                             # the peer, nested
        2400 0100 {KEY_HEX}
        0800 0300 02000000                    # WGPEER_A_FLAGS: REPLACE_ALLOWEDIPS
        2400 0200 {PSK_HEX}
        1400 0400 0200 0102 c0000207 0000000000000000  # WGPEER_A_ENDPOINT
        0600 0500 1900 0000                   # WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL
        4800 0980                             # WGPEER_A_ALLOWEDIPS, nested
          1c00 0080 0500 0300 20 000000 0600 0100 0200 0000 0800 0200 0a010203
          2800 0080 0500 0300 40 000000 0600 0100 0a00 0000 1400 0200 fd000000000000000000000000000000
    """)
    ]


def test_bytes_of_a_peer_with_nothing() -> None:
    assert messages.encode_peer(Peer(KEY)) == [
        hexadecimal(f"""
        5c00 0080
        2400 0100 {KEY_HEX}
        0800 0300 02000000
        2400 0200 {"00" * 32}                 # all zero: none
        0600 0500 0000 0000
    """)
    ]


def test_bytes_of_a_removal() -> None:
    assert messages.encode_removal(KEY) == hexadecimal(f"""
        3000 0080
        2400 0100 {KEY_HEX}
        0800 0300 01000000                    # REMOVE_ME
    """)


def test_bytes_of_an_update_of_one_thing() -> None:
    assert messages.encode_update(KEY, persistent_keepalive=7) == [
        hexadecimal(f"""
        3800 0080
        2400 0100 {KEY_HEX}
        0800 0300 04000000                    # UPDATE_ONLY
        0600 0500 0700 0000
    """)
    ]


def test_bytes_of_a_reinstatement_are_a_removal_and_the_peer_in_one_piece() -> None:
    peer = Peer(KEY, PSK, 25, AllowedIPs.from_texts(["10.1.2.3/32"]))
    assert messages.encode_reinstatement(peer) == [messages.encode_removal(KEY) + messages.encode_peer(peer)[0]]
