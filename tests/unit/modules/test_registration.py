# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from made_up import key
from registry.site import Site
from registry.support import key as public_key

from .conftest import RunModule

KEY, NEXT = key(1), key(2)


def registration(ask: RunModule, **options: Any) -> Any:
    run = ask("registration", **{"as_": "client", "public_key": KEY, **options})
    assert run.tells(KEY, NEXT) == []
    return run


class TestPresent:
    def test_gives_a_key_addresses_and_the_same_again(self, ask: RunModule, site: Site) -> None:
        first = registration(ask)
        assert first.changed
        assert first["registration"]["allowed_ips"] == site.registry.of("alice")[public_key(1)].addresses
        second = registration(ask)
        assert not second.changed
        assert second["registration"] == first["registration"]
        assert second.diff == "---\n"

    def test_is_predicted_in_check_mode(self, ask: RunModule, site: Site) -> None:
        run = registration(ask, check=True)
        assert run.changed
        assert run["registration"] is None
        assert site.registry.of("alice") == {}
        registration(ask)
        assert not registration(ask, check=True).changed

    def test_tells_no_address_in_the_diff(self, ask: RunModule) -> None:
        run = registration(ask)
        assert "registered" in run.diff
        assert [each for each in run["registration"]["allowed_ips"] if each.partition("/")[0] in run.diff] == []

    def test_another_accounts_key_is_refused(self, ask: RunModule) -> None:
        registration(ask, of="bob")
        assert "make a new key pair" in registration(ask).message

    def test_an_operators_credential_is_refused(self, ask: RunModule) -> None:
        assert "of the kind client" in registration(ask, as_="operator").message

    @pytest.mark.parametrize("wrong", ["short", KEY[:-1] + "x", ""])
    def test_a_malformed_key_is_refused_before_anything_is_sent(self, ask: RunModule, wrong: str) -> None:
        run = ask("registration", as_="client", public_key=wrong)
        assert run.message.startswith("public_key: ")
        assert not wrong or run.tells(wrong) == []


class TestPresharedKey:
    @pytest.fixture
    def site(self, site: Site) -> Site:
        site.registry.configure(preshared_keys=True)
        return site

    def test_is_returned_when_it_is_asked_for(self, ask: RunModule, site: Site) -> None:
        run = registration(ask, return_preshared_key=True, no_log=True)
        wanted = site.registry.of("alice")[public_key(1)].preshared_key
        assert wanted is not None
        assert run["registration"]["preshared_key"] == wanted.text

    def test_is_not_returned_unasked(self, ask: RunModule) -> None:
        assert "preshared_key" not in registration(ask)["registration"]

    def test_is_not_returned_where_the_output_would_show_it(self, ask: RunModule) -> None:
        assert "no_log: true" in registration(ask, return_preshared_key=True).message


class TestRotation:
    @pytest.fixture(autouse=True)
    def registered(self, ask: RunModule) -> dict[str, Any]:
        return registration(ask)["registration"]

    def test_registers_a_successor_once_and_is_predicted(self, ask: RunModule, registered: dict[str, Any]) -> None:
        assert registration(ask, successor=NEXT, check=True).changed
        run = registration(ask, successor=NEXT)
        assert run.changed
        assert run["registration"]["allowed_ips"] != registered["allowed_ips"]
        for check in (False, True):
            again = registration(ask, successor=NEXT, check=check)
            assert not again.changed
            assert again["registration"] == run["registration"]

    def test_confirming_removes_the_old_key_once_and_is_predicted(self, ask: RunModule, site: Site) -> None:
        registration(ask, successor=NEXT)
        assert registration(ask, public_key=NEXT, confirm=True, check=True).changed
        assert len(site.registry.of("alice")) == 2
        assert registration(ask, public_key=NEXT, confirm=True).changed
        assert set(site.registry.of("alice")) == {public_key(2)}
        assert not registration(ask, public_key=NEXT, confirm=True).changed
        assert not registration(ask, public_key=NEXT, confirm=True, check=True).changed

    @pytest.mark.parametrize("check", [False, True])
    def test_of_an_unknown_key_is_refused(self, ask: RunModule, check: bool) -> None:
        assert "is not registered" in registration(ask, public_key=NEXT, confirm=True, check=check).message
        assert "is not registered" in registration(ask, public_key=NEXT, successor=key(3), check=check).message


class TestRemoval:
    def test_absent_removes_once_and_is_predicted(self, ask: RunModule, site: Site) -> None:
        registration(ask)
        predicted = registration(ask, state="absent", check=True)
        assert set(site.registry.of("alice")) == {public_key(1)}
        done = registration(ask, state="absent")
        assert predicted.changed
        assert done.changed
        assert predicted.diff == done.diff
        assert site.registry.of("alice") == {}
        assert not registration(ask, state="absent").changed

    def test_an_operator_revokes_anybodys_key_once(self, ask: RunModule, site: Site) -> None:
        registration(ask)
        assert registration(ask, as_="operator", state="revoked", check=True).changed
        assert site.registry.of("alice")
        assert registration(ask, as_="operator", state="revoked").changed
        assert site.registry.of("alice") == {}
        assert not registration(ask, as_="operator", state="revoked").changed


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"confirm": True, "successor": NEXT}, "confirm"),
        ({"state": "absent", "successor": NEXT}, "successor"),
        ({"state": "revoked", "confirm": True}, "confirm"),
    ],
)
def test_options_that_contradict_each_other_are_refused(ask: RunModule, options: dict[str, Any], fault: str) -> None:
    assert registration(ask, **options).message.startswith(f"{fault}: ")
