# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The feed as a process of its own: listens, follows, serves; ends without losing what gateways reported."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import TextIO

import uvloop

from ...wireguard.errors import InvalidValue
from .. import logs, migrations, serving
from ..api.app import application_of, observed
from ..api.health import health
from ..api.protocol import BoundedProtocol
from ..errors import DatabaseUnusable
from ..server import HttpServer, listen, refuse_open_http, reload_certificate, run
from ..settings import Settings
from ..store import Environment, open_store
from ..tls import Tls
from ..vault import Vault
from .keys import CurrentSigner
from .routes import metrics, router
from .service import FeedService
from .tail import Tail

_OTHERS = 1000  # requests at once beside the streams
_AGAIN = 2.0  # seconds

_log = logging.getLogger(__name__)


class FeedProtocol(BoundedProtocol):
    """Gives the application the connection, for the hub to write to."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


def serve(settings: Settings, log: TextIO | None = None) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the certificate and the signing key again. ``log``: standard
    output, or a test's. Raises InvalidValue and DatabaseUnusable.
    """
    refuse_open_http(settings.feed)
    with ExitStack() as stack:
        tls = Tls(settings.feed) if settings.feed.tls_certificate else None
        signer = CurrentSigner(settings.feed.signing_key)
        database = settings.feed.database or settings.database
        environment = Environment.of(
            dataclasses.replace(settings, database=database), Vault.from_file(settings.secrets_file)
        )
        store = open_store(environment)
        stack.callback(store.close)
        if not migrations.is_current(store.engine):
            raise DatabaseUnusable("the database has another version's schema; upgrade it with: lethe registry migrate")
        stack.enter_context(serving.serving(store.engine))
        service = FeedService.over(store, settings.feed, signer)
        stack.callback(service.close)
        sockets = listen(stack, settings.feed)
        logs.begin(log)
        loop = uvloop.new_event_loop()
        stack.callback(loop.close)
        loop.set_exception_handler(logs.on_loop_exception)
        loop.run_until_complete(_serve(service, sockets, tls))
    _log.info("stopped")


async def _serve(service: FeedService, sockets: list[socket.socket], tls: Tls | None) -> None:
    def reload() -> None:
        reload_certificate(tls)
        try:
            service.reload()
        except InvalidValue as error:
            _log.error("the signing key was not replaced: %s", error)
        else:
            _log.info("the signing key was read again")

    async with following(service):
        await run(servers_of(service, sockets, tls), reload, service.hub.close)


def servers_of(service: FeedService, sockets: list[socket.socket], tls: Tls | None) -> list[HttpServer]:
    """On sockets that listen: the feed's, and that of the metrics if they have one."""
    settings = service.settings
    feed = application_of(service, router, health, *([metrics] if len(sockets) == 1 else []))
    observer = observed(feed, service.metrics, settings.streams + _OTHERS)
    servers = [HttpServer(observer, sockets[0], settings, tls, FeedProtocol)]
    for apart in sockets[1:]:
        numbers = application_of(service, health, metrics)
        servers.append(HttpServer(observed(numbers, service.metrics), apart, settings, None))
    return servers


@asynccontextmanager
async def following(service: FeedService) -> AsyncIterator[None]:
    """What runs beside the requests. In the end nothing of what gateways reported is lost."""
    tail = Tail(
        service.store,
        service.signer,
        service.settings.heartbeat,
        service.publish,
        service.restart,
        service.metrics.reachable,
    )
    tasks = [asyncio.create_task(_for_ever(work)) for work in (service.keep_reports, service.check_credentials)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.to_thread(tail.stop)
        await service.store_reports()


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Begin it again after a failure that nobody has thought of: a stream whose credential was withdrawn must not go on
    because of one.
    """
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, it is logged
            _log.error("what runs beside the requests has failed; it begins again", exc_info=error)
            await asyncio.sleep(_AGAIN)
