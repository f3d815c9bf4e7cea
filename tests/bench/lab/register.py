# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the client of the lab: registers keys, and is told by watch.py when the gateways' kernels have them.

    register.py API-PORT GATEWAYS

Prints the port at which it listens. Standard input: first a line with the client's credential, then one for each key.
For a key it prints ``answered`` when the registry has answered, and then the seconds from there until all gateways had
it.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import time


def main(api_port: str, gateways: str) -> None:
    token = sys.stdin.readline().strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    context = ssl.create_default_context(cafile="/run/registry.crt")
    with socket.create_server(("", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        told = []
        for _ in range(int(gateways)):
            gateway, _address = listening.accept()
            gateway.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            told.append(gateway.makefile("rw"))
            while told[-1].readline() == "hello\n":  # so it measures how long its word is on its way
                told[-1].write("hello\n")
                told[-1].flush()
    for line in sys.stdin:
        key = line.strip()
        api = http.client.HTTPSConnection("registry1", int(api_port), context=context)
        api.request("POST", "/v1/registrations", json.dumps({"public_key": key}), headers)
        answer = api.getresponse()
        answer.read()
        begun = time.monotonic()
        if answer.status != 201:
            raise SystemExit(f"the registry answered {answer.status}")
        print("answered", flush=True)
        api.close()
        if any(gateway.readline().strip() != key for gateway in told):
            raise SystemExit("a gateway has spoken of another key, or is gone")
        print(time.monotonic() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
