# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``lethe`` command: what systemd units and people run on a host."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .agent import command as agent_command
from .audit import command as audit_command
from .client import command as client_command
from .registry import command as registry_command
from .version import VERSION
from .wireguard.errors import LetheError

EXIT_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed (said on standard error), 2 wrong usage, 3 an audit
    has findings.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except LetheError as error:
        print(f"lethe: {error}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lethe",
        description="Manage a WireGuard interface that forgets, straight in the kernel.",
        epilog="Exit status: 0 done; 1 failed, with the reason on standard error; 2 wrong usage; 3 an audit found "
        "something.",
    )
    parser.add_argument("--version", action="version", version=f"lethe {VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    interface = commands.add_parser("interface", help="create, configure or remove an interface").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    up = interface.add_parser(
        "up",
        help="make the interface be there, configured and up",
        description="Create the interface if it is missing, and set what differs; what is not given stays as it is. "
        "Sessions go on when nothing of theirs changes. There is no configuration file.",
    )
    up.add_argument("name", metavar="NAME", help="the interface, like wg0")
    up.add_argument("--private-key-file", type=Path, metavar="FILE", help="file with the interface's private key")
    up.add_argument("--listen-port", type=int, metavar="PORT", help="UDP port; 0: a random one")
    up.add_argument("--fwmark", type=int, metavar="MARK", help="mark of outgoing packets; 0: none")
    up.add_argument("--mtu", type=int, metavar="BYTES")
    up.add_argument(
        "--address",
        action="append",
        metavar="CIDR",
        help="address with prefix, like 10.0.0.1/8; repeat it: the interface has these and no others",
    )
    up.set_defaults(run=_interface_up)
    down = interface.add_parser(
        "down", help="remove the interface with all its peers", description="Remove the interface with all its peers."
    )
    down.add_argument("name", metavar="NAME", help="the interface, like wg0")
    down.set_defaults(run=_interface_down)

    purge = commands.add_parser(
        "purge",
        help="make the kernel forget idle peers",
        description="Delete and reinstate every peer whose latest handshake is older than the limit, and every peer "
        "that has had an endpoint for as long without a handshake: its public address, handshake time and counters "
        "are gone; its key, preshared key, allowed IPs and keepalive stay. Prints numbers only.",
    )
    purge.add_argument(
        "name", metavar="NAME", nargs="?", help="the interface, like wg0; with --status: all if left out"
    )
    purge.add_argument("--status", action="store_true", help="show the figures of the last run instead")
    purge.add_argument(
        "--idle-after",
        type=int,
        metavar="SECONDS",
        help="silence after which a peer is purged (default and least: 180)",
    )
    purge.add_argument(
        "--exempt",
        action="append",
        default=[],
        metavar="PUBLIC_KEY",
        help="a peer with an endpoint of its own (site-to-site) that is never purged; repeat it for more",
    )
    purge.add_argument(
        "--state-directory", type=Path, metavar="DIRECTORY", help="where runs remember (default: /run/lethe/purge)"
    )
    purge.add_argument("--json", action="store_true", help="print the figures as JSON")
    purge.set_defaults(run=_purge, parser=purge)

    pack = commands.add_parser(
        "pack",
        help="turn a file of peers into its packed form",
        description="Read peers as JSON, check them, and write them packed: for fleets of tens of thousands, which the "
        "module lethe.wireguard.peers then compares with the kernel several times faster. As it may hold preshared "
        "keys, only its owner can read it.",
    )
    pack.add_argument("input", type=Path, metavar="INPUT", help="a JSON array of peers, or one JSON object per line")
    pack.add_argument("output", type=Path, metavar="OUTPUT", help="the file to write; one that is there is replaced")
    pack.set_defaults(run=_pack)

    fingerprint = commands.add_parser(
        "fingerprint",
        help="show how Lethe names a peer in diffs",
        description="Print the short name under which a peer appears in diffs. Reads public keys from standard input, "
        "one per line.",
    )
    fingerprint.set_defaults(run=_fingerprint)

    untrack = commands.add_parser(
        "untrack",
        help="make connection tracking forget a WireGuard port",
        description="Remove the entries of connection tracking that WireGuard's own packets made before a firewall "
        "rule exempted them. Prints how many.",
    )
    untrack.add_argument("port", type=int, metavar="PORT", help="the UDP port of the interface")
    untrack.set_defaults(run=_untrack)

    agent_command.add_to(commands)
    audit_command.add_to(commands)
    client_command.add_to(commands)
    registry_command.add_to(commands)
    return parser


