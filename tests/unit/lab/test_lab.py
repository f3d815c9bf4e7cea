# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's parts that decide something without a virtual machine."""

from __future__ import annotations

import json
import lzma
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab.lethe_lab import kernel_vm, process
from lab.lethe_lab.cache import built, digest_of
from lab.lethe_lab.errors import LabError
from lab.lethe_lab.fleet import Fleet, Record
from lab.lethe_lab.hosts import HOSTS, USUAL, host_named, hosts_file
from lab.lethe_lab.hub import Port, Switch
from lab.lethe_lab.image import Image
from lab.lethe_lab.inventory import inventory
from lab.lethe_lab.kernel import current_kernel, uncompressed
from lab.lethe_lab.machine import Machine, hardware, parse_forwarded_port, plumbing
from lab.lethe_lab.settings import Settings

IMAGE = Image(Path("/cache/images/0123"))
BROADCAST = b"\xff" * 6
ALICE, BOB = b"\x52\x54\0\0\0\1", b"\x52\x54\0\0\0\2"


def frame(destination: bytes, source: bytes) -> bytes:
    return destination + source + b"\x08\x00" + b"payload"


class TestSwitch:
    def test_floods_while_the_destination_is_unknown(self) -> None:
        switch = Switch(["a", "b", "c"])
        assert switch.receivers(frame(BOB, ALICE), "a") == ("b", "c")

    def test_sends_only_to_the_owner_of_a_known_address(self) -> None:
        switch = Switch(["a", "b", "c"])
        switch.receivers(frame(BROADCAST, BOB), "b")
        assert switch.receivers(frame(BOB, ALICE), "a") == ("b",)

    def test_always_floods_broadcasts(self) -> None:
        switch = Switch(["a", "b", "c"])
        switch.receivers(frame(BROADCAST, BOB), "b")
        assert switch.receivers(frame(BROADCAST, ALICE), "a") == ("b", "c")

    def test_drops_frames_of_strangers_and_runts(self) -> None:
        switch = Switch(["a", "b"])
        assert switch.receivers(frame(BROADCAST, ALICE), "stranger") == ()
        assert switch.receivers(b"short", "a") == ()


