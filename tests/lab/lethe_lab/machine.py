# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One virtual machine: its QEMU command line, its life, and the way to reach it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import process
from .accelerator import accelerator_options
from .errors import LabError
from .hosts import HOSTS, WAN_ROUTERS, Host
from .image import HOST_KEY_ALIAS, Image
from .monitor import Monitor
from .settings import Settings

HUB_SOCKET = "wan.hub"

# QEMU's user network: the host is 10.0.2.2. restrict=on keeps the guest from reaching anything through it.
_MANAGEMENT_ADDRESS = "10.0.2.15/24"

_KERNEL_OPTIONS = (
    "root=/dev/vda rw console=ttyS0 quiet loglevel=3 systemd.show_status=0 net.ifnames=0"
    # What costs time under emulation and means nothing there.
    " mitigations=off nokaslr no_timer_check tsc=reliable cryptomgr.notests nowatchdog raid=noautodetect audit=0"
    " random.trust_cpu=on rcupdate.rcu_expedited=1"
)


def pid_file(run: Path, name: str) -> Path:
    return run / name / "pid"


def hub_pid_file(run: Path) -> Path:
    return run / "hub.pid"


def pid_files(run: Path) -> list[Path]:
    """The pid files of every process a fleet can have, whether they exist or not."""
    return [*(pid_file(run, host.name) for host in HOSTS), hub_pid_file(run)]


def wan_socket(name: str) -> str:
    """A machine's end of the network, relative to the run directory, which is every process's own directory."""
    return f"{name}/wan"


def hardware(host: Host, image: Image, settings: Settings, accelerator: str) -> list[str]:
    """QEMU's options that a saved state depends on: the machine itself and what it boots."""
    command_line = (
        f"{_KERNEL_OPTIONS} lab.name={host.name} lab.machine_id={host.machine_id}"
        f" lab.address=eth0:{_MANAGEMENT_ADDRESS}"
        f" lab.address=eth1:{host.wan_ipv4}/24 lab.address=eth1:{host.wan_ipv6}/64"
    ) + "".join(f" lab.router=eth1:{router}" for router in WAN_ROUTERS)
    return [
        "-M", "q35,usb=off,vmport=off,smbus=off,sata=off,graphics=off",
        *accelerator_options(accelerator),
        "-smp", str(settings.cpus), "-m", str(settings.memory),
        "-nodefaults", "-no-user-config", "-display", "none", "-rtc", "base=utc,clock=host",
        "-kernel", str(image.vmlinux), "-initrd", str(image.initrd), "-append", command_line,
        "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
        "-device", "virtio-blk-pci,drive=disk",
        "-device", f"virtio-net-pci,netdev=management,romfile=,mac={host.mac(0)}",
        "-device", f"virtio-net-pci,netdev=wan,romfile=,mac={host.mac(1)}",
    ]  # fmt: skip


def plumbing(host: Host, run: Path) -> list[str]:
    """QEMU's options that tie the machine to this run: files, sockets, networks. Relative to the run directory."""
    name = host.name
    return [
        "-name", f"lethe-lab-{name}", "-pidfile", str(pid_file(run, name)),
        "-qmp", f"unix:{name}/qmp,server=on,wait=off",
        "-chardev", f"socket,id=console,path={name}/console,server=on,wait=off,logfile={name}/console.log",
        "-serial", "chardev:console",
        "-drive", f"file={name}/disk.qcow2,if=none,id=disk,format=qcow2,cache=unsafe",
        # Port 0: the kernel picks a free one, so that any number of fleets can run side by side.
        "-netdev", f"user,id=management,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-{_MANAGEMENT_ADDRESS[:-3]}:22",
        "-netdev", f"dgram,id=wan,local.type=unix,local.path={wan_socket(name)}"
        f",remote.type=unix,remote.path={HUB_SOCKET}",
    ]  # fmt: skip


def ssh_options(image: Image) -> list[str]:
    """Options for every SSH client of the lab: one key, one known host key, nothing from the user's configuration."""
    return [
        "-F", "none", "-i", str(image.identity),
        *_pairs(
            "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", f"HostKeyAlias={HOST_KEY_ALIAS}",
            f"UserKnownHostsFile={image.known_hosts}", "GlobalKnownHostsFile=/dev/null", "LogLevel=ERROR",
            "ConnectTimeout=30",
        ),
    ]  # fmt: skip


