# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent on a real interface: large snapshots, drift by hand, sudden deaths, and the purge at the same moment."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import Agent, Journal, configurations
from fake_feed import TOKEN, FakeFeed
from namespaces import Namespace, in_child, ip, run, wait_until, wg_show
from signed import SIGNING, SignedRegistry, name, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent import logs, memory, runner, status
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.cli import main
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import Endpoint
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.clock import ClockReading, read_clocks
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import PeerUpdate, Plan
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.purge_run import purge

COLLECTIONS = Path(__file__).resolve().parents[3] / ".ansible/collections"
CLI = "ansible_collections.lethe.wireguard.plugins.module_utils._lethe.cli"
USER, LETHE = 4711, 4712  # ids: of the service's user, and of the group that may take the lock
SOON = 120.0  # seconds: without KVM everything takes 15 to 40 times as long
ENDPOINT = Endpoint.from_text("192.0.2.1:1234")


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "_LONGEST_PAUSE", 0.5)


@pytest.fixture(autouse=True)
def journal() -> Iterator[Journal]:
    logger = logging.getLogger(logs.OURS)
    journal = Journal()
    logger.addHandler(journal)
    logger.setLevel(logging.INFO)
    yield journal
    logger.removeHandler(journal)
    journal.names_nobody()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[KernelDevice]:
    """A new interface, wg0, in a network of its own, in which this test and all its threads are."""
    network = Namespace()
    with network:
        ip("link add wg0 type wireguard")
        device = KernelDevice("wg0", lock=tmp_path / "lock")
        yield device
        device.flush()  # with the peers still there, the network's end takes 18 ms for each
    network.close()


@pytest.fixture
def feed(device: KernelDevice) -> Iterator[FakeFeed]:
    feed = FakeFeed(SignedRegistry())
    yield feed
    feed.stop()


class Gateway:
    """An agent on the interface, and what `wg` says of it."""

    def __init__(self, feed: FakeFeed, directory: Path, device: KernelDevice) -> None:
        self.feed = feed
        self.device = device
        self.agent = Agent(feed, directory, device)

    def is_level(self) -> bool:
        """By the kernel's own tool."""
        if self.agent.status.position != self.feed.registry.position:
            return False
        wanted = {key.text: frozenset(each.allowed_ips.texts) for key, each in self.feed.registry.peers.items()}
        return {key: shown.allowed_ips for key, shown in wg_show().items()} == wanted

    def settles(self) -> None:
        wait_until(self.is_level, SOON, "the kernel to have what the registry has")


