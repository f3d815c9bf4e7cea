# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent under test: its service in this process, what it says, and what it should have done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fake_feed import TOKEN, FakeFeed
from namespaces import wait_until
from signed import KEYS, name

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent import logs, status
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.service import Service, link_index
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import Device
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import (
    Configuration,
    Peer,
    PeerState,
)

Index = Callable[[str], int | None]

_PYTESTS_HOOK = threading.excepthook
"""Has a test fail in which a thread failed. An agent puts its own in its place."""

SOON = 60.0  # seconds; machines that run tests are slow at times


def configurations(peers: Iterable[Peer | PeerState]) -> dict[PublicKey, bytes]:
    """What each is configured to be; the order of allowed IPs, which is the device's affair, aside."""
    return {
        each.public_key: Configuration.of(each._replace(allowed_ips=type(each.allowed_ips)(_ordered(each))))
        for each in peers
    }


def run(service: Service) -> int:
    """Until it is stopped; returns its exit status."""
    try:
        return service.run()
    finally:
        threading.excepthook = _PYTESTS_HOOK


def _ordered(peer: Peer | PeerState) -> bytes:
    return b"".join(sorted(peer.allowed_ips.nests()))


class Journal(logging.Handler):
    """What the agent says, as the journal would have it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(logs.Lines(with_priority=False))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def names_nobody(self) -> None:
        assert self.lines
        for word in ("10.64.0.", "fd00::", TOKEN, "what nobody shall read", *(name(n).text for n in range(60))):
            assert word not in self.text


class Agent:
    """One agent with its interfaces. Its service runs in a thread of the test."""

    def __init__(
        self, feed: FakeFeed, directory: Path, *interfaces: Device, index: Index = link_index, **more: Any
    ) -> None:
        self.feed = feed
        self.interfaces = {each.name: each for each in interfaces}
        settings = Settings(url=feed.url, verify_keys=KEYS, interfaces=tuple(self.interfaces), **more)
        self.service = Service(
            settings, TOKEN, None,
            run_directory=directory / "run", state_directory=directory / "state", purge_directory=directory / "purge",
            device=self.interfaces.__getitem__, index=index,
        )  # fmt: skip
        self.exit_status: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.exit_status = run(self.service)

    @property
    def status(self) -> status.InterfaceStatus:
        return self.service.runners[0].status

    def stop(self) -> int:
        self.service.stop()
        self._thread.join(SOON)
        assert self.exit_status is not None, "the agent does not end"
        return self.exit_status

    def ended(self) -> int:
        self._thread.join(SOON)
        assert self.exit_status is not None, "the agent goes on"
        return self.exit_status

    def is_level(self) -> bool:
        """The kernel has what the registry has, and the agent knows."""
        registry = self.feed.registry
        wanted = configurations(registry.peers.values())
        return all(each.status.position == registry.position for each in self.service.runners) and all(
            each.read(configurations) == wanted for each in self.interfaces.values()
        )

    def settles(self) -> None:
        wait_until(self.is_level, SOON, "the kernel to have what the registry has")
