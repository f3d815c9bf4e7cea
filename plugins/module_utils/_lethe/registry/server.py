# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry as a process: listens, serves, tidies; ends without losing an answer."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TextIO

import uvicorn
import uvloop
from starlette.types import ASGIApp

from .. import systemd
from ..wireguard.errors import InvalidValue
from . import logs, migrations, serving
from .api.app import application, metrics_application, observed
from .api.protocol import BoundedProtocol
from .api.service import Service
from .errors import DatabaseUnusable
from .housekeeping import Housekeeper
from .sequencer import Sequencer
from .settings import ServerSettings, Settings
from .store import Environment, Store, open_store
from .tls import Tls
from .vault import Vault

_KEEP_ALIVE = 75  # seconds; longer than the 60 of the usual proxies, so that they close first
_GRACE = 30  # seconds that requests in hand have to finish
_BACKLOG = 2048
_TICK = 1.0  # seconds
_SWITCH = 0.0005  # seconds that a thread may go on while others could

_log = logging.getLogger(__name__)


def serve(settings: Settings, log: TextIO | None = None) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the certificate again. ``log``: standard output, or a
    test's. Raises InvalidValue and DatabaseUnusable.
    """
    refuse_open_http(settings.server)
    with ExitStack() as stack:
        tls = Tls(settings.server) if settings.server.tls_certificate else None
        environment = Environment.of(settings, Vault.from_file(settings.secrets_file))
        store = open_store(environment)
        stack.callback(store.close)
        if not migrations.is_current(store.engine):
            raise DatabaseUnusable("the database has another version's schema; upgrade it with: lethe registry migrate")
        stack.enter_context(serving.serving(store.engine))
        service = Service.over(store)
        stack.callback(service.close)
        sockets = listen(stack, settings.server)
        logs.begin(log)
        # A thread that has waited for the database would else wait for another thread, 5 ms after each statement.
        sys.setswitchinterval(_SWITCH)
        stack.enter_context(_background(store, service))
        loop = uvloop.new_event_loop()
        stack.callback(loop.close)
        loop.set_exception_handler(logs.on_loop_exception)
        loop.run_until_complete(_serve(service, settings.server, sockets, tls))
    _log.info("stopped")


async def _serve(service: Service, settings: ServerSettings, sockets: list[socket.socket], tls: Tls | None) -> None:
    apart = len(sockets) > 1
    api = observed(application(service, with_metrics=not apart), service.metrics)
    servers = [HttpServer(api, sockets[0], settings, tls)]
    if apart:
        servers.append(HttpServer(observed(metrics_application(service), service.metrics), sockets[1], settings, None))
    await run(servers, partial(reload_certificate, tls), lambda: None)


async def run(servers: list[HttpServer], reload: Callable[[], None], stopping: Callable[[], None]) -> None:
    """Until a signal says to stop: the first server is the one that counts, the second has the metrics."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        _log.info("stopping: no new connections, requests in hand are finished")
        systemd.notify("STOPPING=1")
        for server in servers:
            server.stop()
        stopping()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    running = asyncio.gather(*(server.serve() for server in servers))
    while not all(server.started for server in servers) and not running.done():
        await asyncio.sleep(0.01)
    for server, what in zip(servers, ("https" if servers[0].tls else "http", "metrics"), strict=False):
        _log.info("serving %s on port %d", what, server.port)
    # What is there now stays; looking through it again and again for garbage would hold up requests.
    gc.collect()
    gc.freeze()
    systemd.notify("READY=1")
    await running


class HttpServer(uvicorn.Server):
    """uvicorn on one socket, with our bounds, without its logs and signals."""

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        settings: ServerSettings,
        tls: Tls | None,
        protocol: type[BoundedProtocol] = BoundedProtocol,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_GRACE,
                ssl_context_factory=None if tls is None else lambda *_: tls.context,
            )
        )
        self._listening = listening
        self._stopping = asyncio.Event()
        self.tls = tls

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve(sockets or [self._listening])

    async def main_loop(self) -> None:
        """Until it is stopped. uvicorn's own looks ten times a second whether it is: most of an idle server's work."""
        while not await self.on_tick(0):  # it sets the date of answers
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Called in the event loop."""
        self.should_exit = True
        self._stopping.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _background(store: Store, service: Service) -> Iterator[None]:
    """What runs beside the requests, and ends before the store is closed."""
    with ExitStack() as stack:
        if store.engine.dialect.name == "postgresql":
            stack.callback(Sequencer(store.engine).stop)
        stack.callback(Housekeeper(store, service.metrics.tidied).stop)
        yield


def reload_certificate(tls: Tls | None) -> None:
    if tls is None:
        return
    try:
        tls.reload()
    except InvalidValue as error:
        _log.error("the certificate was not replaced: %s", error)
    else:
        _log.info("the certificate was read again")


def refuse_open_http(settings: ServerSettings) -> None:
    """Credentials and preshared keys must not cross a network in the clear by mistake."""
    if settings.tls_certificate or settings.trusted_proxies or _is_loopback(settings.host):
        return
    raise InvalidValue(
        f"{settings.name}.tls_certificate",
        "is missing, and the registry would listen beyond this host",
        f"give a certificate and its key; or name in {settings.name}.trusted_proxies the proxy in front that has them; "
        f"or let {settings.name}.host be 127.0.0.1",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(stack: ExitStack, settings: ServerSettings) -> list[socket.socket]:
    """The server's socket, and that of the metrics if they have one."""
    wanted = [(f"{settings.name}.", settings.host, settings.port)]
    if settings.metrics_port >= 0:
        wanted.append((f"{settings.name}.metrics_", settings.metrics_host, settings.metrics_port))
    return [stack.enter_context(_bound(*each)) for each in wanted]


def _bound(prefix: str, host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidValue(
            f"{prefix}host", f"is not usable: {error.strerror}", "give an address of this host"
        ) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" is every address of this host, as the operator means it.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise InvalidValue(
            f"{prefix}port",
            f"cannot be listened on: {error.strerror}",
            f"see who does with: ss -tlnp sport = :{port}",
        ) from None
    return listening