@pytest.fixture
def gateway(feed: FakeFeed, device: KernelDevice, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(feed, tmp_path, device)
    yield gateway
    assert gateway.agent.stop() == 0


def test_a_snapshot_of_thousands_is_in_the_kernel_and_changes_follow(feed: FakeFeed, gateway: Gateway) -> None:
    feed.change(peers=[peer(n, preshared=n % 2 == 0) for n in range(3000)])
    gateway.settles()
    feed.change(removed=[name(0), name(1)], peers=[peer(5000), peer(2), peer(5001, address=1)])
    gateway.settles()


def test_what_is_changed_by_hand_is_corrected_and_nobody_elses_session_is_touched(
    feed: FakeFeed, gateway: Gateway
) -> None:
    feed.change(peers=[peer(n) for n in range(50)])
    gateway.settles()
    gateway.device.apply(Plan(updated=[PeerUpdate(name(7), endpoint=ENDPOINT)], unchanged=49))
    run("wg", "set", "wg0", "peer", name(3).text, "remove")
    run("wg", "set", "wg0", "peer", name(4).text, "allowed-ips", "10.99.0.0/16")
    run("wg", "set", "wg0", "peer", name(60).text, "allowed-ips", "10.64.0.5/32")
    gateway.agent.service.runners[0]._drift_due = 0.0
    feed.heartbeat()
    gateway.settles()
    wait_until(lambda: gateway.agent.status.drift == 4, SOON, "the count: two changed, one gone, one too many")
    assert wg_show()[name(7).text].endpoint == "192.0.2.1:1234"


def test_an_interface_that_is_deleted_and_made_anew_is_filled_again(
    feed: FakeFeed, gateway: Gateway, journal: Journal
) -> None:
    feed.change(peers=[peer(n) for n in range(50)])
    gateway.settles()
    ip("link del wg0")
    wait_until(lambda: gateway.agent.status.error, SOON, "the loss to be seen")
    ip("link add wg0 type wireguard")
    gateway.settles()
    assert "there is no interface wg0 here" in journal.text


class Dying(KernelDevice):
    """The process is killed in the middle of carrying out a plan: before, between two messages, or after."""

    when = "before"

    def apply(self, plan: Plan) -> None:
        if len(plan.removed) and self.when != "before":
            super().apply(Plan(removed=plan.removed[:1] if self.when == "between" else plan.removed, unchanged=1))
        if len(plan.removed):
            if self.when == "after":
                super().apply(Plan(added=plan.added, unchanged=1))
            os.kill(os.getpid(), signal.SIGKILL)
        super().apply(plan)


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_an_agent_that_is_killed_while_it_applies_goes_on_when_it_is_started_again(
    feed: FakeFeed, device: KernelDevice, tmp_path: Path, when: str
) -> None:
    feed.change(peers=[peer(n) for n in range(20)])
    dying = Dying("wg0", lock=tmp_path / "lock")
    dying.when = when
    child = os.fork()
    if not child:
        try:
            Agent(feed, tmp_path, dying)._thread.join()
        finally:
            os._exit(1)
    wait_until(lambda: len(wg_show()) == 20, SOON, "the snapshot")
    wait_until(lambda: feed.streams, SOON, "the stream")
    feed.change(removed=[name(0), name(1)], peers=[peer(30)])
    _pid, ended = os.waitpid(child, 0)
    assert os.WTERMSIG(ended) == signal.SIGKILL
    gateway = Gateway(feed, tmp_path, device)
    try:
        gateway.settles()
    finally:
        gateway.agent.stop()


def test_a_gateway_that_reboots_is_filled_again(feed: FakeFeed, device: KernelDevice, tmp_path: Path) -> None:
    feed.change(peers=[peer(n) for n in range(20)])
    for _boot in range(2):
        gateway = Gateway(feed, tmp_path, device)
        gateway.settles()
        assert gateway.agent.stop() == 0
        device.flush()


class Purging:
    """Lets every peer have an endpoint, as if its client had just called, and purges them all; again and again.
    The endpoint comes without the lock, as a client's does; it never brings a peer into being.
    """

    def __init__(self, device: KernelDevice, directory: Path) -> None:
        self.device = device
        self.directory = directory
        self.later = itertools.count(1)

    def __call__(self) -> None:
        keys = self.device.read(lambda found: [state.public_key for state in found])
        self.device.apply(Plan(updated=[PeerUpdate(each, endpoint=ENDPOINT) for each in keys], unchanged=1))
        for _run in range(2):  # seen, then due
            now, jump = read_clocks(), next(self.later) * 200 * 1_000_000_000
            purge(
                self.device,
                state_directory=self.directory,
                now=ClockReading(now.realtime + jump, now.boottime + jump),
            )


def test_purge_and_agent_at_the_same_moment_neither_lose_a_peer_nor_bring_back_a_revoked_one(
    feed: FakeFeed, device: KernelDevice, tmp_path: Path
) -> None:
    """A purge reads all peers and then deletes and reinstates them: whoever is revoked in between must not come back.
    Whoever looks at the kernel meanwhile finds everybody who was there before and is there afterwards.
    """
    feed.change(peers=[peer(n) for n in range(60)])
    device.apply(Plan(added=list(feed.registry.peers.values())))
    random_one = random.Random(4)
    with in_child(Purging(device, tmp_path / "purge")) as rounds:
        gateway = Gateway(feed, tmp_path, device)
        try:
            gateway.settles()
            agent = gateway.agent.status
            revoked: set[PublicKey] = set()
            newest = 60
            begin, looks = rounds(), 0
            deadline = time.monotonic() + SOON
            while looks < 60 or rounds() < begin + 15:
                assert time.monotonic() < deadline, f"only {rounds() - begin} rounds of the purge and {looks} looks"
                leaving = random_one.sample(sorted(feed.registry.peers), 3)
                coming = [peer(newest + n) for n in range(3)]
                newest += 3
                staying = feed.registry.peers.keys() - set(leaving)
                feed.change(removed=leaving, peers=coming)
                revoked |= set(leaving)
                wait_until(lambda: agent.position == feed.registry.position, SOON, "the change")
                there = device.read(lambda found: {state.public_key for state in found})
                assert not there & revoked, "a revoked peer is there again"
                assert staying | {each.public_key for each in coming} == there, "a peer was lost"
                looks += 1
            gateway.settles()
            assert device.read(configurations) == configurations(feed.registry.peers.values())
            assert agent.drift == 0
        finally:
            gateway.agent.stop()


@pytest.fixture
def directories() -> Iterator[None]:
    """What systemd and tmpfiles.d make for the service, in memory."""
    lock = Path("/run/lethe/lock")
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    os.chown(lock, 0, LETHE)
    lock.chmod(0o660)
    for directory in (status.DIRECTORY, memory.DIRECTORY):
        directory.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"mode=755,uid={USER},gid={USER}", "tmpfs", str(directory))
    yield
    for directory in (status.DIRECTORY, memory.DIRECTORY):
        run("umount", str(directory))
        directory.rmdir()


