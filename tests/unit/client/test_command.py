# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's service, and the commands that people give it."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clients import GATEWAYS, Client, FollowingGateway, following, gateways_file, private_keys_in
from namespaces import wait_until
from registry.site import Site, served
from registry.support import Clock

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.cli import main
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client import (
    export,
    memory,
    service,
    tunnel,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.memory import FleetingMemory, Wish
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.registry import Away, Registry
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.rotation import DAY, Stage, begin
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.runner import Runner
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.service import (
    NotRunning,
    ReplacingRegistry,
    Service,
    read_status,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    PrivateKey,
    generate_private_key,
)

SOON = 60.0  # seconds
SETTINGS = Settings("https://registry.example", ("10.0.0.0/8",))


@pytest.fixture
def site(sqlite_template: Path, tmp_path: Path) -> Iterator[Site]:
    shutil.copy(sqlite_template, tmp_path / "registry.sqlite3")
    server = {"client_rate": "1000000/second"}
    database = f"sqlite:///{tmp_path}/registry.sqlite3"
    with served(database, Clock(), server=server, gateways_file=gateways_file(tmp_path), preshared_keys=True) as site:
        yield site


@pytest.fixture
def gateways(site: Site) -> list[FollowingGateway]:
    return following(site.registry)


@pytest.fixture
def client(site: Site, gateways: list[FollowingGateway], tmp_path: Path) -> Client:
    return Client(site, gateways, tmp_path / "client", "alice")


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's, where the client keeps what it has; returns the one on the disk."""
    monkeypatch.setattr(memory, "ON_DISK", tmp_path / "var")
    monkeypatch.setattr(memory, "IN_MEMORY", tmp_path / "run")
    return memory.ON_DISK


class Running:
    """A client's service in a thread, under a clock that runs a hundred times as fast."""

    def __init__(self, client: Client, site: Site, gateways: list[FollowingGateway], status: Path) -> None:
        self.service = Service(client.runner, lambda: "gateway1", status)
        self.status = status
        self.code: int | None = None
        self._site = site
        self._gateways = gateways
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._run, self._time)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        self.code = self.service.run()

    def _time(self) -> None:
        while not self._stop.wait(0.02):
            self._site.registry.clock.now += 2
            for gateway in self._gateways:
                gateway.follow()
                gateway.report()

    def stands(self) -> str:
        try:
            return str(read_status(self.status)["stage"])
        except NotRunning:
            return ""

    def stop(self) -> None:
        self.service.stop()
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def running(
    client: Client, site: Site, gateways: list[FollowingGateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    """One that is connected; signals of this process are its."""
    monkeypatch.setattr(service, "_TICK", 0.02)
    one = Running(client, site, gateways, tmp_path / "status.json")
    handlers = {service.ROTATE: one.service.rotate, service.LEAVE: one.service.leave}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        wait_until(lambda: one.stands() == "settled", SOON, "a registration")
        yield one
    finally:
        one.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """For what sets handlers of this process."""
    numbers = (signal.SIGTERM, signal.SIGINT, service.ROTATE, service.LEAVE)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def asked(running: Running, *words: str) -> int:
    return main(["client", *words, "--status-file", str(running.status)])


def test_status_says_how_it_stands_and_names_nobody(
    running: Running, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(running, "status") == 0
    assert asked(running, "status", "--json") == 0
    told = capsys.readouterr().out
    assert told.startswith("registered, the key is changed in ")
    assert "gateway1" in told
    assert client.runner.state is not None
    key = client.runner.state.key
    assert key.registration is not None
    for secret in (key.private_key.text, key.public_key.text, str(key.registration.addresses[0].ip)):
        assert secret not in told + running.status.read_text()
    assert running.status.stat().st_mode & 0o777 == 0o600


def test_a_rotation_is_waited_for(running: Running, client: Client, site: Site) -> None:
    (before,) = site.registry.of("alice")
    assert asked(running, "rotate", "--timeout", "60") == 0
    assert client.runner.state is not None
    assert client.runner.state.key.public_key != before  # which the registry removes within two minutes
    assert client.tunnel.own == client.runner.state.key


def test_a_rotation_that_cannot_be_is_told(running: Running, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.registry.suspend("alice")
    assert asked(running, "rotate", "--timeout", "1") == 1
    assert "the key was not changed after 1 s" in capsys.readouterr().err
    wait_until(lambda: read_status(running.status)["slug"] == "account-suspended", SOON, "the account's state")
    assert asked(running, "status") == 1
    assert "the account is suspended" in capsys.readouterr().out


def test_a_key_that_was_revoked_meanwhile_is_told_at_once_and_replaced_when_asked_again(
    running: Running, client: Client, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    (before,) = site.registry.of("alice")
    site.registry.revoke(before)
    assert asked(running, "rotate", "--timeout", "60") == 1
    said = capsys.readouterr().err
    assert "the key was not changed: stopped" in said
    assert "For a new one: lethe client rotate" in said
    assert asked(running, "rotate", "--timeout", "60") == 0
    assert [before] != site.registry.of("alice")


def test_a_connection_is_waited_for(
    running: Running, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(running, "wait", "--timeout", "60") == 0
    assert "connected through gateway1" in capsys.readouterr().out
    monkeypatch.setattr(client.tunnel, "is_answered", lambda: False)
    wait_until(lambda: not read_status(running.status)["connected"], SOON, "what the tunnel says")
    assert asked(running, "wait", "--timeout", "0.1") == 1
    assert "no gateway answers after 0.1 s" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [False, True])
def test_logging_out_ends_the_service(
    running: Running, client: Client, site: Site, tmp_path: Path, directories: Path, keep: bool
) -> None:
    credential = tmp_path / "credential"
    credential.write_text(site.registry.token("alice"))
    words = ["--credential-file", str(credential), *(["--keep-credential"] if keep else [])]
    assert asked(running, "logout", "--timeout", "60", *words) == 0
    wait_until(lambda: running.code == 0, SOON, "the service's end")
    assert site.registry.of("alice") == {}
    assert list(client.memory.directory.iterdir()) == []
    assert credential.exists() == keep
    assert not Wish(credential.read_text() if keep else "").is_there()
    assert [path for path in directories.rglob("*") if path.is_file()] == []


def test_a_logout_that_takes_long_is_not_undone_by_a_reboot(
    running: Running,
    client: Client,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The service is started again with the credential that is still there."""
    credential = tmp_path / "credential"
    credential.write_text(site.registry.token("alice"))
    client.way.fates += ["lost"] * 1000
    assert asked(running, "logout", "--timeout", "0.5", "--credential-file", str(credential)) == 1
    assert "also after a reboot, and registers no other key" in capsys.readouterr().err
    assert credential.exists()
    running.stop()
    client.start()
    monkeypatch.setattr(service, "made", lambda *_: (client.runner, tunnel.KernelTunnel(SETTINGS.tunnel)))
    monkeypatch.setattr(service.logs, "begin", lambda **_: None)  # other tests of this process look at its log
    with signals_kept():
        client.way.fates.clear()
        assert service.run(SETTINGS, credential.read_text()) == 0
        assert site.registry.of("alice") == {}
        client.start()
        assert service.run(SETTINGS, credential.read_text()) == 0
    assert client.runner.state is None
    assert site.registry.of("alice") == {}
    assert Wish(credential.read_text()).is_there()
    assert not Wish(site.registry.token("alice")).is_there()  # another one is for another client


def test_forgetting_is_not_for_a_client_that_runs(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(running, "logout", "--forget") == 1
    assert "stop it first" in capsys.readouterr().err


def test_without_a_service_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "rotate"):
        assert main(["client", command, "--status-file", str(tmp_path / "none")]) == 1
        assert "no client runs here" in capsys.readouterr().err
    stale: dict[str, Any] = {"stage": "settled", "written": 0}
    (tmp_path / "stale").write_text(json.dumps(stale))
    assert main(["client", "status", "--status-file", str(tmp_path / "stale")]) == 1


def test_a_client_that_was_stopped_is_not_running(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    running.service.stop()
    wait_until(lambda: running.code == 0, SOON, "the service's end")
    assert not running.status.exists()
    for command in ("status", "rotate"):
        assert asked(running, command) == 1
        assert "no client runs here" in capsys.readouterr().err


@pytest.mark.parametrize("reused", [False, True])
def test_a_client_that_was_killed_is_not_running_whoever_has_its_number(
    running: Running, capsys: pytest.CaptureFixture[str], tmp_path: Path, reused: bool
) -> None:
    """It could not take its status away."""
    document = json.loads(running.status.read_bytes())
    with subprocess.Popen(["sleep", "60"]) as another:
        if not reused:
            another.kill()
            another.wait()
        killed = tmp_path / "killed.json"
        killed.write_text(json.dumps(document | {"pid": another.pid}))
        for command in ("status", "rotate"):
            assert main(["client", command, "--status-file", str(killed)]) == 1
            assert "no client runs here" in capsys.readouterr().err
        # It ended, and another process began, just after the command has read the status.
        with pytest.raises(NotRunning):
            service.send(document | {"pid": another.pid}, service.ROTATE)
        assert (another.poll() is None) == reused  # SIGUSR1 would have ended it
        another.kill()


@pytest.fixture
def files(site: Site, client: Client, tmp_path: Path) -> list[str]:
    settings, credential = tmp_path / "client.json", tmp_path / "credential"
    settings.write_text(json.dumps({"url": site.url, "allowed_ips": ["10.0.0.0/8"]}))
    credential.write_text(site.registry.token("alice"))
    return ["--settings", str(settings), "--credential-file", str(credential)]


def test_logging_out_needs_no_service(
    client: Client, site: Site, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        client.step()
    client.start()
    monkeypatch.setattr(service, "made", lambda *_: (client.runner, client.tunnel))
    assert main(["client", "logout", *files, "--status-file", str(tmp_path / "none")]) == 0
    assert site.registry.of("alice") == {}
    assert list(private_keys_in(client.memory.directory)) == []


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The interfaces that are removed, as no kernel is asked."""
    names: list[str] = []
    for module in (service, tunnel):
        monkeypatch.setattr(module, "remove_interface", names.append)
    return names


def test_forgetting_needs_neither_the_registry_nor_a_credential_nor_a_state_that_can_be_read(
    files: list[str], tmp_path: Path, directories: Path, removed: list[str]
) -> None:
    directories.mkdir()
    (directories / "state.json").write_text('{"private_key": "broken')
    (tmp_path / "credential").unlink()
    assert main(["client", "logout", "--forget", *files, "--status-file", str(tmp_path / "none")]) == 0
    assert list(directories.iterdir()) == []
    assert removed == ["lethe0"]


def test_an_interface_with_another_name_takes_the_place_of_the_one_before(removed: list[str]) -> None:
    service.made(SETTINGS, "lethe_client_x")
    service.made(SETTINGS, "lethe_client_x")
    assert removed == []
    service.made(replace(SETTINGS, interface="lethe1"), "lethe_client_x")
    assert removed == ["lethe0"]
    service.made(replace(SETTINGS, interface="lethe1", keys_on_disk=False), "lethe_client_x")
    service.forget(replace(SETTINGS, interface="lethe2"))
    assert removed == ["lethe0", "lethe1", "lethe2"]
    service.made(SETTINGS, "lethe_client_x")  # whoever has made a lethe2 meanwhile
    assert removed == ["lethe0", "lethe1", "lethe2"]


def test_an_export_is_what_wg_quick_reads(
    site: Site, files: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["client", "export", *files]) == 0
    text = capsys.readouterr().out
    values = dict(line.split(" = ") for line in text.splitlines() if " = " in line)
    ((public_key, registered),) = site.registry.of("alice").items()
    assert PrivateKey.from_text(values["PrivateKey"]).public_key() == public_key
    assert values["Address"].split(", ") == registered.addresses
    assert registered.preshared_key is not None
    assert values["PresharedKey"] == registered.preshared_key.text
    assert values["Endpoint"] == "192.0.2.1:51820"
    assert values["AllowedIPs"] == "10.0.0.0/8"
    assert text.startswith("[Interface]\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_reboots_of_a_client_without_keys_on_its_disk_leave_no_keys_behind(
    client: Client, site: Site, tmp_path: Path
) -> None:
    """An account has room for five."""
    for boot in range(7):
        if boot == 3:
            client.way.fates = ["unanswered", "lost", "unanswered"]
        shutil.rmtree(memory.IN_MEMORY, ignore_errors=True)
        client.memory = FleetingMemory(memory.IN_MEMORY, memory.ON_DISK)
        clock = site.registry.clock
        client.runner = Runner(ReplacingRegistry(client.way), client.tunnel, client.memory, 7 * DAY, clock=clock)
        clock.now += client.step()
        while client.runner.state is None or client.runner.state.stage is not Stage.SETTLED:
            assert client.runner.standing.failures <= 3
            clock.now += client.step()
        assert list(site.registry.of("alice")) == [client.runner.state.key.public_key]
    assert list(private_keys_in(memory.ON_DISK)) == []


def test_logging_out_after_a_reboot_removes_a_key_that_only_the_registry_has(
    client: Client, site: Site, files: list[str], tmp_path: Path, removed: list[str]
) -> None:
    """Keys are not on the disk, and there was no service since the boot."""
    FleetingMemory(memory.IN_MEMORY, memory.ON_DISK).write(begin(private_key := generate_private_key()))
    Registry(client.way).register(private_key.public_key())
    shutil.rmtree(memory.IN_MEMORY)
    assert main(["client", "logout", *files, "--status-file", str(tmp_path / "none")]) == 0
    assert site.registry.of("alice") == {}
    assert removed == ["lethe0"]
    assert [path for path in memory.ON_DISK.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("fates", [["unanswered"], ["lost", "unanswered"], ["doubled"]], ids="-".join)
def test_an_export_whose_answer_is_lost_is_of_the_same_key(client: Client, site: Site, fates: list[str]) -> None:
    client.way.fates = fates
    private_key = generate_private_key()
    own = export.registered(Registry(client.way), private_key, sleep=lambda seconds: None)
    ((public_key, registered),) = site.registry.of("alice").items()
    assert own.public_key == public_key == private_key.public_key()
    assert own.registration is not None
    assert [str(address) for address in own.registration.addresses] == registered.addresses


def test_an_export_without_any_answer_leaves_no_key(client: Client, site: Site) -> None:
    client.way.fates = ["unanswered"] * 4
    with pytest.raises(Away):
        export.registered(Registry(client.way), generate_private_key(), sleep=lambda seconds: None)
    assert site.registry.of("alice") == {}


def test_exports_are_spread_over_the_gateways(
    site: Site, files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, gateway in enumerate(GATEWAYS):
        monkeypatch.setattr(secrets, "choice", lambda some, number=number: some[number])
        assert main(["client", "export", *files]) == 0
        assert f"# {gateway.name}\nPublicKey = {gateway.public_key.text}\n" in capsys.readouterr().out


def test_an_export_can_be_a_picture(site: Site, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "export", "--qr", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert "PrivateKey" not in "".join(lines)
    assert len(site.registry.of("alice")) == 1
