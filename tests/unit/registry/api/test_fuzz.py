# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests made up from the API's own description: every answer is one that it announces."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from registry.site import Caller, Site, named_in, served
from registry.support import Clock

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api.app import application

_EXAMPLES = 40
_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")
_PATIENCE = 120  # seconds, for machines whose disk is busy; what waits for ever still fails
_FAST = dict.fromkeys(
    ("client_rate", "operator_rate", "gateway_rate", "stranger_rate", "strangers_rate"), "9999/second"
)

schema = schemathesis.openapi.from_dict(application(None).openapi())


@pytest.fixture(scope="module")
def site(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("fuzz") / "registry.sqlite3"
    shutil.copy(sqlite_template, path)
    with served(f"sqlite:///{path}", Clock(), server=_FAST, preshared_keys=True, device_limit=1000) as site:
        yield site


@pytest.fixture(scope="module")
def callers(site: Site) -> dict[str, Caller]:
    return {"client": site.client(), "operator": site.operator(), "gateway": site.gateway()}


def _is_telling(name: str) -> bool:
    """Whether a made-up text is in a log only if somebody put it there. Others may be there by chance: short ones, and
    words of our own, such as "/registrations", which hypothesis finds in the sources and tries too.
    """
    return not name.isascii() or _KEY.fullmatch(name) is not None


@schema.parametrize()
@settings(max_examples=_EXAMPLES, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case, site: Site, callers: dict[str, Caller]) -> None:
    site.named |= {name for name in named_in(case.body) if _is_telling(name)}
    (tag,) = case.operation.tags or [""]
    caller = callers.get(tag)
    headers = {} if caller is None else {"Authorization": f"Bearer {caller.token}"}
    # An account's or a credential's name has to be printable, which a schema cannot say.
    case.call_and_validate(
        base_url=site.url,
        headers=headers,
        timeout=_PATIENCE,
        excluded_checks=[schemathesis.checks.CHECKS.get_one("positive_data_acceptance")],
    )
