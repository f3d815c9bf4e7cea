# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the client machine of the lab: clients that send for a while, and are then gone without a word.

    depart.py NUMBER

Makes so many clients, an interface each, and prints their public keys and addresses. A line ``KEY ENDPOINT ADDRESS``
on standard input tells it of the gateway, by its tunnel address too, and the next one for how many seconds each client
sends, as a JSON array. It says ``gone`` when none is left.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time

DISCARD = 9  # the port; a gateway drops what comes for it, but has received it
EVERY = 1.0  # seconds between two packets of a client


def run(*command: str, text: str = "") -> str:
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def ip(*lines: str) -> None:
    run("ip", "-batch", "-", text="\n".join(lines))


class Client:
    def __init__(self, number: int) -> None:
        self.name = f"leaver{number}"
        self.address = f"10.78.{number // 250}.{number % 250 + 1}"
        self._private_key = run("wg", "genkey")
        self.public_key = run("wg", "pubkey", text=self._private_key)

    def connect(self, key: str, endpoint: str, gateway: str) -> None:
        """Begin to send through an interface of its own, whichever else leads there."""
        interface = f"[Interface]\nPrivateKey={self._private_key}\n"
        peer = f"[Peer]\nPublicKey={key}\nEndpoint={endpoint}\nAllowedIPs={gateway}/32\n"
        run("wg", "setconf", self.name, "/dev/stdin", text=interface + peer)
        ip(
            f"address add {self.address}/32 dev {self.name}",
            f"link set {self.name} up",
            f"route add {gateway}/32 dev {self.name} src {self.address} metric {1000 + int(self.name[6:])}",
        )
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.name.encode())
        self._socket.bind((self.address, 0))
        self._socket.connect((gateway, DISCARD))

    def send(self) -> None:
        self._socket.send(b"still here")

    def leave(self) -> None:
        ip(f"link set {self.name} down")


def main(number: str) -> None:
    clients = [Client(each) for each in range(int(number))]
    present = {line.split(":")[1].strip() for line in run("ip", "-o", "link", "show", "type", "wireguard").splitlines()}
    ip(*(f"link delete {client.name}" for client in clients if client.name in present))
    ip(*(f"link add {client.name} type wireguard" for client in clients))
    print(json.dumps([[client.public_key, client.address] for client in clients]), flush=True)

    gateway = sys.stdin.readline().split()
    for client in clients:
        client.connect(*gateway)
    lives = json.loads(sys.stdin.readline())
    begun = time.monotonic()
    left = [(begun + life, client) for life, client in zip(lives, clients, strict=True)]
    while left:
        now = time.monotonic()
        for end, client in left:
            client.leave() if end <= now else client.send()
        left = [(end, client) for end, client in left if end > now]
        time.sleep(max(0.0, now + EVERY - time.monotonic()))
    print("gone", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
