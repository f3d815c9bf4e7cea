#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures in the lab that is up how soon a registered key is in the kernels of two gateways: by their agents, by
`ansible-playbook lethe.wireguard.push`, and by a poll.

    feed_lab.py RESULTS [--quick] [--rolled-out]

Rolls the fleet out, unless it is, then registers keys through the API. Programs on the machines (lab/) see to the
times: all are of one clock, the client's. Writes one JSON object per measurement to the file RESULTS and to standard
error.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from fleet.fleet import PEERS_FILE
from fleet.gateway import INTERFACE
from fleet.hosts import Host, lab_hosts
from fleet.registry import ALL_AT_ONCE, CERTIFICATE, PORT, play, register
from lab_program import Program

AGENT = "lethe-key-sync.service"
ACCOUNT = "bench"
# Seconds between looks at the kernel: the longer what is measured takes, the less it should be held up by them.
AGENT_LOOKS, POLL_LOOKS, PUSH_LOOKS = 0.02, 0.1, 0.5
SETTINGS = {
    "registry_settings": {"preshared_keys": True, "device_limit": 1000, "server": {"client_rate": "6000/minute"}}
}


class Lab:
    """The fleet, rolled out, with the programs running."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        hosts = lab_hosts()
        self._gateways: list[Host] = hosts["gateways"]
        (registry,), (client,) = hosts["registries"], hosts["others"]
        register(directory, new_key(), "first", ACCOUNT)
        client.run(f"cat >/run/registry.crt <<'PEM'\n{registry.run(f'cat {CERTIFICATE}')}\nPEM")
        arguments = (f"{PORT}", f"{len(self._gateways)}")
        self._client = self._start(stack, client, "register.py", "python3", *arguments)
        self._client.tell((directory / f"{ACCOUNT}.token").read_text().strip())
        port = self._client.hears()
        self._watchers = []
        self.round_trip_ms = 0.0
        for gateway in self._gateways:
            arguments = (INTERFACE, client.wan_ipv4, port)
            watcher = self._start(stack, gateway, "watch.py", "/opt/lethe/current/venv/bin/python", *arguments)
            self.round_trip_ms = max(self.round_trip_ms, json.loads(watcher.hears())["round_trip_ms"])
            self._watchers.append(watcher)

    def _start(self, stack: ExitStack, *what: Any) -> Program:
        program = Program(*what)
        stack.callback(program.end)
        return program

    def change(self, pause: float, then: Callable[[], object] = lambda: None) -> tuple[float, float]:
        """Register a key, and do ``then`` as soon as the registry has answered. Returns the seconds from the answer
        until all kernels have it, and the milliseconds between looks at them.
        """
        key = new_key()
        for watcher in self._watchers:
            watcher.tell(f"watch {key} {pause}")
            watcher.hears("watching")
        self._client.tell(key)
        self._client.hears("answered")
        then()
        took = float(self._client.hears())
        return took, max(json.loads(watcher.hears())["look_ms"] for watcher in self._watchers)

    def polled_change(self) -> float:
        """Register a key, then let all gateways poll at once. Returns the seconds from a poll's start until the kernel
        has it, of the gateway that took longer.
        """
        key = new_key()
        self._client.tell(key)
        self._client.hears("answered")
        for watcher in self._watchers:
            watcher.tell(f"poll {key} {POLL_LOOKS}")
        for watcher in self._watchers:
            watcher.hears("watching")
        self._client.hears()
        return max(json.loads(watcher.hears())["seconds"] for watcher in self._watchers)

    @contextmanager
    def without_agents(self) -> Iterator[None]:
        for gateway in self._gateways:
            gateway.run(f"systemctl stop {AGENT}")
        try:
            yield
        finally:
            for gateway in self._gateways:
                gateway.run(f"systemctl start {AGENT}")


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--quick", action="store_true", help="as little as shows that it works")
    parser.add_argument("--rolled-out", action="store_true", help="an earlier run has rolled it out")
    options = parser.parse_args()
    changes, pushes, polls = (3, 1, 1) if options.quick else (100, 3, 5)

    if not options.rolled_out:
        PEERS_FILE.unlink(missing_ok=True)  # of a test: here the registry says who the peers are
        play("site", *ALL_AT_ONCE, "--extra-vars", json.dumps(SETTINGS))
    with ExitStack() as stack, options.results.open("w") as out:
        lab = Lab(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        lab.change(AGENT_LOOKS)  # everything is warm
        told = []
        for _ in range(changes):
            time.sleep(random.uniform(0.2, 1.2))
            told.append(lab.change(AGENT_LOOKS))
        seconds, looks = [took for took, _ in told], [look for _, look in told]
        figures = {"look_ms": median(looks), "round_trip_ms": lab.round_trip_ms}
        note(out, by="agents", seconds=seconds, **figures)
        with lab.without_agents():
            note(out, by="poll", seconds=[lab.polled_change() for _ in range(polls)])
            pushed = [lab.change(PUSH_LOOKS, then=lambda: play("push"))[0] for _ in range(pushes)]
            note(out, by="ansible-playbook push", seconds=pushed)


def note(out: TextIO, **measurement: Any) -> None:
    line = json.dumps(measurement)
    print(line, file=out, flush=True)
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
