# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from made_up import key
from registry.site import Serve, Site, slug
from registry.support import key as public_key
from sqlalchemy.exc import IntegrityError, OperationalError


@pytest.fixture
def database() -> str:
    return "sqlite"


def test_an_address_that_is_not_there(site: Site) -> None:
    refused = site.caller().get(f"/v1/registrations/{key(1).replace('/', '_')}")
    assert (refused.status_code, refused.json()["type"]) == (404, "about:blank")
    assert key(1)[:10] not in refused.text
    assert site.caller().get("/v1/status/").status_code == 404


def test_a_method_that_is_not_taken(site: Site) -> None:
    refused = site.caller().delete("/v1/registrations")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer x", "Basic YWxpY2U6cGFzcw==", "lethe_operator_abc"])
def test_a_credential_that_is_none(site: Site, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    refused = site.caller().get("/v1/status", headers=headers)
    assert (refused.status_code, slug(refused)) == (401, "not-authenticated")
    assert refused.headers["www-authenticate"] == "Bearer"


def test_a_credential_that_nobody_has(site: Site) -> None:
    other = "lethe_operator_" + "A" * 43
    assert slug(site.caller(other).get("/v1/status")) == "not-authenticated"


def test_a_credential_whose_kind_was_changed(site: Site) -> None:
    token = site.client().token
    assert token is not None
    assert slug(site.caller(token.replace("client", "operator")).get("/v1/status")) == "not-authenticated"


@pytest.mark.parametrize("kind", ["client", "operator", "gateway"])
def test_no_kind_can_do_anothers_work(site: Site, kind: str) -> None:
    caller = getattr(site, kind)()
    refused = 0
    for operation in site.caller().get("/v1/openapi.json").json()["paths"].items():
        path, (method, description) = operation[0], next(iter(operation[1].items()))
        security = description.get("security")
        if security is None or security == [{kind: []}]:
            continue
        body: dict[str, Any] = {"account": "alice", "public_key": key(1), "kind": "operator", "label": "x"}
        fields = _fields(site, description)
        sent = {name: value for name, value in {**body, "successor": key(2)}.items() if name in fields}
        answer = caller.request(method, path, json=sent if fields else None)
        assert (answer.status_code, slug(answer)) == (403, "not-allowed"), path
        refused += 1
    assert refused > 5


def _fields(site: Site, operation: dict[str, Any]) -> set[str]:
    if "requestBody" not in operation:
        return set()
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return set(site.caller().get("/v1/openapi.json").json()["components"]["schemas"][name]["properties"])


@pytest.mark.parametrize(
    ("body", "field", "problem"),
    [
        ({}, "public_key", "is missing"),
        ({"public_key": None}, "public_key", "is not a key"),
        ({"public_key": 7}, "public_key", "is not a key"),
        ({"public_key": "secret" * 8}, "public_key", "is not a key"),
        ({"public_key": key(1) + "\n"}, "public_key", "is not a key"),
        ({"public_key": key(1), key(2): 1}, "body", "has a field that this request does not know"),
        ([], "body", "is not an object"),
        ("text", "body", "is not an object"),
        (None, "body", "is not an object"),
    ],
)
def test_a_field_that_is_wrong_is_named_and_not_repeated(site: Site, body: Any, field: str, problem: str) -> None:
    refused = site.client().post("/v1/registrations", json=body)
    assert (refused.status_code, slug(refused)) == (422, "invalid-request")
    (fault,) = refused.json()["errors"]
    assert (fault["field"], fault["problem"]) == (field, problem)
    assert fault["remedy"]
    for text in (key(1), key(2), "secret"):
        assert text not in refused.text


@pytest.mark.parametrize(
    ("body", "field", "remedy"),
    [
        ({"account": ""}, "account", "give 1 to 256 printable characters"),
        ({"account": "x" * 257}, "account", "give 1 to 256 printable characters"),
        ({"account": "a\nb"}, "account", "give 1 to 256 printable characters"),
        ({"account": "\ud800"}, "account", ""),
        ({"account": 1}, "account", "give text"),
        ({"account": "alice", "device_limit": 0}, "device_limit", "give at least 1"),
        ({"account": "alice", "device_limit": 1001}, "device_limit", "give at most 1000"),
        ({"account": "alice", "device_limit": "5"}, "device_limit", "give a whole number"),
        ({"account": "alice", "device_limit": True}, "device_limit", "give a whole number"),
        ({"account": "alice", "device_limit": 2.5}, "device_limit", "give a whole number"),
    ],
)
def test_an_option_that_is_wrong_says_what_is_right(site: Site, body: Any, field: str, remedy: str) -> None:
    refused = site.operator().post(
        "/v1/accounts", content=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    assert refused.status_code == 422
    (fault,) = refused.json()["errors"]
    assert fault["field"] == field
    assert remedy in fault["remedy"]


def test_every_wrong_field_is_named(site: Site) -> None:
    refused = site.client().ask("/v1/registrations/rotate", public_key="x", successor="y")
    assert {fault["field"] for fault in refused.json()["errors"]} == {"public_key", "successor"}


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe{}", b"[" * 30_000, b'{"public_key": ' + b"1" * 5000 + b"}", b"", b"NaN"]
)
def test_a_body_that_is_not_json(site: Site, body: bytes) -> None:
    refused = site.client().post("/v1/registrations", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] in {"body", "public_key"}


def test_a_body_of_another_type(site: Site) -> None:
    refused = site.client().post("/v1/registrations", content=json.dumps({"public_key": key(1)}).encode())
    assert refused.status_code == 422
    assert "Content-Type: application/json" in refused.json()["errors"][0]["remedy"]


def test_a_kind_of_credential_that_is_not_there(site: Site) -> None:
    refused = site.operator().ask("/v1/credentials", kind="client", label="somebody")
    assert refused.json()["errors"][0]["remedy"] == "give one of 'operator' or 'gateway'"


def test_a_body_that_is_too_large_is_refused_whether_announced_or_not(site: Site) -> None:
    client = site.client()

    def pieces() -> Any:
        for _ in range(100):
            yield b" " * 1024

    for content in (b" " * (64 * 1024 + 1), pieces()):
        refused = client.post("/v1/registrations", content=content, headers={"content-type": "application/json"})
        assert (refused.status_code, slug(refused)) == (413, "body-too-large")


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (b"hello\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", 431, "head-too-large"),
        (b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431, "head-too-large"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),
    ],
)
def test_what_is_not_http_or_has_too_large_a_head_is_told_so(site: Site, sent: bytes, status: int, kind: str) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["type"] == f"urn:lethe:problem:{kind}"


