# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as a whole: up, down, and what is recorded about it in between.

The run directory belongs to one fleet. It holds a directory per machine, the network's socket, and
fleet.json, which says where the machines are reached; everything in it can be thrown away.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from . import process
from .accelerator import choose_accelerator, qemu_version
from .cache import built, digest_of, locked
from .commands import require, run
from .errors import LabError
from .hosts import HOSTS, USUAL, Host
from .image import Image, build_image
from .machine import HUB_SOCKET, Machine, hardware, hub_pid_file, pid_file, pid_files, wan_socket
from .settings import Settings

Progress = Callable[[str], None]

# The name of the saved state inside a machine's disk, and that of the disk where it is kept.
_SAVED_STATE = "booted"
_SAVED_DISK = "disk.qcow2"

# Seconds until a machine must greet. Booting takes 10 to 20 on an idle computer.
_BOOT_SECONDS = 300
_RESTORE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Record:
    """What a running fleet was made from and where its machines are reached (fleet.json)."""

    image: Image
    accelerator: str
    ports: dict[str, int]

    def save(self, run_directory: Path) -> None:
        content = {"image": str(self.image.root), "accelerator": self.accelerator, "ports": self.ports}
        partial = run_directory / "fleet.json.new"
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.rename(run_directory / "fleet.json")

    @classmethod
    def load(cls, run_directory: Path) -> Record | None:
        try:
            content = json.loads((run_directory / "fleet.json").read_text(encoding="utf-8"))
            return cls(Image(Path(content["image"])), content["accelerator"], dict(content["ports"]))
        except (OSError, ValueError, KeyError):
            return None


