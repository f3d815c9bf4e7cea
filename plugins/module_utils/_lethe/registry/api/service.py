# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every request needs: the store, off the event loop, and what is kept about requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

from starlette.requests import Request

from .. import history, migrations
from ..figures import Counter, Figures
from ..history import Position
from ..store import Store, Transaction, UseCase
from .metrics import Metrics
from .rates import Rates

T = TypeVar("T")

_READERS = 6  # threads; with the writers and the sequencer they fit into PostgreSQL's pool
_READY_WITHIN = 5.0  # seconds that the database may take to answer


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What each of the registry's servers has. Belongs to one event loop."""

    store: Store
    rates: Rates
    readers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_READERS, thread_name_prefix="registry-reader")
    )

    async def write(self, use_case: UseCase[T]) -> T:
        """The use case's result, once it is durable."""
        return await asyncio.wrap_future(self.store.submit(use_case))

    async def read(self, use_case: UseCase[T]) -> T:
        return await self.in_thread(partial(self.store.read, use_case))

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.readers, work)

    async def is_ready(self) -> bool:
        """Whether the database answers and has this version's schema."""
        looking = self.in_thread(partial(migrations.is_current, self.store.engine))
        return await asyncio.wait_for(looking, _READY_WITHIN)

    def close(self) -> None:
        """Let the threads end. The store stays open: it is its opener's."""
        self.readers.shutdown(cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Service(Backend):
    """The API's."""

    metrics: Metrics
    counter: Counter = field(default_factory=Counter)
    exports: set[object] = field(default_factory=set)  # peers files on their way

    @classmethod
    def over(cls, store: Store) -> Service:
        """Raises InvalidValue."""
        return cls(store=store, rates=Rates(store.environment.settings.server), metrics=Metrics())

    def standing(self, tx: Transaction) -> tuple[Position, Figures]:
        """Where the registry stands, in numbers."""
        return history.position(tx), self.counter.figures(tx)


def backend_of(request: Request) -> Backend:
    return cast(Backend, request.app.state.service)


def service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)
