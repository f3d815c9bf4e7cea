# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the captures beside it, from a real kernel and from wireguard-tools:

    tests/bench/uml --timeout 120 -- .venv/bin/python tests/unit/wireguard/captures/capture.py

dump.hex        the datagrams of one dump, one per line, as the kernel sent them
dump.show       what `wg show wg0 dump` said of the same peers
messages.hex    the messages that `wg set` sent (strace), each below the command that sent it

The keys are made up: they are derived from the words below and protect nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
SMALL_RECEIVE = 4096  # bytes: the kernel then sends messages of 4 KiB, so that a peer straddles two of them


def key(word: str) -> str:
    return base64.b64encode(hashlib.sha256(word.encode()).digest()).decode()


def run(*command: str, text: str | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout


def key_file(word: str) -> str:
    path = Path("/run", word.replace(" ", "-"))
    path.write_text(key(word) + "\n", encoding="ascii")
    return str(path)


def public_key(word: str) -> str:
    return run("wg", "pubkey", text=key(word) + "\n").strip()


def strace(*command: str) -> bytes:
    """The last netlink message that a command sent."""
    shown = subprocess.run(
        ["strace", "-xx", "-s", "70000", "-e", "trace=sendto", "-e", "raw=none", *command],
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    *_, last = re.finditer(
        r"nlmsg_len=(\d+), nlmsg_type=(0x[0-9a-f]+).*?nlmsg_flags=(\S+), nlmsg_seq=(\d+), nlmsg_pid=(\d+)}, "
        r'"((?:\\x[0-9a-f]{2})*)"',
        shown,
    )
    length, kind, _, _, _, payload = last.groups()
    # The sequence number is the time, and flags are shown by name (always request and acknowledge): fixed here.
    return struct.pack("=IHHII", int(length), int(kind, 16), 0x5, 7, 0) + bytes.fromhex(payload.replace("\\x", ""))


def datagrams(interface: str) -> Iterator[bytes]:
    """One dump, asked for with bytes written by hand."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as kernel:
        kernel.bind((0, 0))
        name = b"wireguard\0".ljust(12, b"\0")
        kernel.send(struct.pack("=IHHIIBBHHH", 36, 16, 1, 1, 0, 3, 1, 0, 14, 2) + name)
        answer = kernel.recv(SMALL_RECEIVE)
        # Its attributes: the name (20 bytes with its header here), then the family's id.
        family = struct.unpack_from("=H", answer, answer.index(struct.pack("=HH", 6, 1)) + 4)[0]
        label = interface.encode() + b"\0"
        label += bytes(-len(label) % 4)
        attribute = struct.pack("=HH", 4 + len(interface) + 1, 2) + label
        kernel.send(struct.pack("=IHHIIBBH", 20 + len(attribute), family, 0x301, 2, 0, 0, 1, 0) + attribute)
        while True:
            datagram = kernel.recv(SMALL_RECEIVE * 8)
            yield datagram
            if datagram[-20:-14] == struct.pack("=IH", 20, 3):  # the end of the dump, in the last datagram
                return


def capture_messages() -> None:
    run("ip", "link", "add", "wg9", "type", "wireguard")
    preshared = key_file("preshared")
    commands = [
        ["private-key", key_file("gateway"), "listen-port", "51820", "fwmark", "0x1234"],
        ["peer", key("peer"), "preshared-key", preshared, "endpoint", "192.0.2.7:1111", "persistent-keepalive", "25",
         "allowed-ips", "10.1.2.3/32,fd00::1/128,10.2.0.0/16"],
        ["peer", key("peer"), "endpoint", "[2001:db8::7]:2222", "persistent-keepalive", "0", "allowed-ips", ""],
        ["peer", key("peer"), "remove"],
    ]  # fmt: skip
    lines = []
    for command in commands:
        lines.append("# wg set wg9 " + " ".join(word or '""' for word in command))
        lines.append(strace("wg", "set", "wg9", *command).hex())
    (HERE / "messages.hex").write_text("\n".join(lines) + "\n", encoding="ascii")
    run("ip", "link", "del", "wg9")


def capture_dump() -> None:
    run("ip", "netns", "add", "client")
    run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", "client")
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "veth0")
    run("ip", "link", "set", "veth0", "up")
    run("ip", "link", "add", "wg0", "type", "wireguard")
    run("ip", "addr", "add", "10.0.0.1/24", "dev", "wg0")
    run("wg", "set", "wg0", "private-key", key_file("gateway"), "listen-port", "51820", "fwmark", "7")
    many = ",".join(f"10.9.{i // 100}.{i % 100}/32,fd09::{i:x}/128" for i in range(1, 40))
    for word, *options in (
        ("fresh",),
        ("client", "preshared-key", key_file("preshared"), "allowed-ips", "10.0.0.2/32,fd00::2/128"),
        ("many", "endpoint", "[2001:db8::7]:2222", "persistent-keepalive", "25", "allowed-ips", many),
        ("nets", "allowed-ips", "10.128.0.0/9,fd77::/64"),
        ("more", "allowed-ips", many.replace("10.9.", "10.10.").replace("fd09", "fd10")),
        ("last", "endpoint", "198.51.100.9:65535", "allowed-ips", "0.0.0.0/0,::/0"),
    ):
        run("wg", "set", "wg0", "peer", public_key(word), *options)
    run("ip", "link", "set", "wg0", "up")
    inside = ("ip", "netns", "exec", "client")
    run(*inside, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "up")
    run(*inside, "ip", "link", "add", "wg0", "type", "wireguard")
    run(*inside, "ip", "addr", "add", "10.0.0.2/24", "dev", "wg0")
    gateway = ("peer", public_key("gateway"), "preshared-key", key_file("preshared"), "endpoint", "192.0.2.1:51820")
    run(*inside, "wg", "set", "wg0", "private-key", key_file("client"), *gateway, "allowed-ips", "10.0.0.1/32")
    run(*inside, "ip", "link", "set", "wg0", "up")
    run(*inside, "bash", "-c", "echo hello > /dev/udp/10.0.0.1/9")
    time.sleep(1)
    shown = run("wg", "show", "wg0", "dump")
    (HERE / "dump.show").write_text(shown, encoding="ascii")
    (HERE / "dump.hex").write_text("".join(d.hex() + "\n" for d in datagrams("wg0")), encoding="ascii")


if __name__ == "__main__":
    capture_messages()
    capture_dump()