class Fleet:
    """The lab's machines in one run directory."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._run = settings.run
        # Machines that boot side by side are recorded in one file, which one of them at a time may write.
        self._recording = Lock()

    # -- what there is

    def record(self) -> Record:
        """Where the machines are; raises LabError when the lab was never brought up."""
        record = Record.load(self._run)
        if record is None:
            raise LabError("the lab is not running. Start it with: tests/lab/lab up")
        return record

    def ports(self) -> dict[str, int]:
        """Host name -> its SSH port, of the hosts for which it is known."""
        record = Record.load(self._run)
        return record.ports if record is not None else {}

    def machine(self, host: Host) -> Machine:
        return Machine(host, self._run, self.record().image)

    def pids(self) -> dict[str, int | None]:
        """Host name -> QEMU's process, and "wan" -> the network's."""
        found = {host.name: process.find(pid_file(self._run, host.name)) for host in HOSTS}
        return {**found, "wan": process.find(hub_pid_file(self._run))}

    # -- up

    def up(self, hosts: Sequence[Host] = USUAL, cold: bool = False, owner: int | None = None) -> None:
        """Bring these machines up; machines that already run stay as they are.

        With cold, machines boot even where a saved state could be restored. With owner, a process id, the
        fleet goes down when that process ends.
        """
        require(["qemu-system-x86_64", "qemu-img", "ssh"])
        with locked(self._run / ".lock"):
            image = build_image(self._settings.cache, self._progress)
            accelerator = choose_accelerator(image.vmlinux, self._settings.cache, self._settings.accelerator)
            record = Record.load(self._run)
            if record is None or record.image != image:
                if self._stop_all():
                    self._progress("stopped machines that were made from another image")
                record = Record(image, accelerator, {})
            if owner is not None or process.find(hub_pid_file(self._run)) is None:
                self._start_network(owner)
            machines = [Machine(host, self._run, image) for host in hosts]
            stopped = [machine for machine in machines if machine.pid() is None]
            if not stopped:
                self._progress("the lab is already running")
                return
            self._start(stopped, accelerator, record, cold)
        self._progress("the lab is up")

    def _start(self, machines: Sequence[Machine], accelerator: str, record: Record, cold: bool) -> None:
        """Start machines from their saved states where there are any, else by booting, and then save them.

        Under KVM booting is about as fast as restoring.
        """
        self._progress(f"under {accelerator.upper()}, {self._settings.cpus} CPU and {self._settings.memory} MiB each:")
        states = {} if cold or accelerator == "kvm" else {each: self._state(each, accelerator) for each in machines}
        saved = [machine for machine in machines if machine in states and states[machine].is_dir()]
        if saved and not self._restore(saved, accelerator, states, record):
            saved = []
        booting = [machine for machine in machines if machine not in saved]
        if booting:
            self._boot(booting, accelerator, record)
            self._save([machine for machine in booting if machine in states], record, states)

    def _start_network(self, owner: int | None) -> None:
        file = hub_pid_file(self._run)
        process.stop(file)
        (self._run / HUB_SOCKET).unlink(missing_ok=True)
        command = [
            sys.executable, "-m", "lethe_lab.hub", "--pid-file", str(file), "--socket", HUB_SOCKET,
            *(["--owner", str(owner)] if owner is not None else []), *(wan_socket(host.name) for host in HOSTS),
        ]  # fmt: skip
        log = self._run / "hub.log"
        with log.open("wb") as output:
            hub = subprocess.Popen(
                command, cwd=self._run, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not (file.exists() and (self._run / HUB_SOCKET).exists()):
            if hub.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the lab's network did not start: {log.read_text(errors='replace').strip()}")
            time.sleep(0.02)

    def _boot(self, machines: Sequence[Machine], accelerator: str, record: Record) -> None:
        self._progress(f"booting {_names(machines)}")

        def boot(machine: Machine) -> None:
            shutil.rmtree(machine.directory, ignore_errors=True)
            machine.directory.mkdir(parents=True)
            run("qemu-img", "create", "-q", "-f", "qcow2", "-b", machine.image.disk, "-F", "raw", machine.disk)
            machine.start(self._settings, accelerator)
            port = self._reached(machine, record)
            machine.wait_for_ssh(port, _BOOT_SECONDS)
            verdict = machine.wait_until_booted(port)
            self._progress(f"{machine.host.name} is {verdict}: SSH at 127.0.0.1 port {port}")

        self._each(boot, machines)

    def _reached(self, machine: Machine, record: Record) -> int:
        port = machine.forwarded_port()
        with self._recording:
            record.ports[machine.host.name] = port
            record.save(self._run)
        return port

    def _each(self, action: Callable[[Machine], None], machines: Sequence[Machine]) -> None:
        """Do the same to several machines at once; raises LabError with every failure."""
        failures = []
        with ThreadPoolExecutor(max_workers=len(machines)) as pool:
            for future in [pool.submit(action, machine) for machine in machines]:
                try:
                    future.result()
                except LabError as error:
                    failures.append(str(error))
        if failures:
            raise LabError("\n".join(failures))

    # -- saved states

    def _state(self, machine: Machine, accelerator: str) -> Path:
        """Where the state of a machine that has just booted is kept.

        QEMU loads a state only into the very machine that it was saved from, so everything the machine
        consists of is in the name.
        """
        options = hardware(machine.host, machine.image, self._settings, accelerator)
        name = digest_of(qemu_version(), str(machine.image.root), Path(__file__), *options)
        return self._settings.cache / "states" / machine.host.name / name

    def _save(self, machines: Sequence[Machine], record: Record, states: Mapping[Machine, Path]) -> None:
        if not machines:
            return

        def save(machine: Machine) -> None:
            def collect(work: Path) -> None:
                # Stopped for as long as the disk and the memory in it are copied together.
                with machine.monitor() as monitor:
                    monitor.execute("stop")
                    try:
                        failure = monitor.human(f"savevm {_SAVED_STATE}").strip()
                        if failure:
                            raise LabError(f"{machine.host.name}: QEMU could not save its state: {failure}")
                        _copy(machine.disk, work / _SAVED_DISK)
                        monitor.human(f"delvm {_SAVED_STATE}")
                    finally:
                        monitor.execute("cont")
                machine.refresh(record.ports[machine.host.name])

            built(states[machine], collect)

        self._each(save, machines)
        self._progress("saved what has booted: the next start takes seconds")

    def _restore(
        self, machines: Sequence[Machine], accelerator: str, states: Mapping[Machine, Path], record: Record
    ) -> bool:
        """Start machines from their saved states; false, with nothing left running of them, if that fails."""
        self._progress(f"restoring {_names(machines)}")

        def restore(machine: Machine) -> None:
            saved = states[machine]
            os.utime(saved)
            shutil.rmtree(machine.directory, ignore_errors=True)
            machine.directory.mkdir(parents=True)
            _copy(saved / _SAVED_DISK, machine.disk)
            machine.start(self._settings, accelerator, load_state=_SAVED_STATE)
            port = self._reached(machine, record)
            machine.wait_for_ssh(port, _RESTORE_SECONDS)
            machine.refresh(port)
            self._progress(f"{machine.host.name} is running: SSH at 127.0.0.1 port {port}")

        try:
            self._each(restore, machines)
        except LabError as error:
            self._progress(f"restoring failed, so the machines boot instead ({error})")
            for machine in machines:
                process.stop(pid_file(self._run, machine.host.name))
                shutil.rmtree(states[machine], ignore_errors=True)
            return False
        return True

    # -- down, reset

    def down(self) -> bool:
        """Stop every process of this fleet and discard its disks; true if anything ran."""
        if not self._run.exists() and not any(self.pids().values()):
            return False
        with locked(self._run / ".lock"):
            stopped = self._stop_all()
        shutil.rmtree(self._run, ignore_errors=True)
        return stopped

    def _stop_all(self) -> bool:
        stopped = [process.stop(file) for file in pid_files(self._run)]
        (self._run / "fleet.json").unlink(missing_ok=True)
        for host in HOSTS:
            shutil.rmtree(self._run / host.name, ignore_errors=True)
        return any(stopped)

    def reset(self, host: Host) -> None:
        """Press the machine's reset button and wait until it has booted again."""
        machine = self.machine(host)
        port = self.record().ports[host.name]
        with machine.monitor() as monitor:
            monitor.execute("system_reset")
        time.sleep(1)  # until the machine that was there before no longer greets
        machine.wait_for_ssh(port, _BOOT_SECONDS)
        self._progress(f"{host.name} is {machine.wait_until_booted(port)}")

    def save_memory(self, host: Host, file: Path) -> None:
        """Write the machine's physical memory to a file, which nobody else may read. The machine waits meanwhile."""
        file.touch(mode=0o600)
        with self.machine(host).monitor() as monitor:
            size = monitor.execute("query-memory-size-summary")["base-memory"]
            monitor.execute("pmemsave", val=0, size=size, filename=str(file.absolute()))


def _names(machines: Sequence[Machine]) -> str:
    return ", ".join(machine.host.name for machine in machines)


def _copy(source: Path, target: Path) -> None:
    run("cp", "--sparse=always", "--reflink=auto", source, target)
