# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP API as an ASGI application."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from ...version import VERSION
from ..errors import DatabaseUnusable, Refused
from . import problems
from .clients import router as clients
from .gateways import router as gateways
from .health import health, metrics
from .metrics import RequestMetrics
from .observer import Observer
from .operators import router as operators
from .problems import DatabaseAway
from .service import Backend, Service

_DESCRIPTION = """\
The central inventory of keys and tunnel addresses of a fleet of WireGuard gateways.

- **Nothing that identifies anybody is ever in a URL**, because URLs end in the logs of proxies: keys and accounts
  travel in bodies, also where something is only looked at (`POST /v1/accounts/show`).
- Every request but those for health and metrics carries a credential, `Authorization: Bearer lethe_...`. There are
  three kinds, for clients, operators and gateways, and none can do another's work.
- Every error is a problem detail (RFC 9457, `application/problem+json`): its `type` is stable, its `detail` says what
  to do, and it never repeats what the request held.
- Every request that changes something can be sent again, should its answer be lost; `changed` says whether it did
  anything. (One that issues a credential issues another one.)
- A body has at most 64 KiB. Requests are limited for each credential; `Retry-After` says how long to wait.
"""


_AT_ONCE = 1000  # requests
_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
_ERRORS = (Refused, RequestValidationError, HTTPException, SQLAlchemyError, DatabaseUnusable, Exception)


def application(service: Service | None, *, with_metrics: bool = True) -> FastAPI:
    """The API; without a service it can only describe itself. ``observed`` belongs around it."""
    app = FastAPI(
        title="Lethe registry",
        version=VERSION,
        description=_DESCRIPTION,
        license_info={"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        openapi_url=None,  # below, as a route like the others
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the path
        generate_unique_id_function=_operation_id,
        telemetry=_TELEMETRY,
        exception_handlers=dict.fromkeys(_ERRORS, _answer),
    )
    app.state.service = service

    @app.get("/v1/openapi.json", include_in_schema=False)
    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())

    _include(app, clients, operators, gateways, health, *([metrics] if with_metrics else []))
    describe = app.openapi
    app.openapi = lambda: _with_problems(describe())  # type: ignore[method-assign]
    return app


def metrics_application(service: Service) -> FastAPI:
    """/metrics, /healthz and /readyz alone, for an address of their own."""
    return application_of(service, health, metrics)


def application_of(service: Backend, *routers: APIRouter) -> FastAPI:
    """These routes alone, which do not describe themselves."""
    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_TELEMETRY,
        exception_handlers=dict.fromkeys(_ERRORS, _answer),
    )
    app.state.service = service
    _include(app, *routers)
    return app


def observed(app: FastAPI, metrics: RequestMetrics, at_once: int = _AT_ONCE) -> ASGIApp:
    """``at_once``: requests."""
    return Observer(app, metrics, at_once)


def _include(app: FastAPI, *routers: APIRouter) -> None:
    """Also keeps which methods each path takes: Starlette would name those of its first route only."""
    methods: defaultdict[str, set[str]] = defaultdict(set)
    for router in routers:
        app.include_router(router)
    for route in (*app.routes, *(route for router in routers for route in router.routes)):
        if isinstance(route, APIRoute):
            methods[route.path] |= route.methods or set()
    app.state.methods = {path: ", ".join(sorted(taken)) for path, taken in methods.items()}


def _operation_id(route: APIRoute) -> str:
    """``registrations-rotate-post``: from the path, so that it stays when a function is renamed."""
    path = route.path.removeprefix("/v1/").strip("/").replace("/", "-")
    return f"{path}-{min(route.methods or ()).lower()}"


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI documents a model as application/json whatever it is sent as."""
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "application/json" in response.get("content", {}):
                    response["content"] = {problems.MEDIA_TYPE: response["content"].pop("application/json")}
    return document


async def _answer(request: Request, error: Exception) -> JSONResponse:
    headers: Mapping[str, str] | None = None
    if isinstance(error, SQLAlchemyError):
        error = problems.of_database(error)
    elif isinstance(error, DatabaseUnusable):  # it was open: the process is stopping
        error = DatabaseAway()
    if isinstance(error, Refused):
        problem, headers = problems.refusal(error), problems.headers_of(error)
    elif isinstance(error, RequestValidationError):
        problem = problems.of_validation(error.errors())
    elif isinstance(error, HTTPException):
        problem = problems.of_http(error)
        headers = (
            {"allow": request.app.state.methods[request.scope["path"]]} if error.status_code == 405 else error.headers
        )
    else:
        raise error  # the observer logs and answers it
    return problems.answer(problem, str(request.scope["state"]["request_id"]), headers)
