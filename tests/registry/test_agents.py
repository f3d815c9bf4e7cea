# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry's feed as the process that it is, and whole agents with interfaces in memory: what the registry says is
what every interface has, whatever dies in between.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import SOON, Journal, configurations, run
from namespaces import wait_until
from registry.feeding import KEYS, write_key
from registry.fixtures import NewDatabase
from registry.support import MASTER, Clock, Registry, key, leading

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent import logs, runner, service
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.service import Service
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.status import InterfaceStatus
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, history, reports
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import AllowedIPs
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer

CHECKOUT = Path(__file__).resolve().parents[2]
CLI = "ansible_collections.lethe.wireguard.plugins.module_utils._lethe.cli"


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses for a test's patience."""
    monkeypatch.setattr(runner, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "_LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(service, "_REPORT", 0.5)
    monkeypatch.setattr(service, "_SOON", 0.1)


class FeedProcess:
    """`lethe registry feed`, on the same port whenever it is started."""

    def __init__(self, directory: Path, database: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        secrets = directory / "secrets"
        secrets.write_text(base64.b64encode(MASTER).decode() + "\n")
        secrets.chmod(0o600)
        signing_key = write_key(directory / "feed.key")
        self._settings = directory / "registry.json"
        feed = {"port": self.port, "signing_key": str(signing_key), "heartbeat": 1}
        self._settings.write_text(json.dumps({"database": database, "secrets_file": str(secrets), "feed": feed}))
        self._log = (directory / "feed.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", CLI, "registry", "feed", "--settings", self._settings],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT / ".ansible/collections")},
            stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def end(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(SOON)
            self._process = None

    def close(self) -> None:
        self.end()
        self._log.close()


class Fleet:
    """A registry, its feed, and gateways with an agent each."""

    def __init__(self, registry: Registry, feed: FeedProcess, directory: Path) -> None:
        self.registry = registry
        self.feed = feed
        self.directory = directory
        self.devices: dict[str, MemoryDevice] = {}
        self.agents: dict[str, tuple[Service, threading.Thread]] = {}

    def token(self, label: str) -> str:
        return self.registry.store.write(lambda tx: credentials.issue(tx, credentials.GATEWAY, label))

    def start(self, label: str, token: str | None = None) -> Service:
        """A gateway's agent; its interface is as it was."""
        device = self.devices.setdefault(label, MemoryDevice())
        directory = self.directory / label
        settings = Settings(f"http://127.0.0.1:{self.feed.port}", KEYS, ("wg0",))
        agent = Service(
            settings, token or self.token(label), None,
            run_directory=directory / "run", state_directory=directory / "state", purge_directory=directory / "purge",
            device=lambda _: device, index=lambda _: id(device),
        )  # fmt: skip
        thread = threading.Thread(target=run, args=(agent,))
        thread.start()
        self.agents[label] = agent, thread
        return agent

    def stop(self, label: str) -> None:
        agent, thread = self.agents.pop(label)
        agent.stop()
        thread.join(SOON)
        assert not thread.is_alive()

    def status(self, label: str) -> InterfaceStatus:
        return self.agents[label][0].runners[0].status

    def wanted(self) -> dict[PublicKey, bytes]:
        return configurations(
            Peer(
                row.public_key,
                NO_PRESHARED_KEY if row.preshared_key is None else PresharedKey(bytes(row.preshared_key)),
                0,
                AllowedIPs.from_texts(list(row.addresses)),
            )
            for row in self.registry.exported().values()
        )

    def is_level(self) -> bool:
        epoch, revision, _horizon = self.registry.position()
        return all(self.status(label).position == Position(epoch, revision) for label in self.agents) and all(
            self.devices[label].read(configurations) == self.wanted() for label in self.agents
        )

    def settles(self) -> None:
        wait_until(self.is_level, SOON, "every gateway to have what the registry has")

    def close(self) -> None:
        for label in list(self.agents):
            self.stop(label)


@pytest.fixture
def journal() -> Iterator[Journal]:
    logger = logging.getLogger(logs.OURS)
    journal = Journal()
    logger.addHandler(journal)
    logger.setLevel(logging.INFO)
    yield journal
    logger.removeHandler(journal)
    assert journal.lines


@pytest.fixture
def fleet(new_database: NewDatabase, tmp_path: Path, journal: Journal) -> Iterator[Fleet]:
    """Two gateways that follow, and ten registrations."""
    url = new_database()
    registry = Registry.open(url, Clock(time.time()), preshared_keys=True, device_limit=1000)
    registry.create("alice")
    with leading(registry):
        feed = FeedProcess(tmp_path, url)
        fleet = Fleet(registry, feed, tmp_path)
        for number in range(10):
            registry.register("alice", key(number))
        for label in ("one", "two"):
            fleet.start(label)
        try:
            fleet.settles()
            yield fleet
        finally:
            fleet.close()
            feed.close()
            named = [key(number).text for number in range(400)]
            said = journal.text + (tmp_path / "feed.log").read_text()
            assert not [each for each in named if each in said]
    registry.close()


def snapshots(journal: Journal) -> int:
    return journal.text.count("wg0: snapshot of ")


def test_what_is_registered_rotated_and_revoked_is_so_on_every_gateway(fleet: Fleet, journal: Journal) -> None:
    fleet.registry.register("alice", key(20))
    fleet.settles()
    fleet.registry.begin("alice", key(20), key(21))
    fleet.registry.confirm("alice", key(21))
    fleet.registry.revoke(key(0))
    fleet.settles()
    fleet.registry.suspend("alice")
    fleet.settles()
    assert not fleet.devices["one"].peers
    fleet.registry.resume("alice")
    fleet.settles()
    assert snapshots(journal) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_feed_that_ends_under_load_is_followed_again_from_where_it_was(
    fleet: Fleet, journal: Journal, number: int
) -> None:
    for round_ in range(3):
        for n in range(100 + 20 * round_, 120 + 20 * round_):
            fleet.registry.register("alice", key(n))
            if n % 20 == 7:
                fleet.feed.end(number)
            if n % 20 == 14:
                fleet.feed.start()
            if n % 3 == 0:
                fleet.registry.revoke(key(n))
        fleet.settles()
    assert snapshots(journal) == 2


def test_after_longer_than_changes_are_retained_a_snapshot_is_taken(fleet: Fleet, journal: Journal) -> None:
    fleet.feed.end()
    fleet.registry.revoke(key(0))
    fleet.registry.register("alice", key(20))
    fleet.registry.settle()
    fleet.registry.clock.move(days=2)
    fleet.registry.store.write(lambda tx: history.prune(tx, 100))
    fleet.feed.start()
    fleet.settles()
    wait_until(lambda: snapshots(journal) == 4, SOON, "both to say so")


def test_a_restored_registry_is_followed_in_its_new_epoch(fleet: Fleet, journal: Journal) -> None:
    before = fleet.registry.position()
    fleet.registry.store.write(history.begin_epoch)
    fleet.registry.revoke(key(3))
    fleet.settles()
    assert fleet.registry.position().epoch > before.epoch
    wait_until(lambda: snapshots(journal) == 4, SOON, "both to say so")


def test_a_gateway_that_was_away_or_rebooted_catches_up(fleet: Fleet) -> None:
    fleet.stop("one")
    fleet.stop("two")
    fleet.devices["two"].flush()
    fleet.registry.revoke(key(1))
    fleet.registry.register("alice", key(20))
    for label in ("one", "two"):
        fleet.start(label)
    fleet.settles()


def test_a_withdrawn_credential_follows_no_further(fleet: Fleet) -> None:
    fleet.registry.store.write(lambda tx: credentials.withdraw(tx, credentials.GATEWAY, "one"))
    status = fleet.status("one")
    wait_until(lambda: status.error and "does not know this gateway's credential" in status.error, SOON, "the refusal")
    fleet.registry.revoke(key(1))
    fleet.stop("one")
    fleet.settles()
    assert key(1) in fleet.devices["one"].peers
    fleet.start("one")
    fleet.settles()


def test_the_registry_hears_how_they_stand(fleet: Fleet) -> None:
    def said() -> list[tuple[str, int]]:
        found = fleet.registry.store.read(reports.gateways)
        return sorted((each.label, each.report.interfaces[0].revision) for each in found if each.report is not None)

    revision = fleet.registry.position().revision
    wait_until(lambda: said() == [("one", revision), ("two", revision)], SOON, "both reports")