# The imports below are late because each command should start as fast as its own part allows.


def _interface_up(options: argparse.Namespace) -> int:
    from .wireguard.interface import InterfaceOptions, address_from_text, ensure_interface
    from .wireguard.key_files import read_key
    from .wireguard.keys import PrivateKey

    addresses = options.address
    key_file = options.private_key_file
    change = ensure_interface(
        InterfaceOptions(
            name=options.name,
            private_key=None if key_file is None else read_key(key_file, PrivateKey),
            listen_port=options.listen_port,
            fwmark=options.fwmark,
            mtu=options.mtu,
            addresses=None if addresses is None else tuple(address_from_text(text, "--address") for text in addresses),
        )
    )
    print(f"{options.name}: {', '.join(change.steps) if change.changed else 'nothing to do'}")
    return 0


def _interface_down(options: argparse.Namespace) -> int:
    from .wireguard.interface import remove_interface

    change = remove_interface(options.name)
    print(f"{options.name}: {'removed' if change.changed else 'nothing to do'}")
    return 0


def _purge(options: argparse.Namespace) -> int:
    from .wireguard.purge_run import STATE_DIRECTORY

    directory = options.state_directory or STATE_DIRECTORY
    if options.status:
        return _purge_status(options, directory)
    if options.name is None:
        options.parser.error("the interface's NAME is needed (or --status)")

    from .wireguard.device import KernelDevice
    from .wireguard.interface import check_name
    from .wireguard.keys import PublicKey
    from .wireguard.purge import SESSION_LIMIT
    from .wireguard.purge_run import purge

    figures = purge(
        KernelDevice(check_name(options.name)),
        idle_after=SESSION_LIMIT if options.idle_after is None else options.idle_after,
        exempt=frozenset(PublicKey.from_text(text, "--exempt") for text in options.exempt),
        state_directory=directory,
    )
    print(json.dumps(asdict(figures)) if options.json else f"{options.name}: {figures.sentence()}")
    return 0


def _purge_status(options: argparse.Namespace, directory: Path) -> int:
    from .wireguard.clock import read_clocks
    from .wireguard.purge_run import read_memory

    names = [options.name] if options.name else sorted(path.stem for path in directory.glob("*.json"))
    now = read_clocks().boottime
    runs = []
    for name in names:
        memory = read_memory(directory / f"{name}.json")
        if memory is None or memory.figures is None or memory.last_run is None:
            print(f"lethe: no purge has run on {name} since boot; start one with: lethe purge {name}", file=sys.stderr)
            return EXIT_FAILED
        runs.append((name, (now - memory.last_run) / 1e9, memory.figures))
    if options.json:
        print(json.dumps({name: {"seconds_ago": round(ago, 1), **asdict(figures)} for name, ago, figures in runs}))
    elif not runs:
        print(
            "lethe: no purge has run since boot; is the timer there? systemctl list-timers 'lethe-purge@*'",
            file=sys.stderr,
        )
        return EXIT_FAILED
    else:
        for name, ago, figures in runs:
            print(f"{name}, {ago:.0f} s ago: {figures.sentence()}")
    return 0


def _pack(options: argparse.Namespace) -> int:
    from .wireguard.errors import InvalidValue
    from .wireguard.inventory import peers_from_file
    from .wireguard.packed import pack
    from .wireguard.whole_files import write_whole

    peers = peers_from_file(options.input)
    try:
        write_whole(options.output, pack(peers))
    except OSError as error:
        raise InvalidValue(
            f"{options.output}", f"cannot be written: {error.strerror}", "give a path in a directory that is there"
        ) from None
    print(f"{options.output}: {len(peers)} peers")
    return 0


def _untrack(options: argparse.Namespace) -> int:
    from .wireguard.tracking import forget_tracked

    print(f"{forget_tracked(options.port)} entries removed")
    return 0


def _fingerprint(_options: argparse.Namespace) -> int:
    from .wireguard.keys import PublicKey, fingerprint

    for number, line in enumerate(sys.stdin, 1):
        print(fingerprint(PublicKey.from_text(line.strip(), f"line {number}")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
