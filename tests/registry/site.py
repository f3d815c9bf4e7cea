# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry's API behind a real HTTP server on loopback, and callers that hold it to what is promised of every
answer. Whatever passes through them that names somebody is remembered; no log may have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import uvloop
from registry.support import MASTER, Clock, Registry, leading, until

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, logs
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api.app import application, observed
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api.service import Service
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.server import HttpServer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import ServerSettings, Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Environment, open_store
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.tls import Tls
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.vault import Vault

PEER = "127.77.1.9"
"""Where the callers' requests come from: an address that nothing else has."""

NO_AUTHORITY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody, for callers without TLS: to read the system's authorities takes longer than many a test."""

_NAMING = {
    *("account", "public_key", "successor", "replaces", "token", "label", "allowed_ips"),
    *("preshared_key", "sealed_preshared_key", "one_time_key"),
}
_PROBLEM = {"type", "title", "status", "detail", "request"}


def named_in(value: Any, name: str = "") -> Iterator[str]:
    """The texts in a JSON value that name somebody."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from named_in(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from named_in(each, name)
    elif isinstance(value, str) and name in _NAMING and len(value) > 3:
        yield value.partition("/")[0] if name == "allowed_ips" else value


class Site:
    """A registry that is served."""

    def __init__(
        self, registry: Registry, url: str, service: Service, server: HttpServer, verify: ssl.SSLContext
    ) -> None:
        self.registry = registry
        self.url = url
        self.service = service
        self.server = server
        self.named = {PEER}
        self.log = io.StringIO()
        self.answered: set[str] = set()  # requests
        self._verify = verify
        self._callers: list[Caller] = []

    def caller(self, token: str | None = None, peer: str = PEER) -> Caller:
        """Somebody with that token, or none."""
        if token:
            self.named.add(token)
        transport = httpx.HTTPTransport(local_address=peer, verify=self._verify)
        self._callers.append(Caller(self, token, transport))
        return self._callers[-1]

    def client(self, account: str = "alice") -> Caller:
        """A client of that account, which is made if it is not there."""
        self.named.add(account)
        self.registry.create(account)
        return self.caller(self.registry.token(account))

    def operator(self, label: str = "control panel") -> Caller:
        return self._staff("operator", label)

    def gateway(self, label: str = "gateway one") -> Caller:
        return self._staff("gateway", label)

    def log_lines(self) -> list[dict[str, Any]]:
        """What is in the log, with the line of each answered request: it is written a moment after the answer."""

        def lines() -> list[dict[str, Any]]:
            return [json.loads(line) for line in self.log.getvalue().splitlines()]

        until(lambda: self.answered <= {line.get("request") for line in lines() if line["message"] == "answered"})
        return lines()

    def close(self) -> None:
        for caller in self._callers:
            caller.close()

    def _staff(self, kind: str, label: str) -> Caller:
        self.named.add(label)
        return self.caller(self.registry.store.write(lambda tx: credentials.issue(tx, kind, label)))


class Caller(httpx.Client):
    """Looks at each answer for what must be so of every one."""

    def __init__(self, site: Site, token: str | None, transport: httpx.HTTPTransport) -> None:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        super().__init__(base_url=site.url, headers=headers, transport=transport, timeout=30)
        self.site = site
        self.token = token

    def ask(self, path: str, **body: Any) -> httpx.Response:
        """POST with a JSON body."""
        return self.post(path, json=body)

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        asked = set(_named_in_body(request))
        self.site.named |= asked
        response = super().send(request, **options)
        assert response.headers["cache-control"] == "no-store"
        self.site.answered.add(response.headers["request-id"])
        told = response.read()
        if response.is_error:
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert set(problem) - {"errors"} == _PROBLEM
            assert problem["status"] == response.status_code
            assert problem["request"] == response.headers["request-id"]
            assert not [name for name in asked if name in response.text], "a problem repeats what was asked"
        elif response.headers["content-type"] == "application/json" and "openapi" not in request.url.path:
            self.site.named |= set(named_in(json.loads(told)))
        return response


def _named_in_body(request: httpx.Request) -> Iterator[str]:
    if "json" in request.headers.get("content-type", ""):
        # A body that comes in pieces, or is none, names nobody.
        with contextlib.suppress(httpx.RequestNotRead, ValueError, RecursionError):
            yield from named_in(json.loads(request.content))


def slug(response: httpx.Response) -> str:
    """Which problem an answer is."""
    return str(response.json()["type"]).rpartition(":")[2]


@contextmanager
def served(
    database: str,
    clock: Clock,
    server: dict[str, Any] | None = None,
    verify: ssl.SSLContext = NO_AUTHORITY,
    **settings: Any,
) -> Iterator[Site]:
    """A site over a database that has its schema. When it ends its logs are looked through: nobody is in them."""
    randbelow = settings.pop("randbelow", None)
    edges = {"clock": clock} if randbelow is None else {"clock": clock, "randbelow": randbelow}
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    made = Settings(database=database, server=ServerSettings(**(server or {})), **settings)
    tls = Tls(made.server) if made.server.tls_certificate else None
    registry = Registry(open_store(Environment.of(made, Vault(MASTER), **edges)), clock)
    service = Service.over(registry.store)
    http = HttpServer(observed(application(service), service.metrics), listening, made.server, tls)
    site = Site(registry, f"{'https' if tls else 'http'}://localhost:{port}", service, http, verify)
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=_run, args=(http, loop), name="site")
    with logged(site.log), closing(registry), leading(registry), closing(service), closing(listening):
        thread.start()
        try:
            yield site
        finally:
            site.close()
            loop.call_soon_threadsafe(http.stop)
            thread.join()
    assert_silent(site.log.getvalue(), site.named)


def assert_silent(log: str, named: set[str]) -> None:
    """A log that names nobody."""
    found = [line for line in log.splitlines() for name in named if name in line or json.dumps(name)[1:-1] in line]
    assert not found, "a log names somebody:\n" + "\n".join(found)


def _run(server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(logs.on_loop_exception)
    try:
        loop.run_until_complete(server.serve())
    finally:
        loop.close()


@contextmanager
def logged(stream: io.StringIO) -> Iterator[None]:
    """Everything that anybody logs, down to the last detail, as the server would write it."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    handler.addFilter(lambda record: record.name.partition(".")[0] not in ("httpx", "httpcore"))  # the callers' side
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


Serve = Callable[..., Site]
