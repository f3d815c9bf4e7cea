# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For load balancers, service managers and Prometheus: no credential is needed, and nobody is mentioned."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from ..errors import DatabaseUnusable
from .bodies import Health
from .metrics import CONTENT_TYPE
from .problems import DatabaseAway, TooBusy, documented
from .service import Service, backend_of, service_of

health = APIRouter(tags=["health"])
metrics = APIRouter(tags=["health"])


@health.get("/healthz", responses=documented(TooBusy))
async def healthz() -> Health:
    """The process is alive."""
    return Health(status="ok")


@health.get("/readyz", responses=documented(DatabaseAway, TooBusy))
async def readyz(request: Request) -> Health:
    """The database answers, and has the schema of this version."""
    try:
        ready = await backend_of(request).is_ready()
    except (SQLAlchemyError, asyncio.TimeoutError):
        raise DatabaseAway from None
    if not ready:
        raise DatabaseAway("the database has another version's schema; run: lethe registry migrate")
    return Health(status="ok")


@metrics.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Metrics in Prometheus' text format.",
            "content": {CONTENT_TYPE: {"schema": {"type": "string"}}},
        },
        **documented(TooBusy),
    },
)
async def get_metrics(request: Request) -> Response:
    """Numbers only, for Prometheus."""
    return Response(await metrics_text(service_of(request)), media_type=CONTENT_TYPE)


async def metrics_text(service: Service) -> bytes:
    try:
        standing = await service.read(service.standing)
    except (SQLAlchemyError, DatabaseUnusable):
        standing = None
    return service.metrics.text(standing)