class TestPort:
    @pytest.fixture
    def hub(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hub:
            hub.setblocking(False)
            yield hub

    def test_a_machine_that_is_slow_gets_every_frame_in_order(self, hub: socket.socket, tmp_path: Path) -> None:
        frames = [b"%d" % number for number in range(900)]  # the kernel keeps a few for it
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as machine:
            machine.bind(str(tmp_path / "machine"))
            machine.setblocking(False)
            port = Port(hub, str(tmp_path / "machine"))
            for each in frames:
                port.send(each)
            assert port.is_waiting

            got = []
            while len(got) < len(frames):
                got.append(machine.recv(100))
                port.pass_on()
            assert got == frames
            assert not port.is_waiting

    def test_one_that_takes_none_loses_the_oldest(
        self, hub: socket.socket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as machine:
            machine.bind(str(tmp_path / "machine"))
            port = Port(hub, str(tmp_path / "machine"))
            for _ in range(5000):
                port.send(b"frame")
        assert "machine: 2048 frames lost" in capsys.readouterr().out

    def test_one_that_boots_does_not_get_what_was_sent_before(
        self, hub: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as machine:
            machine.bind(str(tmp_path / "machine"))
            machine.setblocking(False)
            port = Port(hub, str(tmp_path / "machine"))
            for _ in range(900):
                port.send(b"before")
            while True:  # what the kernel has
                try:
                    machine.recv(100)
                except BlockingIOError:
                    break
            now = 20.0
            port.send(b"after")
            assert machine.recv(100) == b"after"
            assert not port.is_waiting

    def test_one_that_is_down_holds_nothing_up(self, hub: socket.socket, tmp_path: Path) -> None:
        port = Port(hub, str(tmp_path / "machine"))
        port.send(b"frame")
        assert not port.is_waiting


class TestProcess:
    @pytest.fixture
    def pid_file(self, tmp_path: Path) -> Path:
        return tmp_path / "pid"

    @pytest.fixture
    def ours(self, pid_file: Path) -> Iterator[subprocess.Popen[bytes]]:
        # `sleep` stands in for QEMU: all that counts is the argument.
        with subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)", "-pidfile", str(pid_file)]
        ) as process_:
            yield process_
            process_.kill()

    @pytest.fixture
    def other(self) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process_:
            yield process_
            process_.kill()

    @staticmethod
    def wait_for(pid_file: Path) -> int | None:
        for _ in range(100):
            if (pid := process.find(pid_file)) is not None:
                return pid
            time.sleep(0.02)
        return None

    def test_is_found_by_its_argument_even_when_the_pid_file_is_gone(
        self, pid_file: Path, ours: subprocess.Popen[bytes]
    ) -> None:
        assert self.wait_for(pid_file) == ours.pid

    def test_a_pid_that_belongs_to_something_else_is_not_ours(
        self, pid_file: Path, other: subprocess.Popen[bytes]
    ) -> None:
        pid_file.write_text(str(other.pid))
        assert process.find(pid_file) is None
        assert not process.stop(pid_file)
        assert other.poll() is None
        assert not pid_file.exists()

    def test_stop_ends_the_process_and_removes_the_file(self, pid_file: Path, ours: subprocess.Popen[bytes]) -> None:
        self.wait_for(pid_file)
        pid_file.write_text(str(ours.pid))
        assert process.stop(pid_file)
        assert ours.wait(60) != 0
        assert not pid_file.exists()


class TestCache:
    def test_builds_once(self, tmp_path: Path) -> None:
        calls = []

        def build(work: Path) -> None:
            calls.append(work)
            (work / "product").write_text("x")

        for _ in range(2):
            assert (built(tmp_path / "key", build) / "product").read_text() == "x"
        assert len(calls) == 1

    def test_a_failed_build_leaves_no_target_and_the_next_one_cleans_up(self, tmp_path: Path) -> None:
        def fail(work: Path) -> None:
            (work / "half").touch()
            raise LabError("no")

        with pytest.raises(LabError):
            built(tmp_path / "key", fail)
        assert not (tmp_path / "key").exists()
        built(tmp_path / "key", lambda _: None)
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["key"]

    def test_drops_what_was_not_used_for_long_but_never_the_recent(self, tmp_path: Path) -> None:
        for name, age in (("ancient", 10 * 86400), ("old", 9 * 86400), ("yesterday", 3600)):
            (tmp_path / name).mkdir()
            os.utime(tmp_path / name, (time.time() - age,) * 2)
        built(tmp_path / "key", lambda _: None, keep=1)
        assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"key", "yesterday"}

    def test_digest_tells_parts_apart(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a")
        before = digest_of(tmp_path)
        (tmp_path / "file").write_text("b")
        assert digest_of(tmp_path) != before
        assert digest_of("ab", "c") != digest_of("a", "bc")


class TestMachine:
    SETTINGS = Settings(cache=Path("/cache"), run=Path("/run/one"), memory=768, cpus=1, accelerator=None)

    def test_hardware_does_not_depend_on_the_run(self) -> None:
        # Or a state saved in one run directory would not load in another.
        options = " ".join(hardware(HOSTS[0], IMAGE, self.SETTINGS, "tcg"))
        assert "/run/one" not in options
        assert "lab.address=eth1:10.99.0.1/24" in options
        assert "lab.address=eth1:2001:db8:99::1/64" in options

    def test_pid_file_is_among_the_arguments(self) -> None:
        options = plumbing(HOSTS[0], Path("/run/one"))
        assert options[options.index("-pidfile") + 1] == "/run/one/gateway1/pid"

    def test_hardware_addresses_differ(self) -> None:
        addresses = [host.mac(device) for host in HOSTS for device in (0, 1)]
        assert len(set(addresses)) == len(addresses)

    def test_forwarded_port_is_read_from_qemus_table(self) -> None:
        table = (
            "Hub -1 (management):\n"
            "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n"
            "  TCP[ESTABLISHED]   27       127.0.0.1 40601       10.0.2.15    22     0     0\n"
            "  TCP[HOST_FORWARD]  12       127.0.0.1 36387       10.0.2.15    22     0     0\n"
        )
        assert parse_forwarded_port(table) == 36387
        with pytest.raises(LabError):
            parse_forwarded_port("nothing")


def test_inventory_has_every_host_in_its_group() -> None:
    listing = inventory(IMAGE, {host.name: 2200 + host.number for host in HOSTS})
    assert listing["gateways"]["hosts"] == ["gateway1", "gateway2"]
    assert listing["others"]["hosts"] == ["client1"]
    assert listing["registries"]["hosts"] == ["registry1"]
    client = listing["_meta"]["hostvars"]["client1"]
    assert (client["ansible_port"], client["lab_wan_ipv4"]) == (2210, "10.99.0.10")
    assert "StrictHostKeyChecking=yes" in listing["all"]["vars"]["ansible_ssh_common_args"]


def test_inventory_has_no_host_that_was_not_started_but_its_group() -> None:
    listing = inventory(IMAGE, {host.name: 2200 for host in USUAL})
    assert listing["registries"]["hosts"] == []
    assert "registry1" not in listing["_meta"]["hostvars"]


def test_hosts_file_names_every_machine_by_both_addresses() -> None:
    text = hosts_file()
    assert "10.99.0.2 gateway2\n" in text
    assert "2001:db8:99::10 client1\n" in text
    assert host_named("nobody") is None


def test_record_survives_saving_and_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    record = Record(IMAGE, "tcg", {"gateway1": 2201})
    record.save(tmp_path)
    assert Record.load(tmp_path) == record
    (tmp_path / "fleet.json").write_text(json.dumps({"image": "x"}))
    assert Record.load(tmp_path) is None


def test_machines_that_boot_side_by_side_are_all_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "forwarded_port", lambda machine: 2000 + HOSTS.index(machine.host))
    fleet = Fleet(Settings.from_environment({"LETHE_LAB_RUN": str(tmp_path)}), print)
    record = Record(IMAGE, "tcg", {})
    machines = [Machine(host, tmp_path, IMAGE) for host in HOSTS]
    with ThreadPoolExecutor(len(machines)) as pool:
        list(pool.map(lambda machine: fleet._reached(machine, record), machines * 50))
    assert Record.load(tmp_path) == Record(IMAGE, "tcg", {host.name: 2000 + at for at, host in enumerate(HOSTS)})


