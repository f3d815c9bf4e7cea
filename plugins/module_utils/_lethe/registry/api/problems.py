# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error that the API answers with, as RFC 9457 problem details.

A problem names what is at fault and the next step. It never repeats what the request held, not even the name
of a field that is not known: a person may have put a key there.
"""

from __future__ import annotations

import http
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.exceptions import HTTPException

from ..errors import Refused

MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:lethe:problem:"
_RETRY_AFTER = 5  # seconds, where nothing better is known


class RateLimited(Refused):
    slug, title, status = "rate-limited", "Too many requests", 429
    detail = "too many requests; wait as long as Retry-After says"

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after  # seconds


class TooBusy(Refused):
    slug, title, status = "too-busy", "Too many requests at once", 503
    detail = "the registry has as many requests in hand as it takes at once; try again in a moment"


class DatabaseAway(Refused):
    slug, title, status = "database-away", "The database does not answer", 503
    detail = "the database does not answer, nothing was changed; try again in a moment"


class BodyTooLarge(Refused):
    slug, title, status = "body-too-large", "The request is too large", 413
    limit: ClassVar[int] = 64 * 1024  # bytes
    detail = f"a request's body has at most {limit} bytes"


class HeadTooLarge(Refused):
    slug, title, status = "head-too-large", "The request's head is too large", 431
    limit: ClassVar[int] = 16 * 1024  # bytes
    detail = f"a request's line and header fields have at most {limit} bytes together"


class Malformed(Refused):
    slug, title, status = "malformed", "This is not HTTP", 400
    detail = "the request cannot be parsed; speak HTTP/1.1, and HTTPS where the registry has a certificate"


class Invalid(Refused):
    slug, title, status = "invalid-request", "The request is not valid", 422
    detail = "the request's body is not what it should be; see errors, and /v1/openapi.json"


class InternalError(Refused):
    slug, title, status = "internal-error", "The registry failed", 500
    detail = "this is a fault of the registry; its log says where, under the same request id"


class Fault(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="Where: the name of a field, or `body` for the whole.")
    problem: str = Field(description="What is wrong with it.")
    remedy: str = Field(description="What to do.")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="`urn:lethe:problem:` and the kind; `about:blank` for plain HTTP errors.")
    title: str = Field(description="The kind of the problem, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong and what to do.")
    request: str | None = Field(default=None, description="The id under which the registry's log has the request.")
    errors: list[Fault] | None = Field(default=None, description="With `invalid-request`: every field at fault.")


def refusal(error: Refused) -> Problem:
    return Problem(type=_TYPE_PREFIX + error.slug, title=error.title, status=error.status, detail=str(error))


def of_database(error: SQLAlchemyError) -> Exception:
    """What an error of the database is to the one who asked; itself, if it is no matter of waiting."""
    return DatabaseAway() if isinstance(error, (OperationalError, InterfaceError, PoolExhausted)) else error


# What people do about plain HTTP errors.
_REMEDIES = {
    404: "there is nothing at this address; see /v1/openapi.json",
    405: "this address takes another method; see the header Allow, and /v1/openapi.json",
}


def of_http(error: HTTPException) -> Problem:
    if error.status_code == 413:
        return refusal(BodyTooLarge())
    if error.status_code == 400:  # FastAPI: a body that cannot be parsed (not UTF-8, nested without end)
        return of_validation([{"type": "json_invalid", "loc": ("body",)}])
    title = http.HTTPStatus(error.status_code).phrase
    detail = _REMEDIES.get(error.status_code, "see /v1/openapi.json")
    return Problem(type="about:blank", title=title, status=error.status_code, detail=detail)


def of_validation(errors: Iterable[Mapping[str, Any]]) -> Problem:
    """``errors`` as RequestValidationError has them."""
    problem = refusal(Invalid())
    problem.errors = [_fault(error) for error in errors]
    return problem


# pydantic's types of errors: problem and remedy; {} are filled in from the schema's own limits.
_FAULTS = {
    "missing": ("is missing", "give it"),
    "json_invalid": ("is not JSON", "send one JSON object in UTF-8"),
    "string_type": ("is not text", "give text"),
    "string_too_short": ("is too short", "give at least {min_length} characters"),
    "string_too_long": ("is too long", "give at most {max_length} characters"),
    "int_type": ("is not a number", "give a whole number"),
    "greater_than_equal": ("is too small", "give at least {ge}"),
    "less_than_equal": ("is too large", "give at most {le}"),
    "literal_error": ("is none of the known values", "give one of {expected}"),
}
_OBJECT_WANTED = ("is not an object", "send one JSON object, with Content-Type: application/json")


def _fault(error: Mapping[str, Any]) -> Fault:
    kind, context = str(error["type"]), error.get("ctx", {})
    place = [str(part) for part in error["loc"] if part != "body"]
    if kind == "extra_forbidden":
        return Fault(
            field=".".join(["body", *place[:-1]]),
            problem="has a field that this request does not know",
            remedy="leave it out; /v1/openapi.json lists the known ones",
        )
    if kind == "json_invalid":
        place = []  # pydantic gives a position
    if kind == "invalid_value":  # bodies.py: an InvalidValue of ours
        problem, remedy = context["problem"], context["remedy"]
    elif not place and kind not in _FAULTS:
        problem, remedy = _OBJECT_WANTED
    else:
        problem, remedy = _FAULTS.get(kind, ("is not what it should be", "see /v1/openapi.json"))
    if not place and kind == "missing":
        problem, remedy = _OBJECT_WANTED
    return Fault(field=".".join(place) or "body", problem=problem, remedy=remedy.format(**context))


def answer(problem: Problem, request: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """``request``: the request's id."""
    problem.request = request
    return JSONResponse(
        problem.model_dump(exclude_none=True), problem.status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


def headers_of(error: Refused) -> dict[str, str]:
    """The header fields that HTTP wants with an error."""
    if isinstance(error, RateLimited):
        return {"retry-after": str(error.retry_after)}
    if error.status == 503:
        return {"retry-after": str(_RETRY_AFTER)}
    return {"www-authenticate": "Bearer"} if error.status == 401 else {}


def documented(*errors: type[Refused]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's ``responses`` for the errors that an operation can answer with."""
    by_status: dict[int | str, list[type[Refused]]] = {}
    for error in sorted(errors, key=lambda each: (each.status, each.slug)):
        by_status.setdefault(error.status, []).append(error)
    return {
        status: {"model": Problem, "description": "\n".join(f"- `{each.slug}`: {each.detail}" for each in each_status)}
        for status, each_status in by_status.items()
    }
