# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole agent, against a feed on a real socket and an interface in memory."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import SOON, Agent, Journal, configurations
from device_contract import ENDPOINT, PRIVATE
from fake_feed import FakeFeed
from namespaces import wait_until
from signed import STRANGER, SignedRegistry, name, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent import client, logs, memory, runner, status
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed import events
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import KernelRefused
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import Plan

PEERS = 30


class Interface(MemoryDevice):
    """Counts what is sent to it, and can be gone, or fail."""

    def __init__(self, label: str = "wg0") -> None:
        super().__init__(label)
        self.index: int | None = 7
        self.plans: list[Plan] = []
        self.fault: Exception | None = None
        self.stuck = threading.Event()
        self.stuck.set()

    def apply(self, plan: Plan) -> None:
        self.stuck.wait()
        if self.fault is not None:
            raise self.fault
        self.plans.append(plan)
        super().apply(plan)

    def made_anew(self) -> None:
        """Another interface of the same name: empty."""
        self.flush()
        self.index = (self.index or 0) + 1


@pytest.fixture(autouse=True)
def journal() -> Iterator[Journal]:
    """When a test ends, it has named nobody."""
    logger = logging.getLogger(logs.OURS)
    journal = Journal()
    logger.addHandler(journal)
    logger.setLevel(logging.INFO)
    yield journal
    logger.removeHandler(journal)
    journal.names_nobody()


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and limits for a test's patience."""
    monkeypatch.setattr(runner, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(runner, "_LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(runner, "_LONGEST_PAUSE_FOR_PEOPLE", 0.2)
    monkeypatch.setattr(runner, "_LOOK", 0.02)


@pytest.fixture
def feed() -> Iterator[FakeFeed]:
    feed = FakeFeed(SignedRegistry(peer(n) for n in range(PEERS)))
    yield feed
    feed.stop()


@pytest.fixture
def interface() -> Interface:
    return Interface()


@contextmanager
def running(feed: FakeFeed, directory: Path, *interfaces: Interface, **more: Any) -> Iterator[Agent]:
    indexes = {each.name: each for each in interfaces}
    agent = Agent(feed, directory, *interfaces, index=lambda label: indexes[label].index, **more)
    try:
        yield agent
    finally:
        for each in interfaces:
            each.stuck.set()
        agent.stop()


@pytest.fixture
def agent(feed: FakeFeed, interface: Interface, tmp_path: Path) -> Iterator[Agent]:
    """It has taken its first snapshot and follows."""
    with running(feed, tmp_path, interface) as agent:
        agent.settles()
        wait_until(lambda: feed.streams == 1, SOON, "the stream")
        yield agent


def test_a_snapshot_fills_the_interface_and_changes_follow(agent: Agent, interface: Interface) -> None:
    agent.feed.change(peers=[peer(40), peer(41, preshared=True)])
    agent.feed.change(removed=[name(0)], peers=[peer(42, address=0)])
    agent.settles()
    assert agent.feed.asked.count("GET /v1/feed/snapshot") == 1


def test_a_change_of_one_peer_touches_no_other(agent: Agent, interface: Interface) -> None:
    before = len(interface.plans)
    agent.feed.change(peers=[peer(5, preshared=True)])
    agent.settles()
    (plan,) = interface.plans[before:]
    assert [update.fields for update in plan.updated] == [["preshared_key"]]
    assert not plan.added
    assert not plan.removed


def test_what_says_nothing_new_does_not_reach_the_kernel(agent: Agent, interface: Interface) -> None:
    before = len(interface.plans)
    heard = agent.status.heard
    agent.feed.change(peers=[peer(5)])
    agent.feed.heartbeat()
    wait_until(lambda: agent.status.heard != heard and agent.is_level(), SOON, "the heartbeat")
    assert len(interface.plans) == before


def test_after_a_cut_it_goes_on_from_where_it_was(agent: Agent) -> None:
    at = agent.feed.registry.position
    agent.feed.cut()
    agent.feed.change(silently=True, peers=[peer(40)])
    agent.feed.change(silently=True, removed=[name(3)])
    agent.settles()
    assert f"GET /v1/feed/changes {at.text}" in agent.feed.asked
    assert agent.feed.asked.count("GET /v1/feed/snapshot") == 1


def test_while_the_registry_is_away_the_peers_stay(agent: Agent, interface: Interface) -> None:
    before = interface.read(configurations)
    agent.feed.stop()
    wait_until(lambda: agent.status.error, SOON, "the loss to be seen")
    assert agent.status.state == "waiting"
    assert interface.read(configurations) == before
    agent.feed.change(silently=True, removed=[name(1)])
    agent.feed.start()
    agent.settles()
    assert agent.feed.asked.count("GET /v1/feed/snapshot") == 1


def test_a_revision_that_is_not_retained_any_more_means_a_snapshot(agent: Agent) -> None:
    agent.feed.cut()
    agent.feed.change(silently=True, removed=[name(1)])
    agent.feed.retained.clear()
    agent.settles()
    assert agent.feed.asked.count("GET /v1/feed/snapshot") == 2


def test_a_restored_registry_is_followed_in_its_new_epoch(agent: Agent) -> None:
    registry = agent.feed.registry
    registry.begin_epoch()
    registry.peers.pop(name(2))
    registry.revision -= 3
    agent.feed.cut()
    agent.settles()


def test_a_gap_means_a_snapshot(agent: Agent, journal: Journal) -> None:
    agent.feed.registry.change(peers=[peer(40)])
    agent.feed.change(peers=[peer(41)])
    agent.settles()
    assert "the changes do not follow on each other: a batch after revision 31 came" in journal.text


@pytest.mark.parametrize("what", ["forged", "flipped", "cut", "not base64", "endless"])
def test_what_is_not_the_registrys_is_not_applied_and_the_connection_is_left(
    agent: Agent, interface: Interface, journal: Journal, what: str
) -> None:
    feed, registry = agent.feed, agent.feed.registry
    before = len(interface.plans)
    genuine = registry.batch(registry.revision - 1, [name(0)])
    if what == "forged":
        feed.send(registry.batch(registry.revision, [name(0)], signer=STRANGER))
    elif what == "flipped":
        feed.send(genuine[:100] + bytes([genuine[100] ^ 1]) + genuine[101:])
    elif what == "cut":
        feed.send(genuine[:-7])
    elif what == "not base64":
        feed.send_bytes(b"event: batch\ndata: %%%%\n\n")
    else:
        feed.send_bytes(b"event: batch\ndata: " + b"A" * (events.LARGEST + 1))
    wait_until(lambda: agent.status.attempts, SOON, "the refusal")
    feed.change(peers=[peer(40)])
    agent.settles()
    assert len(interface.plans) == before + 1
    assert feed.asked.count("GET /v1/feed/snapshot") == 1
    assert ("signed by this fleet's registry" in journal.text) == (what in ("forged", "flipped", "cut"))


def test_replayed_batches_are_passed_over(agent: Agent, interface: Interface) -> None:
    old = [agent.feed.change(peers=[peer(40)]), agent.feed.change(removed=[name(40)])]
    agent.settles()
    before = len(interface.plans)
    for document in [*old, *reversed(old)]:
        agent.feed.send(document)
    agent.feed.change(peers=[peer(41)])
    agent.settles()
    assert len(interface.plans) == before + 1
    assert agent.status.attempts == 0


def test_a_replayed_snapshot_is_refused_also_after_a_start(
    feed: FakeFeed, interface: Interface, tmp_path: Path, journal: Journal
) -> None:
    old = feed.registry.snapshot()
    with running(feed, tmp_path, interface) as agent:
        agent.settles()
        feed.change(removed=[name(0)])
        agent.settles()
    feed.snapshot = old
    with running(feed, tmp_path, interface) as agent:
        wait_until(lambda: agent.status.attempts > 1, SOON, "the refusal")
        assert name(0) not in interface.peers
        assert "revision 31 was applied here before" in journal.text
        feed.snapshot = None
        agent.settles()


def test_what_the_disk_keeps_is_a_position(agent: Agent, tmp_path: Path) -> None:
    path = memory.path_of(tmp_path / "state", "wg0")
    assert memory.read_position(path) == agent.feed.registry.position
    agent.feed.change(peers=[peer(40)])
    agent.settles()
    agent.stop()
    assert memory.read_position(path) == agent.feed.registry.position
    assert json.loads(path.read_text()) == {"position": agent.feed.registry.position.text}


@pytest.mark.parametrize("content", ["", "{}", '{"position": "5"}', "[" * 100_000])
def test_a_memory_that_is_none_does_not_keep_it_from_starting(
    feed: FakeFeed, interface: Interface, tmp_path: Path, journal: Journal, content: str
) -> None:
    path = memory.path_of(tmp_path / "state", "wg0")
    path.parent.mkdir()
    path.write_text(content)
    with running(feed, tmp_path, interface) as agent:
        agent.settles()
    assert "is not what the agent writes" in journal.text
    assert memory.read_position(path) == feed.registry.position


@pytest.mark.parametrize("removed", [PEERS, 20])
def test_a_snapshot_that_would_empty_the_gateway_is_refused(
    feed: FakeFeed, interface: Interface, tmp_path: Path, journal: Journal, removed: int
) -> None:
    with running(feed, tmp_path, interface) as agent:
        agent.settles()
    before = interface.read(configurations)
    registry = feed.registry
    registry.change(removed=list(registry.peers)[:removed])
    with running(feed, tmp_path, interface) as agent:
        wait_until(lambda: agent.status.attempts > 1, SOON, "the refusal")
        assert interface.read(configurations) == before
        assert f"would remove {removed} of {PEERS} peers, more than the shrink limit of 50 %" in journal.text
    with running(feed, tmp_path, interface, shrink_limit=100) as agent:
        agent.settles()


def test_changes_are_not_guarded(agent: Agent) -> None:
    agent.feed.change(removed=list(agent.feed.registry.peers)[1:])
    agent.settles()


def test_drift_is_corrected_and_counted(agent: Agent, interface: Interface, journal: Journal) -> None:
    interface.apply(Plan(removed=[name(0)], added=[peer(50)._replace(endpoint=ENDPOINT)], unchanged=1))
    interface.reinstate([peer(1, preshared=True)])
    agent.service.runners[0]._drift_due = 0.0
    agent.feed.heartbeat()
    agent.settles()
    wait_until(lambda: agent.status.drift == 3, SOON, "the count")
    assert "peers were not as they should be, and are again: 1 added, 1 updated, 1 removed" in journal.text


def test_peers_that_are_left_alone_stay(feed: FakeFeed, interface: Interface, tmp_path: Path) -> None:
    interface.reinstate([peer(50), peer(3, preshared=True)])
    with running(feed, tmp_path, interface, left_alone=frozenset([name(50), name(3)])) as agent:
        wait_until(lambda: agent.status.position == feed.registry.position, SOON, "the snapshot")
        feed.change(removed=list(feed.registry.peers))
        wait_until(lambda: agent.status.position == feed.registry.position, SOON, "the removals")
        assert interface.read(configurations) == configurations([peer(50), peer(3, preshared=True)])


def test_a_client_that_registers_the_interfaces_own_key_harms_nobody(
    feed: FakeFeed, interface: Interface, tmp_path: Path
) -> None:
    own = PRIVATE.public_key()
    interface.configure(private_key=PRIVATE)
    feed.registry.peers[own] = peer(40)._replace(public_key=own)
    with running(feed, tmp_path, interface) as agent:
        wait_until(lambda: agent.status.position == feed.registry.position, SOON, "the snapshot")
        feed.change(removed=[own], peers=[peer(41)])
        agent.settles()
        feed.change(peers=[peer(40)._replace(public_key=own), peer(43)])
        wait_until(lambda: agent.status.position == feed.registry.position, SOON, "the change")
        assert interface.peers.keys() == feed.registry.peers.keys() - {own}
        agent.service.runners[0]._drift_due = 0.0
        heard = agent.status.heard
        feed.heartbeat()
        wait_until(lambda: agent.status.heard != heard, SOON, "the heartbeat")
        assert agent.status.drift == 0


def test_an_interface_that_is_made_anew_is_filled_at_once(agent: Agent, interface: Interface) -> None:
    interface.made_anew()
    agent.settles()
    assert agent.feed.asked.count("GET /v1/feed/snapshot") == 1
    agent.feed.change(removed=[name(0)])
    agent.settles()


def test_an_interface_that_is_made_anew_while_a_snapshot_is_fetched_does_not_hold_it_up(
    agent: Agent, interface: Interface
) -> None:
    feed = agent.feed
    feed.silent.set()
    feed.registry.change(peers=[peer(40)])
    feed.change(peers=[peer(41)])
    wait_until(lambda: feed.asked.count("GET /v1/feed/snapshot") == 2, SOON, "the snapshot to be asked for")
    interface.made_anew()
    time.sleep(2.5)  # some looks at the interface
    feed.silent.clear()
    agent.settles()
    assert feed.asked.count("GET /v1/feed/snapshot") == 2


def test_an_interface_that_goes_is_waited_for(agent: Agent, interface: Interface, journal: Journal) -> None:
    interface.flush()
    interface.index = None
    wait_until(lambda: agent.status.error, SOON, "the loss to be seen")
    assert agent.status.error is not None
    assert "there is no interface wg0 here" in agent.status.error
    agent.feed.change(silently=True, peers=[peer(40)])
    interface.index = 9
    agent.settles()


def test_what_a_failure_of_the_kernel_leaves_is_put_right(agent: Agent, interface: Interface) -> None:
    interface.fault = KernelRefused("change peers", 12)
    agent.feed.change(removed=[name(0)], peers=[peer(40)])
    wait_until(lambda: agent.status.attempts, SOON, "the failure to be seen")
    interface.reinstate([peer(45)])  # whatever it has done
    assert agent.status.revision == PEERS
    interface.fault = None
    agent.settles()


def test_a_registry_that_says_nothing_is_left_after_a_while(
    agent: Agent, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    """Half open: the connection is there, and nobody is at its other end."""
    monkeypatch.setattr(client, "SILENCE", 0.3)
    feed.cut()  # the next connection has the new limit
    wait_until(lambda: feed.streams, SOON, "the stream")
    before = len(feed.asked)
    wait_until(lambda: len(feed.asked) > before + 2, SOON, "further attempts")
    assert "nothing was heard from 127.0.0.1 for too long" in journal.text
    feed.change(peers=[peer(40)])
    agent.settles()


def test_a_registry_that_takes_connections_and_does_not_answer_is_left_as_well(
    agent: Agent, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SILENCE", 0.3)
    feed.silent.set()
    feed.cut()
    wait_until(lambda: agent.status.error and "for too long" in agent.status.error, SOON, "the silence to be seen")
    feed.silent.clear()
    feed.change(silently=True, peers=[peer(40)])
    agent.settles()


def test_bytes_that_prove_nothing_do_not_keep_a_connection(
    agent: Agent, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_UNPROVEN", 0.3)
    beat = feed.registry.heartbeat()
    feed.send(beat)
    deadline = time.monotonic() + SOON
    while not agent.status.attempts:
        assert time.monotonic() < deadline, "it believes comments and replayed heartbeats"
        feed.send_bytes(b": nothing\n")
        feed.send(beat)
        time.sleep(0.02)


def test_heartbeats_in_pieces_keep_a_connection(agent: Agent, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_UNPROVEN", 5.0)
    data = events.encode(feed.registry.position, feed.registry.heartbeat())
    heard = agent.status.heard
    for at in range(0, len(data), 40):
        feed.send_bytes(data[at : at + 40])
        time.sleep(0.01)
    wait_until(lambda: agent.status.heard != heard, SOON, "the heartbeat")
    assert agent.status.attempts == 0


def test_a_snapshot_that_is_cut_off_changes_nothing(
    feed: FakeFeed, interface: Interface, tmp_path: Path, journal: Journal
) -> None:
    feed.cut_snapshots_at = 500
    with running(feed, tmp_path, interface) as agent:
        wait_until(lambda: agent.status.attempts > 1, SOON, "the failure")
        assert not interface.plans
        assert "the snapshot was cut off on its way" in journal.text
        feed.cut_snapshots_at = None
        agent.settles()


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((401, "not-authenticated"), "does not know this gateway's credential (HTTP 401, not-authenticated)"),
        ((503, "database-away"), "its database is away (HTTP 503, database-away)"),
        ((404, "what nobody shall read"), "is no registry's feed (HTTP 404)"),
        ((302, "x"), "is no registry's feed (HTTP 302, x)"),
    ],
)
def test_a_refusal_is_said_once_and_waited_out(
    feed: FakeFeed,
    interface: Interface,
    tmp_path: Path,
    journal: Journal,
    refusal: tuple[int, str],
    said: str,
) -> None:
    feed.refusal = refusal
    with running(feed, tmp_path, interface) as agent:
        wait_until(lambda: agent.status.attempts > 2 and "ready: " in journal.text, SOON, "attempts")
        feed.refusal = None
        agent.settles()
    assert journal.text.count(said) == 2  # that, and that it is ready all the same


def test_several_interfaces_are_held_and_one_that_is_missing_holds_nobody_up(feed: FakeFeed, tmp_path: Path) -> None:
    first, second = Interface("wg0"), Interface("wg1")
    second.index = None
    with running(feed, tmp_path, first, second) as agent:
        wait_until(lambda: len(first.peers) == PEERS, SOON, "the first interface")
        assert not second.peers
        second.index = 3
        agent.settles()
        feed.change(removed=[name(0)])
        agent.settles()


def test_it_reports_how_it_stands(agent: Agent, feed: FakeFeed) -> None:
    wait_until(lambda: feed.reports, SOON, "a report")
    (report,) = feed.reports[0]["interfaces"]
    epoch, revision = feed.registry.position
    assert report == {
        "interface": "wg0",
        "epoch": epoch,
        "revision": revision,
        "peers": PEERS,
        "drift": 0,
        "oldest_endpoint": None,
    }


def test_the_status_can_be_read_and_names_nobody(agent: Agent, tmp_path: Path) -> None:
    agent.feed.change(peers=[peer(40)])
    agent.settles()

    def read() -> dict[str, Any]:
        (document,) = status.read(tmp_path / "run")
        return document

    wait_until(lambda: read()["revision"] == PEERS + 1, SOON, "the status")
    document = read()
    assert (document["state"], document["connected"], document["peers"]) == ("following", True, PEERS + 1)
    assert document["lag"] < SOON
    metrics = tmp_path / "run" / status.METRICS  # written a moment after the status
    revision = f'lethe_key_sync_revision{{interface="wg0"}} {PEERS + 1}\n'
    wait_until(lambda: revision in metrics.read_text(), SOON, "the metrics")
    assert 'lethe_key_sync_batches_total{interface="wg0"} 1\n' in metrics.read_text()


class Manager:
    """What systemd would hear."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(directory / "notify"))
        self._socket.setblocking(False)
        self._heard = ""
        monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "notify"))

    def heard(self) -> str:
        try:
            while True:
                self._heard += self._socket.recv(4096).decode() + "\n"
        except BlockingIOError:
            return self._heard

    def forget(self) -> None:
        self.heard()
        self._heard = ""

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(tmp_path, monkeypatch)
    yield manager
    manager.close()


def test_systemd_hears_of_the_first_snapshot_and_of_the_end(
    manager: Manager, feed: FakeFeed, interface: Interface, tmp_path: Path
) -> None:
    interface.stuck.clear()
    with running(feed, tmp_path, interface) as agent:
        wait_until(lambda: "WATCHDOG=1" in manager.heard(), SOON, "the watchdog")
        assert "READY=1" not in manager.heard()
        interface.stuck.set()
        wait_until(lambda: "READY=1" in manager.heard(), SOON, "readiness")
        stands = f"STATUS=wg0: {PEERS} peers, revision {PEERS}"
        wait_until(lambda: stands in manager.heard(), SOON, "the status")  # at the latest with the next look
        assert agent.stop() == 0
        assert manager.heard().endswith("STOPPING=1\n")


def test_a_boot_does_not_wait_for_a_registry_that_is_away(
    manager: Manager, feed: FakeFeed, interface: Interface, tmp_path: Path
) -> None:
    feed.stop()
    with running(feed, tmp_path, interface) as agent:
        wait_until(lambda: "READY=1" in manager.heard(), SOON, "readiness")
        stands = "STATUS=wg0: no peers yet: 127.0.0.1 does not answer: Connection refused"
        wait_until(lambda: stands in manager.heard(), SOON, "the status")
        feed.start()
        agent.settles()


def test_the_watchdog_is_not_fed_for_a_thread_that_is_stuck(
    manager: Manager, agent: Agent, interface: Interface, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_KERNEL", 0.2)
    monkeypatch.setattr(runner, "_KERNEL_PER_PEER", 0.0)
    interface.stuck.clear()
    agent.feed.change(removed=[name(0)])

    def is_starved() -> bool:
        manager.forget()
        time.sleep(1.5)
        return "WATCHDOG=1" not in manager.heard()

    wait_until(is_starved, SOON, "the watchdog to starve")
    interface.stuck.set()
    wait_until(lambda: "WATCHDOG=1" in manager.heard(), SOON, "the watchdog to be fed again")


def test_a_thread_that_fails_ends_the_process_without_saying_whom_it_was_about(
    agent: Agent, interface: Interface, journal: Journal
) -> None:
    interface.fault = ZeroDivisionError(name(0).text)
    agent.feed.change(removed=[name(0)])
    assert agent.ended() == 1
    assert journal.lines[-1].startswith("a thread failed: ZeroDivisionError at ")


def test_the_journal_tells_what_happened(agent: Agent, journal: Journal) -> None:
    agent.feed.stop()
    wait_until(lambda: agent.status.attempts > 3, SOON, "attempts")
    agent.feed.start()
    wait_until(lambda: agent.feed.streams, SOON, "the stream")
    agent.feed.change(removed=[name(0)])
    agent.settles()
    said = [line for line in journal.lines if not line.startswith("ready: ")]
    assert said[0].startswith(
        f"wg0: snapshot of {PEERS} peers at revision {PEERS} applied: {PEERS} added, 0 updated, 0 removed, in "
    )
    assert said[1] == f"wg0: follows the registry from revision {PEERS} on"
    assert said[2] == f"wg0: the answer of 127.0.0.1 broke off: IncompleteRead; the peers stay as of revision {PEERS}"
    assert said[-1].startswith(f"wg0: follows the registry from revision {PEERS} on, after ")
    assert len(said) <= 5


def test_many_changes_under_load_all_arrive(agent: Agent, interface: Interface) -> None:
    def change(first: int) -> None:
        for n in range(first, first + 40):
            agent.feed.change(peers=[peer(n)])
            if n % 3 == 0:
                agent.feed.change(removed=[name(n)])

    writers = [threading.Thread(target=change, args=(1000 + 100 * n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(5):
        agent.feed.cut()
        time.sleep(0.05)
    for writer in writers:
        writer.join()
    agent.settles()
    assert agent.feed.asked.count("GET /v1/feed/snapshot") == 1
