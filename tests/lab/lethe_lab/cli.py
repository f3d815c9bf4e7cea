# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Sequence

from .errors import LabError
from .fleet import Fleet
from .hosts import HOSTS, Host, host_named
from .inventory import inventory
from .monitor import connect_unix
from .settings import Settings

_DESCRIPTION = """\
NAME
    lab - real Debian machines with a real WireGuard kernel, for tests, the demo and people

SYNOPSIS
    tests/lab/lab up [--cold] [--owner PID]
    tests/lab/lab down | status | inventory | clean
    tests/lab/lab ssh NAME [COMMAND...]
    tests/lab/lab console NAME
    tests/lab/lab reset NAME

DESCRIPTION
    Three virtual machines run Debian 12 under QEMU: gateway1, gateway2 and client1. Each has two network
    devices: eth0 leads to SSH on a port of 127.0.0.1 and to nothing else; eth1 is the network "wan", which joins
    the three: gateway1 10.99.0.1 and 2001:db8:99::1, gateway2 .2 and ::2, client1 .10 and ::10.
    Machines start fresh after each `lab down`, and keep their disks over a reboot in between.
"""

_COMMANDS = """\
COMMANDS
    up          Start what does not run yet, after building the image if it changed (two minutes, once), and
                wait until every machine can be used. --cold boots the machines even where their saved state could
                be restored. --owner PID ties the fleet to a process: when that ends, so does the fleet.
    down        Stop the fleet and throw its disks away. Also cleans up after a crash.
    ssh         Log in as root, or run a command; its exit status is passed on.
    console     The machine's serial console, with a root shell; ends with Ctrl-]. Works when SSH does not.
                Without a terminal: print what the console has shown since the machine started.
    reset       Press the reset button and wait for the machine to come back.
    status      One line per machine. Exit status 0: all run; 3: not all.
    inventory   Print an Ansible inventory (inventories/lab/ uses it).
    clean       down, then delete the image, the kernels and the saved states (.cache/lab).

ENVIRONMENT
    LETHE_LAB_RUN     Directory of the fleet (default .cache/lab/run). Another one gives another fleet, which
                      can run at the same time.
    LETHE_LAB_MEMORY  Memory of each machine in MiB (default 768).
    LETHE_LAB_CPUS    Processors of each machine (default 1).
    LETHE_LAB_ACCEL   kvm or tcg, instead of finding out whether KVM works here.

FILES
    .cache/lab/images/     built images, with their SSH key
    .cache/lab/states/     saved states of booted machines
    .cache/lab/run/NAME/   disk, console.log and qemu.log of a running machine
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment()
        return int(options.run(Fleet(settings, _Progress()), settings, options))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; `tests/lab/lab down` cleans up", file=sys.stderr)
        return 130


class _Progress:
    """Prints lines with the seconds since the start, on standard error: standard output is for results."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, message: str) -> None:
        print(f"[{time.monotonic() - self._start:6.1f} s] {message}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab",
        usage="tests/lab/lab COMMAND [...]   (tests/lab/lab --help explains)",
        description=_DESCRIPTION,
        epilog=_COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    up = commands.add_parser("up")
    up.add_argument("--cold", action="store_true")
    up.add_argument("--owner", type=int, metavar="PID")
    up.set_defaults(run=_up)
    for name, action in (("down", _down), ("status", _status), ("inventory", _inventory), ("clean", _clean)):
        command = commands.add_parser(name)
        command.set_defaults(run=action)
        if name == "inventory":  # what Ansible passes to an inventory script
            command.add_argument("--list", action="store_true")
            command.add_argument("--host", metavar="NAME")
    for name, action in (("ssh", _ssh), ("console", _console), ("reset", _reset)):
        command = commands.add_parser(name)
        command.add_argument("host", metavar="NAME", type=_host)
        command.set_defaults(run=action)
        if name == "ssh":
            command.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    return parser


def _host(name: str) -> Host:
    host = host_named(name)
    if host is None:
        raise argparse.ArgumentTypeError(f"no machine {name!r}; there are {', '.join(known.name for known in HOSTS)}")
    return host


def _up(fleet: Fleet, settings: Settings, options: argparse.Namespace) -> int:
    fleet.up(cold=options.cold, owner=options.owner)
    return 0


def _down(fleet: Fleet, settings: Settings, options: argparse.Namespace) -> int:
    print("the lab is down" if fleet.down() else "the lab was not running", file=sys.stderr)
    return 0


def _clean(fleet: Fleet, settings: Settings, options: argparse.Namespace) -> int:
    fleet.down()
    shutil.rmtree(settings.cache, ignore_errors=True)
    return 0


def _status(fleet: Fleet, settings: Settings, options: argparse.Namespace) -> int:
    pids = fleet.pids()
    ports = fleet.record().ports if any(pids.values()) else {}
    for host in HOSTS:
        pid = pids[host.name]
        state = f"running  pid {pid}  SSH 127.0.0.1:{ports.get(host.name, '?')}" if pid else "stopped"
        print(f"{host.name:10}{host.wan_ipv4:12}{host.wan_ipv6:18}{state}")
    print(f"{'wan':40}{'running  pid ' + str(pids['wan']) if pids['wan'] else 'stopped'}")
    return 0 if all(pids.values()) else 3


def _inventory(fleet: Fleet, settings: Settings, options: argparse.Namespace) -> int:
    record = fleet.record()
    missing = [host.name for host in HOSTS if host.name not in record.ports]
    if missing:
        raise LabError(f"not started yet: {', '.join(missing)}. Start with: tests/lab/lab up")
    print(json.dumps(inventory(record.image, record.ports), indent=2))
    return 0


def _ssh(fleet: Fleet, settings: Settings, options: argparse.Namespace) -> int:
    machine = fleet.machine(options.host)
    port = fleet.record().ports.get(options.host.name)
    if port is None or machine.pid() is None:
        raise LabError(f"{options.host.name} is not running. Start it with: tests/lab/lab up")
    command = machine.ssh(port, *options.command)
    os.execvp(command[0], command)


def _reset(fleet: Fleet, settings: Settings, options: argparse.Namespace) -> int:
    fleet.reset(options.host)
    return 0


def _console(fleet: Fleet, settings: Settings, options: argparse.Namespace) -> int:
    machine = fleet.machine(options.host)
    if not sys.stdin.isatty():
        sys.stdout.write((machine.directory / "console.log").read_text(encoding="utf-8", errors="replace"))
        return 0
    with connect_unix(machine.directory / "console") as console:
        print(f"The console of {options.host.name}; Ctrl-] ends, Enter wakes it.", file=sys.stderr)
        before = termios.tcgetattr(sys.stdin)
        tty.setraw(sys.stdin)
        try:
            _relay(sys.stdin.fileno(), sys.stdout.fileno(), console.fileno())
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
    print(file=sys.stderr)
    return 0


def _relay(keyboard: int, screen: int, console: int) -> None:
    """Copy both ways until Ctrl-] is typed or the console is gone."""
    while True:
        ready, _, _ = select.select([keyboard, console], [], [])
        if console in ready:
            shown = os.read(console, 4096)
            if not shown:
                return
            os.write(screen, shown)
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            if not typed or b"\x1d" in typed:
                return
            os.write(console, typed)
