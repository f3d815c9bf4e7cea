# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import made_up
import pytest
from namespaces import PORT, Client, Namespace, ip

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PrivateKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer

GATEWAY = PrivateKey.from_text(made_up.key(0, "gateway"))


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """This process is in a network of its own."""
    network = Namespace()
    with network:
        yield network
    network.close()


@pytest.fixture
def device(namespace: Namespace, tmp_path: Path) -> Iterator[KernelDevice]:
    """A new interface, wg0, in a network of its own; down."""
    ip("link add wg0 type wireguard")
    device = KernelDevice("wg0", lock=tmp_path / "lock")
    yield device
    device.flush()  # with the peers still there, the network's end takes 18 ms for each


class Gateway:
    """The gateway's device, and clients that are peers of it."""

    def __init__(self, device: KernelDevice) -> None:
        self.device = device
        self.clients: list[Client] = []

    def add_client(self, preshared_key: PresharedKey = NO_PRESHARED_KEY, keepalive: int = 0) -> Client:
        number = len(self.clients) + 1
        client = Client(
            number, GATEWAY.public_key(), PrivateKey.from_text(made_up.key(number, "client")), preshared_key
        )
        self.clients.append(client)
        self.device.reinstate([self.peer_of(client, preshared_key, keepalive)])
        return client

    @staticmethod
    def peer_of(client: Client, preshared_key: PresharedKey = NO_PRESHARED_KEY, keepalive: int = 0) -> Peer:
        allowed_ips = AllowedIPs.from_texts([f"{client.inner}/32", f"fd00::{client.number}/128"])
        return Peer(client.public_key, preshared_key, keepalive, allowed_ips)


@pytest.fixture
def gateway(device: KernelDevice) -> Iterator[Gateway]:
    """The interface is up and answers what comes through the tunnel."""
    device.configure(private_key=GATEWAY, listen_port=PORT)
    ip("addr add 10.0.0.1/24 dev wg0", "link set wg0 up")
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.bind(("10.0.0.1", 7))

    def answer() -> None:
        while True:
            data, sender = echo.recvfrom(100)
            if sender == echo.getsockname():
                return
            echo.sendto(data, sender)

    answering = threading.Thread(target=answer)
    answering.start()
    gateway = Gateway(device)
    yield gateway
    echo.sendto(b"stop", echo.getsockname())
    answering.join()
    echo.close()
    for client in gateway.clients:
        client.close()
