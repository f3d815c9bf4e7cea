# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every test of the API also looks through its logs (registry.site). Here: what is in a log, and that the looking
finds what is there.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from made_up import key
from registry.site import PEER, Site, assert_silent, named_in

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import logs

OURS = "ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.test"


@pytest.fixture
def database() -> str:
    return "sqlite"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Logging as the server sets it up."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    stream = io.StringIO()
    logs.begin(stream)
    yield stream
    root.handlers[:], root.level, logging.raiseExceptions = before
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_request_is_one_line_of_numbers_and_templates(site: Site) -> None:
    answer = site.client().ask("/v1/registrations", public_key=key(1))
    (line,) = [line for line in site.log_lines() if line.get("route")]
    milliseconds = line.pop("ms")
    del line["time"]

    assert line == {
        "level": "info",
        "message": "answered",
        "route": "/v1/registrations",
        "method": "POST",
        "status": 201,
        "request": answer.headers["request-id"],
    }
    assert 0 < milliseconds < 30_000


def test_the_id_of_a_request_is_not_what_the_client_says(site: Site) -> None:
    answer = site.caller().get("/healthz", headers={"request-id": "my-own", "x-request-id": "my-own"})
    assert answer.headers["request-id"] != "my-own"
    assert "my-own" not in str(site.log_lines())


def test_what_passes_through_a_caller_is_looked_for(site: Site) -> None:
    site.operator("control panel").ask("/v1/accounts", account="alice@example.org")
    client = site.client("alice@example.org")
    registered = client.ask("/v1/registrations", public_key=key(1)).json()

    addresses = {text.partition("/")[0] for text in registered["allowed_ips"]}
    assert {"alice@example.org", "control panel", key(1), client.token, PEER, *addresses} <= site.named
    assert_silent(site.log.getvalue(), site.named)
    for name in site.named:
        with pytest.raises(AssertionError):
            assert_silent(json.dumps({"message": f"hello {name}"}), site.named)


def test_names_are_found_wherever_they_are() -> None:
    value = {"registrations": [{"public_key": "a" * 44, "allowed_ips": ["10.1.2.3/32"], "changed": True}]}
    assert set(named_in(value)) == {"a" * 44, "10.1.2.3"}


def test_others_messages_lose_what_is_filled_in(log: io.StringIO) -> None:
    logging.getLogger("sqlalchemy.pool").warning("a row %s of %s", key(1), "alice")
    logging.getLogger("uvicorn.error").error(OSError(key(1)))
    logging.getLogger(OURS).info("removed %d keys", 3)

    assert [(line["message"], line.get("logger")) for line in lines(log)] == [
        ("a row %s of %s", "sqlalchemy.pool"),
        ("OSError", "uvicorn.error"),
        ("removed 3 keys", None),
    ]


def test_an_exception_is_its_types_and_places(log: io.StringIO) -> None:
    def fail(public_key: str) -> None:
        try:
            {}[public_key]
        except KeyError as error:
            raise ValueError(f"no {public_key}") from error

    try:
        fail(key(1))
    except ValueError:
        logging.getLogger(OURS).exception("failed")
    (line,) = lines(log)

    assert [link["type"] for link in line["failure"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert all("test_logs.py:" in place for link in line["failure"] for place in link["at"])
    assert key(1) not in log.getvalue()


def test_what_nobody_caught_is_logged_the_same_way(log: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError(key(1))

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
        sys.unraisablehook(SimpleNamespace(exc_value=error))  # type: ignore[arg-type]
        loop = asyncio.new_event_loop()
        logs.on_loop_exception(loop, {"message": PEER, "exception": error, "transport": PEER})
        loop.close()

    assert [line["message"] for line in lines(log)] == [
        "a thread failed",
        "the process failed",
        "an exception could not be raised",
        "the event loop caught an exception",
    ]
    assert all(line["failure"][0]["type"] == "builtins.ValueError" for line in lines(log))
    assert_silent(log.getvalue(), {key(1), PEER})


def test_a_record_that_cannot_be_formatted_shows_nothing(log: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(OURS).info("%d keys", key(1))
    captured = capfd.readouterr()
    assert key(1) not in log.getvalue() + captured.out + captured.err
