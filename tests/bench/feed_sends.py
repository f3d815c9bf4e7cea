#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a delivery costs at least: bare sends over the loopback, one to each of many connections, again and again.

    feed_sends.py CONNECTIONS BYTES ROUNDS PROCESSOR

Another process, which stays off PROCESSOR, reads. Prints a JSON object: the microseconds of processor time that one
send took, which on the loopback includes the kernel's work of receiving it.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import sys
import time

_PAUSE = 0.1  # seconds between rounds: the readers have read it all


def read_all(port: int, connections: int) -> None:
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            selector.register(socket.create_connection(("127.0.0.1", port)), selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if not key.fileobj.recv(65536):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def main(connections: int, size: int, rounds: int, processor: int) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listening = socket.create_server(("127.0.0.1", 0), backlog=connections)
    others = os.sched_getaffinity(0) - {processor}
    reader = os.fork()
    if not reader:
        os.sched_setaffinity(0, others)
        read_all(listening.getsockname()[1], connections)
        os._exit(0)
    os.sched_setaffinity(0, {processor})
    readers = [listening.accept()[0] for _ in range(connections)]
    content = bytes(size)
    spent = 0.0
    for _ in range(rounds):
        time.sleep(_PAUSE)
        before = time.process_time()
        for each in readers:
            each.send(content)
        spent += time.process_time() - before
    for each in readers:
        each.close()
    os.waitpid(reader, 0)
    print(json.dumps({"us": spent / rounds / connections * 1e6}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