def test_a_failure_is_told_without_what_failed_and_logged_without_values(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.client()

    def fail(*_: Any) -> None:
        secret = {"row": key(77)}
        raise IntegrityError(f"INSERT {secret}", {"key": key(77)}, ValueError(f"DETAIL: ({key(77)}) exists"))

    monkeypatch.setattr(site.registry.store, "submit", fail)
    site.named.add(key(77))
    refused = client.ask("/v1/registrations", public_key=key(1))
    assert (refused.status_code, slug(refused)) == (500, "internal-error")
    (line,) = [line for line in site.log_lines() if line.get("failure")]
    assert line["request"] == refused.json()["request"]
    assert line["failure"][0]["type"] == "sqlalchemy.exc.IntegrityError"
    assert line["failure"][0]["at"][-1].endswith(" fail")


def test_a_database_that_is_away_is_a_matter_of_waiting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client()

    def fail(*_: Any) -> None:
        raise OperationalError("SELECT 1", {}, OSError("connection refused"))

    monkeypatch.setattr(site.registry.store, "read", fail)
    refused = client.get("/v1/registrations")
    assert (refused.status_code, slug(refused)) == (503, "database-away")
    assert refused.headers["retry-after"]


def test_a_store_that_is_closing_is_a_matter_of_waiting(serve: Serve) -> None:
    site = serve()
    client = site.client()
    site.registry.store.close()
    refused = client.ask("/v1/registrations", public_key=key(1))
    assert (refused.status_code, slug(refused)) == (503, "database-away")


def test_preshared_keys_of_another_vault_are_the_operators_matter(serve: Serve) -> None:
    site = serve(preshared_keys=True)
    client = site.client()
    site.registry.register("alice", public_key(1))
    environment = site.registry.store.environment
    environment.vault._box = type(environment.vault._box)(b"\1" * 32)
    refused = client.get("/v1/registrations")
    assert (refused.status_code, slug(refused)) == (500, "internal-error")
    assert any("does not fit the database" in line["message"] for line in site.log_lines())


def test_too_many_requests_at_once_are_turned_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.server.config.app, "_at_once", 0)
    refused = site.caller().get("/healthz")
    assert (refused.status_code, slug(refused)) == (503, "too-busy")
