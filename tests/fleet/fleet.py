# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet: the lab's gateways and clients, the file with their peers, and the operator's commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .client import Client
from .gateway import INTERFACE, Gateway
from .hosts import CHECKOUT, RUN, CommandFailed, Host, lab_hosts

PEERS_FILE = RUN / "peers.jsonl"
INVENTORY = CHECKOUT / "inventories/lab"

# Why a fleet forgets when it does: see the purge role's README.
IDLE_AFTER = 180  # seconds
PURGE_PERIOD = 15  # seconds
BOUND = IDLE_AFTER + PURGE_PERIOD  # seconds, and one run


@dataclass(frozen=True)
class Recap:
    """The last lines of a playbook run: tasks per host."""

    hosts: dict[str, dict[str, int]]
    output: str

    def total(self, what: str) -> int:
        return sum(counts[what] for counts in self.hosts.values())


def ansible(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs on the lab's inventory, as an operator would."""
    return subprocess.run(_with_inventory(command), capture_output=True, text=True, env=_environment(), check=False)


def start_playbook(*arguments: str, playbook: str = "site") -> subprocess.Popen[str]:
    """Start a playbook of the collection and go on; `recap_of` waits for it."""
    return subprocess.Popen(
        _with_inventory(("ansible-playbook", f"lethe.wireguard.{playbook}", *arguments)),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment(),
    )  # fmt: skip


def recap_of(run: subprocess.Popen[str], watch: Callable[[str], None] = lambda line: None) -> Recap:
    """Wait for a playbook; `watch` gets each line as it comes.

    Raises CommandFailed with the output if it did not succeed on at least one host.
    """
    lines = []
    with run:
        for line in run.stdout or ():
            lines.append(line)
            watch(line)
    output = "".join(lines)
    hosts = {
        found[1]: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", found[2])}
        for found in re.finditer(r"^(\S+)\s+: (ok=.*)$", output, re.MULTILINE)
    }
    if run.returncode != 0 or not hosts:
        raise CommandFailed(f"a playbook ended with {run.returncode} on {len(hosts)} hosts:\n{output}")
    return Recap(hosts, output)


def _with_inventory(command: tuple[str, ...]) -> list[str]:
    program, *arguments = command
    return [program, "--inventory", str(INVENTORY), *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "inventories/lab/ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}


@dataclass(frozen=True)
class Fleet:
    """Everything in the lab. ALICE stays a client; BOB is going to be revoked."""

    gateways: tuple[Gateway, ...]
    alice: Client
    bob: Client

    @classmethod
    def in_lab(cls) -> Fleet:
        """The fleet of the lab that is up."""
        hosts = lab_hosts()
        machine: Host = hosts["others"][0]
        gateways = tuple(Gateway(host, number) for number, host in enumerate(hosts["gateways"], 1))
        return cls(gateways, Client("alice", machine, 2), Client("bob", machine, 3))

    @staticmethod
    def write_peers(clients: Iterable[Client], path: Path = PEERS_FILE) -> None:
        """The inventory's peers file, which site.yml sends to the gateways. It has preshared keys."""
        lines = "".join(json.dumps(client.peer()) + "\n" for client in clients)
        path.touch(mode=0o600)
        path.write_text(lines, encoding="ascii")

    @staticmethod
    def revoke(client: Client) -> list[str]:
        """Remove a client from every gateway with the documented ad-hoc command. Returns the gateways that changed.

        Raises CommandFailed unless all of them answered.
        """
        result = ansible(
            "ansible", "gateways", "--module-name", "lethe.wireguard.peer",
            "--args", f"interface={INTERFACE} public_key={client.public_key} state=absent",
        )  # fmt: skip
        if result.returncode != 0:
            raise CommandFailed(f"the revocation ended with {result.returncode}:\n{result.stdout}{result.stderr}")
        return re.findall(r"^(\S+) \| CHANGED", result.stdout, re.MULTILINE)
