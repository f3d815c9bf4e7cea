# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from registry.site import Site

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api.app import application

COMMITTED = Path(__file__).parents[4] / "docs/openapi.json"
HEALTH = {"/healthz", "/readyz", "/metrics"}


@pytest.fixture
def database() -> str:
    return "sqlite"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return application(None).openapi()


def test_what_is_committed_is_what_is_served(site: Site) -> None:
    served = site.caller().get("/v1/openapi.json").json()
    assert served == json.loads(COMMITTED.read_bytes()), "write it anew: scripts/update-openapi"


def test_nothing_that_identifies_anybody_is_in_a_url(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        assert "{" not in path
        for operation in operations.values():
            assert not operation.get("parameters")


def test_all_is_versioned_and_behind_one_kind_of_credential(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"client", "operator", "gateway"}
    for path, operations in document["paths"].items():
        if path in HEALTH:
            continue
        assert path.startswith("/v1/")
        for operation in operations.values():
            (kind,) = operation["security"]
            assert operation["tags"] == list(kind)


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            errors = {status: each for status, each in operation["responses"].items() if status >= "400"}
            assert {each["content"]["application/problem+json"]["schema"]["$ref"] for each in errors.values()} == {
                "#/components/schemas/Problem"
            }
            if path not in HEALTH:
                assert {"401", "403", "429", "503"} <= set(errors)
            if "requestBody" in operation:
                assert {"413", "422"} <= set(errors)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_operations_have_ids_that_last_and_say_what_they_do(document: dict[str, Any]) -> None:
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for each in operations:
        assert re.fullmatch(r"[a-z-]+-(get|post)", each["operationId"])
        assert each["description"]
