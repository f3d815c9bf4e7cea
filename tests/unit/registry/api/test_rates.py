# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from made_up import key
from registry.site import Serve, slug
from registry.support import Clock

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api.problems import RateLimited
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.api.rates import Rates
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import ServerSettings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

ALICE, BOB = b"a" * 32, b"b" * 32


@pytest.fixture
def database() -> str:
    return "sqlite"


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


def rates(clock: Clock, **settings: str) -> Rates:
    return Rates(ServerSettings(**settings), clock)  # type: ignore[arg-type]


def times(n: int, rates: Rates, credential: bytes = ALICE, kind: str = "client", peer: str = "192.0.2.1") -> None:
    for _ in range(n):
        rates.admit(kind, credential, peer)


def test_a_credential_has_its_rate_and_no_other_pays_for_it(clock: Clock) -> None:
    limited = rates(clock, client_rate="3/minute")
    times(3, limited)
    with pytest.raises(RateLimited) as error:
        times(1, limited)
    assert error.value.retry_after == 60
    times(3, limited, BOB)

    clock.move(seconds=59)
    with pytest.raises(RateLimited) as error:
        times(1, limited)
    assert error.value.retry_after == 1
    clock.move(seconds=1)
    times(3, limited)


def test_the_kinds_have_rates_of_their_own(clock: Clock) -> None:
    limited = rates(clock, client_rate="1/minute", gateway_rate="2/minute")
    times(1, limited)
    times(2, limited, BOB, "gateway")
    times(100, limited, b"c" * 32, "operator")


def test_a_peer_that_guesses_is_stopped_also_under_other_addresses_of_its_site(clock: Clock) -> None:
    limited = rates(clock, stranger_rate="2/minute")
    for peer in ("2001:db8::1", "2001:db8::2"):
        limited.refused(BOB, peer)
    with pytest.raises(RateLimited):
        limited.admit("client", ALICE, "2001:db8::3")
    with pytest.raises(RateLimited):
        limited.refused(None, "2001:db8::4")
    limited.admit("client", ALICE, "2001:db8:0:1::1")


def test_one_that_was_valid_is_not_held_up_by_strangers_behind_the_same_proxy(clock: Clock) -> None:
    limited = rates(clock, stranger_rate="2/minute", strangers_rate="2/minute")
    times(1, limited)
    limited.accepted(ALICE)
    for _ in range(2):
        limited.refused(BOB, "192.0.2.1")
    times(5, limited)
    with pytest.raises(RateLimited):
        times(1, limited, b"c" * 32, peer="192.0.2.99")

    limited.accepted(BOB)
    clock.move(seconds=60)
    limited.refused(ALICE, "192.0.2.1")  # withdrawn
    limited.refused(None, "192.0.2.1")
    with pytest.raises(RateLimited):
        times(1, limited)


def test_what_is_counted_does_not_grow_for_ever(clock: Clock) -> None:
    limited = rates(clock)
    for n in range(1000):
        times(1, limited, n.to_bytes(32, "big"))
        clock.move(seconds=1)
    windows = limited._limiter.storage
    assert len(windows._young) + len(windows._old) <= 2 * 61  # type: ignore[attr-defined]


def test_where_a_peer_is_is_only_hashed_and_the_hash_changes(clock: Clock) -> None:
    limited = rates(clock)
    before = limited._hashed("192.0.2.1")
    assert before == limited._hashed("192.0.2.1") != limited._hashed("192.0.2.2")
    clock.move(seconds=600)
    assert before != limited._hashed("192.0.2.1")
    assert limited._hashed("")  # a socket without addresses


def test_a_rate_that_is_none_is_said() -> None:
    with pytest.raises(InvalidValue, match=r'server\.client_rate: is not a rate; write it like "60/minute"'):
        Rates(ServerSettings(client_rate="fast"))


def test_who_asks_too_often_is_told_when_to_come_back(serve: Serve) -> None:
    site = serve(server={"client_rate": "3/minute"})
    client, other = site.client("alice"), site.client("bobby")
    answers = [client.get("/v1/account") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert slug(answers[-1]) == "rate-limited"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert other.get("/v1/account").status_code == 200


def test_who_guesses_is_stopped_and_others_are_not(serve: Serve) -> None:
    site = serve(server={"stranger_rate": "3/minute"})
    client = site.client()
    assert client.ask("/v1/registrations", public_key=key(1)).status_code == 201
    guesser = [site.caller(f"lethe_client_{key(n)[:42]}A", peer="127.77.1.10") for n in range(5)]
    site.named.add("127.77.1.10")

    assert [each.get("/v1/account").status_code for each in guesser] == [401, 401, 401, 429, 429]
    assert site.caller(peer="127.77.1.10").get("/v1/account").status_code == 429
    assert client.get("/v1/account").status_code == 200
    assert site.caller(client.token, peer="127.77.1.10").get("/v1/account").status_code == 200


@pytest.mark.parametrize("trusted", [True, False])
def test_behind_a_proxy_the_peer_is_whom_the_proxy_names(serve: Serve, trusted: bool) -> None:
    site = serve(server={"stranger_rate": "1/minute", "trusted_proxies": ("127.77.1.0/24",) if trusted else ()})
    peers = ["203.0.113.7", "203.0.113.8"]
    site.named |= set(peers)
    answers = [site.caller().get("/v1/account", headers={"x-forwarded-for": peer}).status_code for peer in peers]
    assert answers == [401, 401 if trusted else 429]
