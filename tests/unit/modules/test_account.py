# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from registry.site import Site

from .conftest import RunModule

NAME = "customer 4711"


def account(ask: RunModule, **options: Any) -> Any:
    run = ask("account", **{"account": NAME, **options})
    assert run.tells(NAME) == []
    return run


@pytest.fixture
def state(site: Site) -> Any:
    return lambda: site.registry.state(NAME)


class TestPresent:
    def test_creates_an_account_once(self, ask: RunModule, state: Any) -> None:
        first = account(ask, device_limit=3)
        assert first.changed
        assert first["account"] == {"state": "active", "device_limit": 3, "key_count": 0}
        assert state() == "active"
        assert not account(ask, device_limit=3).changed

    def test_says_in_check_mode_what_it_would_do(self, ask: RunModule, site: Site) -> None:
        run = account(ask, check=True)
        assert run.changed
        assert run.diff == "not known\n---\nstate: active\ndevice_limit: the registry's default\nkeys: 0\n"
        assert account(ask, check=True).changed

    def test_leaves_a_suspended_account_suspended(self, ask: RunModule, site: Site, state: Any) -> None:
        site.registry.create(NAME)
        site.registry.suspend(NAME)
        assert not account(ask).changed
        assert state() == "suspended"

    def test_sets_another_limit_and_leaves_one_that_is_not_given(self, ask: RunModule, site: Site) -> None:
        site.registry.create(NAME, 2)
        run = account(ask, device_limit=7)
        assert run.changed
        assert "device_limit: 2\n" in run.diff
        assert "device_limit: 7\n" in run.diff
        assert account(ask)["account"]["device_limit"] == 7

    def test_refuses_a_limit_for_a_suspended_account(self, ask: RunModule, site: Site) -> None:
        site.registry.create(NAME)
        site.registry.suspend(NAME)
        assert "resume it" in account(ask, device_limit=2).message

    @pytest.mark.parametrize("check", [False, True])
    def test_cannot_open_a_closed_account(self, ask: RunModule, site: Site, check: bool) -> None:
        site.registry.create(NAME)
        site.registry.close_account(NAME)
        assert "the account is closed" in account(ask, check=check).message


class TestStates:
    @pytest.mark.parametrize(
        ("before", "wanted"),
        [("active", "suspended"), ("suspended", "active"), ("active", "closed"), ("suspended", "closed")],
    )
    def test_changes_once_and_is_predicted(
        self, ask: RunModule, site: Site, state: Any, before: str, wanted: str
    ) -> None:
        site.registry.create(NAME)
        if before == "suspended":
            site.registry.suspend(NAME)
        predicted = account(ask, state=wanted, check=True)
        assert state() == before
        done = account(ask, state=wanted)
        assert (predicted.changed, predicted["account"], predicted.diff) == (True, done["account"], done.diff)
        assert state() == wanted
        assert not account(ask, state=wanted).changed

    def test_active_resumes_and_sets_a_limit_at_once(self, ask: RunModule, site: Site) -> None:
        site.registry.create(NAME)
        site.registry.suspend(NAME)
        assert account(ask, state="active", device_limit=9)["account"] == {
            "state": "active", "device_limit": 9, "key_count": 0,
        }  # fmt: skip

    def test_an_unknown_account_is_closed_already(self, ask: RunModule) -> None:
        run = account(ask, state="closed")
        assert not run.changed
        assert run["account"] is None

    @pytest.mark.parametrize("check", [False, True])
    def test_an_unknown_account_cannot_be_suspended(self, ask: RunModule, check: bool) -> None:
        assert "there is no account with this id" in account(ask, state="suspended", check=check).message


class TestCredential:
    def test_is_issued_and_works(self, ask: RunModule, site: Site) -> None:
        run = account(ask, issue_credential=True, no_log=True)
        assert run.changed
        assert site.caller(run["token"]).get("/v1/account").json()["state"] == "active"

    def test_is_not_issued_where_the_output_would_show_it(self, ask: RunModule, site: Site) -> None:
        assert "no_log: true" in account(ask, issue_credential=True).message

    def test_is_not_issued_in_check_mode(self, ask: RunModule) -> None:
        assert account(ask, issue_credential=True, no_log=True, check=True)["token"] is None

    def test_is_not_for_an_account_that_is_shut(self, ask: RunModule) -> None:
        assert "leave it out" in account(ask, state="closed", issue_credential=True, no_log=True).message


def test_a_name_that_is_a_word_of_the_result_is_not_censored(ask: RunModule) -> None:
    assert ask("account", account="active")["account"]["state"] == "active"


@pytest.mark.parametrize("name", ["", "x" * 257, "line\nbreak"])
def test_a_name_that_cannot_be_one_is_refused_without_being_shown(ask: RunModule, name: str) -> None:
    run = ask("account", account=name)
    assert "account: " in run.message
    assert not name or run.tells(name) == []


def test_another_kind_of_credential_is_refused(ask: RunModule) -> None:
    assert "takes a credential of the kind operator" in account(ask, as_="gateway").message
