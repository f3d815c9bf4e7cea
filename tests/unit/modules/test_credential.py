# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from registry.site import Site

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import NotAuthenticated

from .conftest import RunModule

LABEL = "gateway7.example"


def credential(ask: RunModule, **options: Any) -> Any:
    return ask("credential", **{"label": LABEL, "no_log": True, **options})


def kind_of(site: Site, token: str) -> str:
    return site.registry.store.read(lambda tx: credentials.authenticate(tx, token)).kind


def test_it_is_issued_once_and_shown_once(ask: RunModule, site: Site) -> None:
    first = credential(ask)
    assert first.changed
    assert kind_of(site, first["token"]) == "gateway"
    second = credential(ask)
    assert not second.changed
    assert second["token"] is None
    assert kind_of(site, first["token"]) == "gateway"


def test_one_that_is_replaced_is_invalid(ask: RunModule, site: Site) -> None:
    first, second = (credential(ask, replace=True)["token"] for _ in range(2))
    assert kind_of(site, second) == "gateway"
    with pytest.raises(NotAuthenticated):
        kind_of(site, first)


def test_kinds_are_apart(ask: RunModule, site: Site) -> None:
    assert kind_of(site, credential(ask)["token"]) == "gateway"
    assert kind_of(site, credential(ask, kind="operator")["token"]) == "operator"


def test_check_mode_issues_and_withdraws_nothing(ask: RunModule, site: Site) -> None:
    run = credential(ask, check=True)
    assert run.changed
    assert run["token"] is None
    token = credential(ask)["token"]
    assert not credential(ask, check=True).changed
    assert credential(ask, check=True, replace=True).changed
    assert credential(ask, check=True, state="absent").changed
    assert kind_of(site, token) == "gateway"


def test_one_that_is_withdrawn_is_invalid_and_one_that_is_not_there_is_no_error(ask: RunModule, site: Site) -> None:
    token = credential(ask)["token"]
    run = credential(ask, state="absent", no_log=False)
    assert run.changed
    assert run.diff == "credential: valid\n---\ncredential: withdrawn\n"
    assert not credential(ask, state="absent").changed
    with pytest.raises(NotAuthenticated):
        kind_of(site, token)


def test_a_task_that_would_show_it_is_refused(ask: RunModule) -> None:
    assert "set no_log: true on the task" in credential(ask, no_log=False).message


def test_replacing_what_is_to_be_absent_is_a_contradiction(ask: RunModule) -> None:
    assert "replace: is for a credential that is to be there" in credential(ask, state="absent", replace=True).message


@pytest.mark.parametrize("who", ["gateway", "client"])
def test_only_operators_may(ask: RunModule, who: str) -> None:
    assert "the registry refused" in credential(ask, as_=who).message
