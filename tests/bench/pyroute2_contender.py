#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One operation with pyroute2's WireGuard class, as its documentation shows it: one call per peer.

    pyroute2_contender.py CASE INTERFACE [FILE] [--sample PEERS]

Prints a JSON object: seconds for the whole operation, without start-up. With a sample only so many of
the calls are made, and their time is scaled to all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from pyroute2 import WireGuard

Call = dict[str, Any]


def read_wanted(path: str) -> dict[str, Call]:
    with open(path) as file:
        return {peer["public_key"]: peer for peer in map(json.loads, file)}


def read_current(device: WireGuard, interface: str) -> dict[str, Call]:
    """info() does not merge a peer that is split over two messages: done here, or such a peer would lose addresses."""
    peers: dict[str, Call] = {}
    for message in device.info(interface):
        for attributes in message.get_attr("WGDEVICE_A_PEERS") or []:
            key = attributes.get_attr("WGPEER_A_PUBLIC_KEY").decode()
            allowed_ips = [ip["addr"] for ip in attributes.get_attr("WGPEER_A_ALLOWEDIPS") or []]
            if key in peers:
                peers[key]["allowed_ips"] += allowed_ips
                continue
            handshake = attributes.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME")
            peers[key] = {
                "public_key": key,
                "preshared_key": attributes.get_attr("WGPEER_A_PRESHARED_KEY").decode(),
                "persistent_keepalive": attributes.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL"),
                "allowed_ips": allowed_ips,
                "endpoint": attributes.get_attr("WGPEER_A_ENDPOINT"),
                "handshake": handshake["tv_sec"],
            }
    return peers


def load(device: WireGuard, interface: str, path: str) -> list[list[Call]]:
    return [[peer] for peer in read_wanted(path).values()]


def reconcile(device: WireGuard, interface: str, path: str) -> list[list[Call]]:
    wanted, current = read_wanted(path), read_current(device, interface)
    calls = [[{"public_key": key, "remove": True}] for key in current.keys() - wanted.keys()]
    for key, peer in wanted.items():
        have = current.get(key)
        if (
            have is None
            or have["preshared_key"] != peer["preshared_key"]
            or set(have["allowed_ips"]) != set(peer["allowed_ips"])
        ):
            calls.append([{**peer, "replace_allowed_ips": True}])
    return calls


def dump(device: WireGuard, interface: str, path: str) -> list[list[Call]]:
    read_current(device, interface)
    return []


def purge(device: WireGuard, interface: str, path: str) -> list[list[Call]]:
    oldest = time.time() - 180
    return [
        [{"public_key": key, "remove": True}, {name: peer[name] for name in SETTINGS}]
        for key, peer in read_current(device, interface).items()
        if peer["endpoint"] and peer["handshake"] < oldest
    ]


SETTINGS = ("public_key", "preshared_key", "persistent_keepalive", "allowed_ips")
DECIDE = {"load": load, "no-op": reconcile, "change 1 %": reconcile, "dump": dump, "purge 10 %": purge}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=DECIDE)
    parser.add_argument("interface")
    parser.add_argument("file", nargs="?", default="")
    parser.add_argument("--sample", type=int)
    options = parser.parse_args()

    started = time.perf_counter()
    device = WireGuard()
    wanted_calls = DECIDE[options.case](device, options.interface, options.file)
    decided = time.perf_counter()
    made = wanted_calls[: options.sample]
    for calls in made:
        for peer in calls:
            device.set(options.interface, peer=peer)
    done = time.perf_counter()
    scale = len(wanted_calls) / len(made) if made else 1
    seconds = decided - started + (done - decided) * scale
    print(json.dumps({"seconds": seconds, "made": len(made), "of": len(wanted_calls)}))


if __name__ == "__main__":
    main()
