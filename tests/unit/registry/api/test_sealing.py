# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preshared keys that are told sealed: to whoever asks so, and in some fleets in no other way."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from made_up import key
from registry.site import Caller, Serve, Site, slug
from registry.support import key as public_key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.sealing import OneTimeKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PresharedKey

REGISTER, ROTATE, CONFIRM = "/v1/registrations", "/v1/registrations/rotate", "/v1/registrations/confirm"


def opened(caller: Caller, path: str, number: int, **body: Any) -> tuple[httpx.Response, PresharedKey]:
    """The answer to a request with a one-time key, and the preshared key in it of key ``number``."""
    own = OneTimeKey()
    answer = caller.ask(path, one_time_key=own.public_text, **body)
    assert "preshared_key" not in answer.json()
    preshared_key = own.open(answer.json()["sealed_preshared_key"], public_key(number))
    caller.site.named.add(preshared_key.text)
    return answer, preshared_key


def kept(site: Site, number: int) -> PresharedKey | None:
    """As the registry has it."""
    return site.registry.of("alice")[public_key(number)].preshared_key


@pytest.fixture(params=[True, "sealed"], ids=["optional", "required"])
def fleet(request: pytest.FixtureRequest, serve: Serve) -> Site:
    """One with preshared keys, whether or not they have to be sealed."""
    return serve(preshared_keys=request.param)


@pytest.fixture
def sealed(serve: Serve) -> Site:
    """A fleet whose preshared keys have to be sealed."""
    return serve(preshared_keys="sealed")


def test_a_preshared_key_is_sealed_to_the_one_who_asks_and_the_same_again(fleet: Site) -> None:
    client = fleet.client()
    first, preshared_key = opened(client, REGISTER, 1, public_key=key(1))
    again, same = opened(client, REGISTER, 1, public_key=key(1))

    assert (first.status_code, again.status_code) == (201, 200)
    assert preshared_key == same == kept(fleet, 1)
    assert first.json()["sealed_preshared_key"] != again.json()["sealed_preshared_key"]


def test_a_rotation_has_another_one_until_the_end(fleet: Site) -> None:
    client = fleet.client()
    _, before = opened(client, REGISTER, 1, public_key=key(1))
    _, after = opened(client, ROTATE, 2, public_key=key(1), successor=key(2))
    _, again = opened(client, ROTATE, 2, public_key=key(1), successor=key(2))
    _, confirmed = opened(client, CONFIRM, 2, public_key=key(2))

    assert before != after == again == confirmed == kept(fleet, 2)


def test_gateways_have_the_one_that_the_client_opened(fleet: Site) -> None:
    _, preshared_key = opened(fleet.client(), REGISTER, 1, public_key=key(1))
    peer = fleet.gateway().get("/v1/peers").json()
    assert peer["preshared_key"] == preshared_key.text


def test_where_there_are_none_nothing_is_sealed(site: Site) -> None:
    answer = site.client().ask(REGISTER, public_key=key(1), one_time_key=OneTimeKey().public_text)
    assert answer.status_code == 201
    assert not {"preshared_key", "sealed_preshared_key"} & set(answer.json())


def test_without_a_one_time_key_nobody_is_registered(sealed: Site) -> None:
    client = sealed.client()
    refused = client.ask(REGISTER, public_key=key(1))

    assert (refused.status_code, slug(refused)) == (409, "one-time-key-needed")
    assert "send a one_time_key" in refused.json()["detail"]
    assert sealed.registry.of("alice") == {}


def test_without_a_one_time_key_nobody_rotates(sealed: Site) -> None:
    client = sealed.client()
    opened(client, REGISTER, 1, public_key=key(1))

    assert slug(client.ask(ROTATE, public_key=key(1), successor=key(2))) == "one-time-key-needed"
    assert slug(client.ask(REGISTER, public_key=key(1))) == "one-time-key-needed"
    registered = sealed.registry.of("alice")
    assert set(registered) == {public_key(1)}
    assert registered[public_key(1)].leaves_at is None


def test_what_has_to_be_sealed_is_in_no_other_answer(sealed: Site) -> None:
    client = sealed.client()
    opened(client, REGISTER, 1, public_key=key(1))
    opened(client, ROTATE, 2, public_key=key(1), successor=key(2))
    told = [
        client.get("/v1/registrations").text,
        client.ask(CONFIRM, public_key=key(2)).text,
        client.ask("/v1/registrations/applied", public_key=key(2)).text,
        client.get("/v1/account").text,
    ]
    assert "preshared_key" not in "".join(told)


def test_a_fleet_goes_over_to_sealed_ones_with_its_clients_connected(serve: Serve) -> None:
    site = serve(preshared_keys=True)
    client = site.client()
    before = client.ask(REGISTER, public_key=key(1)).json()["preshared_key"]
    site.registry.configure(preshared_keys="sealed")

    assert opened(client, REGISTER, 1, public_key=key(1))[1].text == before
    assert opened(client, ROTATE, 2, public_key=key(1), successor=key(2))[1] == kept(site, 2)


@pytest.mark.parametrize("path", [REGISTER, ROTATE, CONFIRM])
def test_a_one_time_key_that_is_none_is_named_and_changes_nothing(fleet: Site, path: str) -> None:
    client = fleet.client()
    opened(client, REGISTER, 1, public_key=key(1))
    successor = {"successor": key(2)} if path == ROTATE else {}
    good = OneTimeKey().public_text
    of_low_order = good[:-48] + "A" * 46 + "=="  # the key of X25519, and the last two bytes of the other one
    for bad in (good[:-1], good[4:], "A" * 1623 + "=", "/" * 1621 + "w==", of_low_order, key(1), "", 5, [good], "é"):
        refused = client.ask(path, public_key=key(3 if path == REGISTER else 1), one_time_key=bad, **successor)

        assert (refused.status_code, slug(refused)) == (422, "invalid-request")
        (fault,) = refused.json()["errors"]
        assert fault["field"] == "one_time_key"
        assert "ML-KEM-768" in fault["remedy"]
    assert set(fleet.registry.of("alice")) == {public_key(1)}


def test_strangers_learn_nothing_of_how_a_fleet_has_it(sealed: Site) -> None:
    assert slug(sealed.caller().ask(REGISTER, public_key=key(1))) == "not-authenticated"
    assert slug(sealed.gateway().ask(REGISTER, public_key=key(1))) == "not-allowed"
