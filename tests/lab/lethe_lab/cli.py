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
from pathlib import Path
from typing import NoReturn

from .errors import LabError
from .fleet import Fleet
from .hosts import HOSTS, USUAL, Host, host_named
from .inventory import inventory
from .monitor import connect_unix
from .settings import Settings

_DESCRIPTION = """\
NAME
    lab - real Debian machines with a real WireGuard kernel, for tests, the demo and people

SYNOPSIS
    tests/lab/lab up [--cold] [--owner PID] [NAME...]
    tests/lab/lab down | status | inventory | clean
    tests/lab/lab ssh NAME [COMMAND...]
    tests/lab/lab console NAME
    tests/lab/lab reset NAME
    tests/lab/lab memory NAME FILE

DESCRIPTION
    Virtual machines run Debian 12 under QEMU: gateway1, gateway2, client1, and registry1 where it is asked for. Each
    has two network devices: eth0 leads to SSH on a port of 127.0.0.1 and to nothing else; eth1 is the network "wan",
    which joins them: gateway1 10.99.0.1 and 2001:db8:99::1, gateway2 .2 and ::2, registry1 .5 and ::5, client1 .10
    and ::10. Machines start fresh after each `lab down`, and keep their disks over a reboot in between.
"""

_COMMANDS = """\
COMMANDS
    up          Start what does not run yet of these machines (by default gateway1, gateway2 and client1), after
                building the image if it changed (two minutes, once), and wait until they can be used. --cold boots
                them even where their saved state could be restored. --owner PID ties the fleet to a process: when
                that ends, so does the fleet.
    down        Stop the fleet and throw its disks away. Also cleans up after a crash.
    ssh         Log in as root, or run a command; its exit status is passed on.
    console     The machine's serial console, with a root shell; ends with Ctrl-]. Works when SSH does not.
                Without a terminal: print what the console has shown since the machine started.
    reset       Press the reset button and wait for the machine to come back.
    memory      Write the machine's physical memory to a file, as somebody who has the host could.
    status      One line per machine. Exit status 0: the usual ones run, and those that were asked for; 3: not all.
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
        return _run(options, Fleet(settings, _Progress()), settings)
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
        usage="tests/lab/lab COMMAND [...]",
        description=_DESCRIPTION,
        epilog=_COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        prog="tests/lab/lab", dest="action", metavar="COMMAND", required=True, help=argparse.SUPPRESS
    )
    up = commands.add_parser("up")
    up.add_argument("--cold", action="store_true")
    up.add_argument("--owner", type=int, metavar="PID")
    up.add_argument("hosts", metavar="NAME", type=_host, nargs="*", default=USUAL)
    for name in ("down", "status", "clean"):
        commands.add_parser(name)
    listing = commands.add_parser("inventory")
    listing.add_argument("--list", action="store_true", help="for Ansible; changes nothing")
    for name in ("ssh", "console", "reset", "memory"):
        commands.add_parser(name).add_argument("host", metavar="NAME", type=_host)
    commands.choices["ssh"].add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    commands.choices["memory"].add_argument("file", metavar="FILE", type=Path)
    return parser


def _run(options: argparse.Namespace, fleet: Fleet, settings: Settings) -> int:
    match options.action:
        case "up":
            fleet.up(options.hosts, cold=options.cold, owner=options.owner)
        case "down":
            print("the lab is down" if fleet.down() else "the lab was not running", file=sys.stderr)
        case "clean":
            fleet.down()
            shutil.rmtree(settings.cache, ignore_errors=True)
        case "reset":
            fleet.reset(options.host)
        case "memory":
            fleet.save_memory(options.host, options.file)
        case "status":
            return _print_status(fleet)
        case "inventory":
            _print_inventory(fleet)
        case "ssh":
            _exec_ssh(fleet, options.host, options.command)
        case "console":
            _attach_console(fleet, options.host)
    return 0


def _host(name: str) -> Host:
    host = host_named(name)
    if host is None:
        raise argparse.ArgumentTypeError(f"no machine {name!r}; there are {', '.join(known.name for known in HOSTS)}")
    return host


def _print_status(fleet: Fleet) -> int:
    pids = fleet.pids()
    ports = fleet.ports()
    for host in HOSTS:
        pid = pids[host.name]
        state = f"running  pid {pid}  SSH 127.0.0.1:{ports.get(host.name, '?')}" if pid else "stopped"
        print(f"{host.name:10}{host.wan_ipv4:12}{host.wan_ipv6:18}{state}")
    print(f"{'wan':40}{'running  pid ' + str(pids['wan']) if pids['wan'] else 'stopped'}")
    expected = {"wan", *ports, *(host.name for host in USUAL)}
    return 0 if all(pids[name] for name in expected) else 3


def _print_inventory(fleet: Fleet) -> None:
    record = fleet.record()
    print(json.dumps(inventory(record.image, record.ports), indent=2))


def _exec_ssh(fleet: Fleet, host: Host, words: Sequence[str]) -> NoReturn:
    machine = fleet.machine(host)
    port = fleet.record().ports.get(host.name)
    if port is None or machine.pid() is None:
        raise LabError(f"{host.name} is not running. Start it with: tests/lab/lab up")
    command = machine.ssh(port, *words)
    os.execvp(command[0], command)


def _attach_console(fleet: Fleet, host: Host) -> None:
    machine = fleet.machine(host)
    if not sys.stdin.isatty():
        sys.stdout.write((machine.directory / "console.log").read_text(encoding="utf-8", errors="replace"))
        return
    with connect_unix(machine.directory / "console") as console:
        print(f"The console of {host.name}; Ctrl-] ends, Enter wakes it.", file=sys.stderr)
        before = termios.tcgetattr(sys.stdin)
        tty.setraw(sys.stdin)
        try:
            _relay(sys.stdin.fileno(), sys.stdout.fileno(), console.fileno())
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
    print(file=sys.stderr)


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