@pytest.mark.usefixtures("device", "directories")
def test_the_command_needs_no_more_than_its_unit_gives_it(feed: FakeFeed, tmp_path: Path, journal: Journal) -> None:
    """An own user, CAP_NET_ADMIN, the group that may take the lock: a snapshot, a change, a status, an end."""
    feed.change(peers=[peer(n) for n in range(20)])
    for directory in (tmp_path, *tmp_path.parents):
        directory.chmod(directory.stat().st_mode | 0o011)
    settings, credential = tmp_path / "settings.json", tmp_path / "credential"
    keys = [SIGNING.verify_key().text]
    settings.write_text(json.dumps({"url": feed.url, "verify_keys": keys, "interfaces": ["wg0"]}))
    credential.write_text(TOKEN)
    os.chown(credential, USER, USER)
    credential.chmod(0o400)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (tmp_path / "log").open("w") as log:
        manager.bind(str(tmp_path / "notify"))
        (tmp_path / "notify").chmod(0o666)
        manager.settimeout(SOON)
        agent = subprocess.Popen(
            [
                "setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={LETHE}",
                "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin", "--bounding-set=-all,+net_admin",
                "--no-new-privs", sys.executable, "-m", CLI, "agent", "run",
                "--settings", settings, "--credential-file", credential,
            ],
            env=os.environ | {"PYTHONPATH": str(COLLECTIONS), "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=log,
        )  # fmt: skip
        try:
            while "READY=1" not in (told := manager.recv(4096).decode()):
                assert agent.poll() is None
            assert "STATUS=wg0: 20 peers, revision 20" in told
            assert len(wg_show()) == 20
            feed.change(removed=[name(0)])
            assert main(["agent", "wait", "--revision", "21", "--timeout", str(SOON)]) == 0
            assert name(0).text not in wg_show()
        finally:
            agent.terminate()
            assert agent.wait(SOON) == 0
    (path,) = memory.DIRECTORY.glob("*.json")
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (USER, 0o600)
    assert {each.stat().st_mode & 0o777 for each in status.DIRECTORY.iterdir()} == {0o644}
    journal.lines += (tmp_path / "log").read_text().splitlines()