def _pairs(*options: str) -> list[str]:
    return [word for option in options for word in ("-o", option)]


@dataclass(frozen=True, slots=True)
class Machine:
    """A host of the fleet in one run directory."""

    host: Host
    run: Path
    image: Image

    @property
    def directory(self) -> Path:
        return self.run / self.host.name

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    def pid(self) -> int | None:
        return process.find(pid_file(self.run, self.host.name))

    def start(self, settings: Settings, accelerator: str, load_state: str | None = None) -> None:
        """Start QEMU on the disk that is there. It keeps running when this command ends."""
        for name in ("qmp", "console", "wan"):
            (self.directory / name).unlink(missing_ok=True)
        command = [
            "qemu-system-x86_64",
            *hardware(self.host, self.image, settings, accelerator),
            *plumbing(self.host, self.run),
        ]
        if load_state:
            command += ["-loadvm", load_state]
        log = self.directory / "qemu.log"
        with log.open("wb") as output:
            qemu = subprocess.Popen(
                command, cwd=self.run, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while True:
            if qemu.poll() is not None:
                raise LabError(f"{self.host.name}: QEMU did not start: {log.read_text(errors='replace').strip()}")
            try:
                with self.monitor():
                    return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"{self.host.name}: QEMU does not answer ({error}); see {log}") from error
                time.sleep(0.05)

    def monitor(self) -> Monitor:
        return Monitor(self.directory / "qmp")

    def forwarded_port(self) -> int:
        """The port of 127.0.0.1 that leads to the machine's SSH server."""
        with self.monitor() as monitor:
            table = monitor.human("info usernet")
        return parse_forwarded_port(table)

    def ssh(self, port: int, *command: str) -> list[str]:
        return ["ssh", *ssh_options(self.image), "-p", str(port), "root@127.0.0.1", *command]

    def wait_for_ssh(self, port: int, seconds: float) -> None:
        """Return when the machine's SSH server greets; raises LabError after this many seconds."""
        deadline = time.monotonic() + seconds
        while not _greets(port):
            if self.pid() is None:
                raise LabError(f"{self.host.name}: QEMU has died; see {self.directory / 'qemu.log'}")
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.host.name}: no SSH after {seconds:.0f} s; see {self.directory / 'console.log'}"
                    f" or look yourself: tests/lab/lab console {self.host.name}"
                )
            time.sleep(0.2)

    def wait_until_booted(self, port: int) -> str:
        """Wait for systemd to finish starting and return its verdict, "running" or "degraded"."""
        done = subprocess.run(
            self.ssh(port, "systemctl is-system-running --wait; systemctl --failed --no-legend --plain"),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not done.stdout:
            raise LabError(f"{self.host.name}: SSH fails: {done.stderr.strip()}")
        return " ".join(done.stdout.split())

    def refresh(self, port: int) -> None:
        """Give the machine the time and new entropy.

        A restored machine lives in the past and would repeat every random number since the snapshot, keys
        included: Debian's cloud kernel does not learn of a restore. The time is sent when the
        other side is ready, not when the connection is begun, which takes seconds under emulation.
        """
        script = (
            "set -e; echo ready; read -r now seed; date -u -s @$now >/dev/null; echo $seed >/dev/urandom;"
            # RNDRESEEDCRNG, include/uapi/linux/random.h: use what was just written at once.
            ' perl -e \'open(F, ">", "/dev/urandom") or die $!; ioctl(F, 0x5207, 0) or die $!\''
        )
        with subprocess.Popen(
            self.ssh(port, script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as client:
            assert client.stdout is not None
            client.stdout.readline()
            _, error = client.communicate(f"{time.time():.3f} {os.urandom(64).hex()}\n", timeout=60)
        if client.returncode != 0:
            raise LabError(f"{self.host.name}: setting clock and entropy failed: {error.strip()}")


def parse_forwarded_port(table: str) -> int:
    """The host port in the output of QEMU's `info usernet`."""
    found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s", table)
    if not found:
        raise LabError(f"QEMU lists no forwarded port:\n{table}")
    return int(found[1])


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.settimeout(5)
            return connection.recv(64).startswith(b"SSH-")
    except OSError:
        return False
