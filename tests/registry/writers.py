# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that write to a registry as fast as they can, tell of every request before and after, and may be killed.

Afterwards it can be said of each account what must be there: all that was answered, and the one request that was not,
wholly or not at all.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from registry.support import Registry
from sqlalchemy.exc import SQLAlchemyError

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.sequencer import Sequencer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey

CHECKOUT = Path(__file__).resolve().parents[2]
TRIES, DONE, FAILED = "tries", "done", "failed"

# Of an account: each key, the key that it replaces, and whether it is being replaced.
Keys = dict[PublicKey, tuple[PublicKey | None, bool]]


def after(keys: Keys, request: str, *involved: PublicKey) -> Keys:
    """What an account has after a request."""
    keys = dict(keys)
    if request == "register":
        keys[involved[0]] = (None, False)
    elif request == "begin":
        old, new = involved
        keys[old] = (keys[old][0], True)
        keys[new] = (old, False)
    elif request in ("confirm", "delete"):
        gone = {keys[involved[0]][0]}
        if request == "delete":
            gone |= {involved[0]} | {each for each, (replaces, _) in keys.items() if replaces == involved[0]}
        keys = {
            each: (None if replaces in gone else replaces, leaves)
            for each, (replaces, leaves) in keys.items()
            if each not in gone
        }
    return keys


@dataclass
class Account:
    """What is known of an account from what its writer told."""

    answered: Keys = field(default_factory=dict)
    addresses: dict[PublicKey, tuple[str, ...]] = field(default_factory=dict)
    open: tuple[str, tuple[PublicKey, ...]] | None = None  # the request that was not answered

    def hear(self, moment: str, request: str, involved: tuple[PublicKey, ...], addresses: tuple[str, ...]) -> None:
        if moment != DONE:
            self.open = (request, involved)
            return
        self.open = None
        self.answered = after(self.answered, request, *involved)
        if addresses:
            self.addresses[involved[-1]] = addresses

    def check(self, registry: Registry, name: str) -> None:
        rows = registry.of(name)
        actual: Keys = {each: (row.replaces, row.leaves_at is not None) for each, row in rows.items()}
        possible = [self.answered]
        if self.open is not None:
            possible.append(after(self.answered, self.open[0], *self.open[1]))
        assert actual in possible, "an answered request is not there, or one that was not answered is there in part"
        for each, row in rows.items():
            assert tuple(row.addresses) == self.addresses.get(each, tuple(row.addresses))


class Writer:
    """A process with several threads, each with an account of its own."""

    def __init__(self, url: str, name: str, threads: int) -> None:
        self.accounts: dict[str, Account] = {}
        self.answers = 0
        self.failures: list[str] = []
        self._ours, theirs = _context().Pipe(duplex=False)
        self.process = _start(write_for_ever, url, name, threads, theirs)
        theirs.close()
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        while True:
            try:
                moment, account, request, involved, addresses = self._ours.recv()
            except EOFError:  # it has ended; each message is one write to a pipe, so that none is there in part
                return
            self.accounts.setdefault(account, Account()).hear(
                moment, request, tuple(map(PublicKey, involved)), addresses
            )
            self.answers += moment == DONE
            if moment == FAILED:
                self.failures += addresses

    def kill(self) -> None:
        """SIGKILL, at whatever it is."""
        self.process.kill()
        self.process.join()
        self._listening.join()
        self._ours.close()

    def check(self, registry: Registry) -> None:
        for name, account in self.accounts.items():
            account.check(registry, name)


def write_for_ever(url: str, name: str, threads: int, tell: Connection) -> None:
    """In the process: ends only when it is killed, or when nobody listens."""
    registry = Registry.open(url, device_limit=1000)
    lock = threading.Lock()

    def told(*message: Any) -> None:
        with lock:
            try:
                tell.send(message)
            except BrokenPipeError:
                os._exit(1)

    for n in range(threads):
        threading.Thread(target=_requests, args=(registry, f"{name}-{n}", told)).start()


def _requests(registry: Registry, name: str, told: Callable[..., None]) -> None:
    chosen = random.Random(name)
    for generation in range(1_000_000):
        account = f"{name}-{generation}"
        keys: Keys = {}
        request, involved = "create", ()
        try:
            while True:
                told(TRIES, account, request, tuple(map(bytes, involved)), ())
                addresses = _carry_out(registry, account, request, involved)
                told(DONE, account, request, tuple(map(bytes, involved)), addresses)
                keys = after(keys, request, *involved)
                request, involved = _next_request(keys, chosen)
        except SQLAlchemyError as error:
            # Whether it happened is open for ever: go on with another account.
            told(FAILED, account, request, tuple(map(bytes, involved)), (str(error),))
            time.sleep(0.05)


def _next_request(keys: Keys, chosen: random.Random) -> tuple[str, tuple[PublicKey, ...]]:
    new = PublicKey(secrets.token_bytes(32))
    settled = [each for each, (replaces, leaves) in keys.items() if replaces is None and not leaves]
    begun = [each for each, (replaces, _) in keys.items() if replaces is not None]
    choice = chosen.random()
    if choice < 0.5 or not keys:
        return "register", (new,)
    if choice < 0.7 and settled:
        return "begin", (chosen.choice(settled), new)
    if choice < 0.85 and begun:
        return "confirm", (chosen.choice(begun),)
    return "delete", (chosen.choice(list(keys)),)


def _carry_out(registry: Registry, account: str, request: str, involved: tuple[PublicKey, ...]) -> tuple[str, ...]:
    if request == "create":
        registry.create(account)
    elif request == "register":
        return tuple(registry.register(account, involved[0])[0].addresses)
    elif request == "begin":
        return tuple(registry.begin(account, *involved)[0].addresses)
    elif request == "confirm":
        registry.confirm(account, involved[0])
    else:
        registry.delete(account, involved[0])
    return ()


def sequence_for_ever(url: str, alive: Connection) -> None:
    """In a process: a sequencer, until it is killed, or nobody is there any more."""
    registry = Registry.open(url)
    Sequencer(registry.store.engine)
    try:
        alive.recv()
    except EOFError:
        os._exit(0)


@contextmanager
def sequencer_process(url: str) -> Iterator[BaseProcess]:
    theirs, ours = _context().Pipe(duplex=False)
    process = _start(sequence_for_ever, url, theirs)
    theirs.close()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        ours.close()


def _context() -> multiprocessing.context.ForkServerContext:
    """Processes start in milliseconds: they are copies of one that has everything loaded, and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["registry.writers", "pytest"])
    # The server does not take over sys.path.
    os.environ["PYTHONPATH"] = f"{CHECKOUT}/.ansible/collections:{CHECKOUT}/tests"
    return context


def _start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    process = _context().Process(target=target, args=arguments, daemon=True)
    process.start()
    return process
