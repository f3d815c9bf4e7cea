# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from made_up import key
from registry.site import Site, slug


def test_creating_an_account_again_changes_nothing(site: Site) -> None:
    operator = site.operator()
    first = operator.ask("/v1/accounts", account="alice@example.org")
    again = operator.ask("/v1/accounts", account="alice@example.org")
    limited = operator.ask("/v1/accounts", account="alice@example.org", device_limit=9)

    assert first.json() == {"changed": True, "state": "active", "device_limit": 5, "keys": 0}
    assert again.json() == {**first.json(), "changed": False}
    assert limited.json() == {**first.json(), "device_limit": 9}
    assert operator.ask("/v1/accounts/show", account="alice@example.org").json() == {
        "state": "active", "device_limit": 9, "keys": 0,
    }  # fmt: skip


def test_an_account_goes_through_its_states(site: Site) -> None:
    operator, client = site.operator(), site.client("alice")
    client.ask("/v1/registrations", public_key=key(1))

    def change(what: str) -> tuple[str, bool, int]:
        answer = operator.ask(f"/v1/accounts/{what}", account="alice").json()
        return answer["state"], answer["changed"], answer["keys"]

    assert change("suspend") == ("suspended", True, 1)
    assert change("suspend") == ("suspended", False, 1)
    for path in ("/v1/accounts", "/v1/accounts/credentials"):
        refused = operator.ask(path, account="alice")
        assert (refused.status_code, slug(refused)) == (409, "account-suspended")
        assert "resume it first" in refused.json()["detail"]
    assert change("resume") == ("active", True, 1)
    assert change("close") == ("closed", True, 0)
    assert change("close") == ("closed", False, 0)
    assert slug(operator.ask("/v1/accounts/resume", account="alice")) == "account-closed"


def test_an_account_that_is_not_there_is_said(site: Site) -> None:
    operator = site.operator()
    for what in ("show", "suspend", "resume", "close", "credentials"):
        refused = operator.ask(f"/v1/accounts/{what}", account="nobody")
        assert (refused.status_code, slug(refused)) == (404, "account-unknown")


def test_a_credential_that_is_issued_is_a_clients(site: Site) -> None:
    operator = site.operator()
    operator.ask("/v1/accounts", account="alice")
    issued = operator.ask("/v1/accounts/credentials", account="alice")
    assert issued.status_code == 201
    client = site.caller(issued.json()["token"])

    assert client.ask("/v1/registrations", public_key=key(1)).status_code == 201
    assert client.get("/v1/status").status_code == 403


def test_a_revoked_key_is_gone_whosever_it_is(site: Site) -> None:
    operator, client = site.operator(), site.client()
    client.ask("/v1/registrations", public_key=key(1))

    assert operator.ask("/v1/keys/revoke", public_key=key(1)).json() == {"changed": True}
    assert operator.ask("/v1/keys/revoke", public_key=key(1)).json() == {"changed": False}
    assert client.get("/v1/registrations").json() == {"registrations": []}


def test_staff_credentials_come_and_go(site: Site) -> None:
    operator = site.operator("first")
    issued = operator.ask("/v1/credentials", kind="gateway", label="amsterdam-1")
    assert issued.status_code == 201
    assert (issued.json()["kind"], issued.json()["label"]) == ("gateway", "amsterdam-1")
    gateway = site.caller(issued.json()["token"])
    assert gateway.get("/v1/peers").status_code == 200

    listed = operator.get("/v1/credentials").json()["credentials"]
    assert listed == [{"kind": "gateway", "label": "amsterdam-1"}, {"kind": "operator", "label": "first"}]
    assert operator.ask("/v1/credentials/withdraw", kind="gateway", label="amsterdam-1").json() == {"changed": True}
    assert operator.ask("/v1/credentials/withdraw", kind="gateway", label="amsterdam-1").json() == {"changed": False}
    assert gateway.get("/v1/peers").status_code == 401


def test_a_credential_that_is_issued_again_replaces_the_one_before(site: Site) -> None:
    operator = site.operator()
    tokens = [operator.ask("/v1/credentials", kind="operator", label="backup").json()["token"] for _ in range(2)]

    assert [site.caller(token).get("/v1/status").status_code for token in tokens] == [401, 200]


def test_the_status_is_in_numbers(site: Site) -> None:
    operator, client = site.operator(), site.client("alice")
    for n in range(3):
        client.ask("/v1/registrations", public_key=key(n))
    client.ask("/v1/registrations/delete", public_key=key(0))
    position = site.registry.position()
    status = operator.get("/v1/status").json()

    assert (status["epoch"], status["revision"], status["horizon"]) == position == (position.epoch, 4, 0)
    assert status["registrations"] == 2
    assert status["accounts"] == {"active": 1, "suspended": 0, "closed": 0}
    assert status["credentials"] == {"client": 1, "operator": 1, "gateway": 0}
    assert status["resting"] == 1
    assert status["waiting_changes"] == 0
    assert status["pools"]["ipv4"]["size"] == 2**24 - 2
    assert status["pools"]["ipv4"]["used"] == 3
    assert status["pools"]["ipv6"]["free"] == 2**80 - 1 - 2


def test_operators_see_all_gateways(site: Site) -> None:
    site.gateway("gateway two")
    site.gateway("gateway one")
    said = site.operator().get("/v1/gateways").json()
    position = site.registry.position()
    assert (said["epoch"], said["revision"]) == (position.epoch, 0)
    assert said["gateways"] == [
        {"label": label, "age": None, "version": None, "interfaces": []} for label in ("gateway one", "gateway two")
    ]
    assert site.gateway().get("/v1/gateways").status_code == 403
    assert site.client().get("/v1/gateways").status_code == 403
