#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures in the lab that is up how soon a gateway has forgotten a client that left without a word.

    forget_lab.py RESULTS [--quick] [--rolled-out]

Makes a hundred clients, rolls a gateway out with them as its peers (or, if that has been done, only sends it the
peers), lets each send until a random moment, and waits until all are forgotten. Programs on the machines (lab/) see to
the times: all are of the gateway's clock. Writes one JSON object per departure, and one about the runs of the purge, to
the file RESULTS, and the latter to standard error.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from fleet.fleet import PEERS_FILE
from fleet.gateway import INTERFACE, PORT, Gateway
from fleet.hosts import lab_hosts
from fleet.registry import play
from lab_program import Program

# A session is renewed every 120 s: twice that, and a client's last handshake is as old as may be when it leaves.
FIRST, LAST = 10.0, 250.0  # seconds
UNIT = f"lethe-purge@{INTERFACE}.service"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--quick", action="store_true", help="as little as shows that it works")
    parser.add_argument("--rolled-out", action="store_true", help="an earlier run has rolled the gateway out")
    options = parser.parse_args()
    number, last = (5, FIRST + 5) if options.quick else (100, LAST)

    hosts = lab_hosts()
    gateway, (client,) = Gateway(hosts["gateways"][0], 1), hosts["others"]
    with ExitStack() as stack, options.results.open("w") as out:
        leavers = Program(client, "depart.py", "python3", f"{number}")
        stack.callback(leavers.end)
        peers = [{"public_key": key, "allowed_ips": [address]} for key, address in json.loads(leavers.hears())]
        PEERS_FILE.write_text("".join(json.dumps(peer) + "\n" for peer in peers))
        only = ("--tags", "peers") if options.rolled_out else ()
        play("site", "--limit", gateway.name, *only, "--extra-vars", '{"gateway_allow_shrink": true}')

        witness = Program(gateway.host, "forgotten.py", "python3", INTERFACE, f"{number}")
        stack.callback(witness.end)
        leavers.tell(f"{gateway.public_key()} {gateway.host.wan_ipv4}:{PORT} {gateway.tunnel_ipv4}")
        leavers.tell(json.dumps([random.uniform(FIRST, last) for _ in range(number)]))
        leavers.hears("gone")
        runs = [run_seconds(gateway)]
        for _ in range(number):
            since_packet, since_handshake = json.loads(witness.hears())
            print(json.dumps({"since_packet": since_packet, "since_handshake": since_handshake}), file=out, flush=True)
            runs.append(run_seconds(gateway))
        line = json.dumps({"departures": number, "longest_run": max(runs)})
        print(line, file=out)
        print(line, file=sys.stderr)


def run_seconds(gateway: Gateway) -> float:
    """How long the purge's latest run took, its start included. It is under way for a moment: then a little later."""
    while True:
        shown = gateway.host.run(
            f"systemctl show {UNIT} --property=ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic"
        )
        times = {name: int(value) for name, value in re.findall(r"ExecMain(Start|Exit)\w+=(\d+)", shown)}
        if times["Exit"] > times["Start"]:
            return (times["Exit"] - times["Start"]) / 1e6
        time.sleep(1)


if __name__ == "__main__":
    main()