@pytest.mark.parametrize(
    "environment", [{"LETHE_LAB_MEMORY": "0"}, {"LETHE_LAB_CPUS": "two"}, {"LETHE_LAB_ACCEL": "xen"}]
)
def test_bad_settings_are_refused_by_name(environment: dict[str, str]) -> None:
    with pytest.raises(LabError, match=next(iter(environment))):
        Settings.from_environment(environment)


def test_run_directory_can_be_moved() -> None:
    assert Settings.from_environment({"LETHE_LAB_RUN": "/tmp/other"}).run == Path("/tmp/other")


def test_current_kernel_is_apts_first_candidate() -> None:
    records = (
        "Package: linux-image-amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)\n\n"
        "Package: linux-image-amd64\nDepends: linux-image-6.1.0-50-amd64 (= 6.1.176-1)\n"
    )
    assert current_kernel(records) == ("linux-image-6.1.0-56-amd64", "6.1.192-2")
    assert current_kernel("") is None


def test_kernel_program_is_found_inside_an_xz_image() -> None:
    program = b"\x7fELF" + bytes(1000)
    assert uncompressed(b"boot code" + lzma.compress(program) + b"trailer") == program
    with pytest.raises(LabError):
        uncompressed(b"boot code only")


class TestKernelTests:
    def test_all_of_them_by_default(self) -> None:
        assert kernel_vm.pytest_command(["-k", "ghost"], colour=False).strip().endswith("tests/kernel -k ghost")

    def test_a_path_replaces_the_default(self) -> None:
        command = kernel_vm.pytest_command(["tests/kernel/test_smoke.py::test_x"], colour=False)
        assert command.strip().endswith("--junitxml=/run/job/kernel.xml tests/kernel/test_smoke.py::test_x")

    def test_arguments_are_quoted_for_the_shell(self) -> None:
        assert "-k 'a or b'" in kernel_vm.pytest_command(["-k", "a or b"], colour=False)
