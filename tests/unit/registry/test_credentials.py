# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bearer credentials: three kinds, none able to do another's work, and only hashes of them stored."""

from __future__ import annotations

import base64

import pytest
from registry.fixtures import MakeRegistry
from registry.support import Registry
from sqlalchemy import select

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, schema
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.credentials import Credential
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import (
    AccountUnknown,
    NotAuthenticated,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue


def authenticate(registry: Registry, token: str) -> Credential:
    return registry.store.read(lambda tx: credentials.authenticate(tx, token))


def issue(registry: Registry, kind: str, label: str) -> str:
    return registry.store.write(lambda tx: credentials.issue(tx, kind, label))


def test_a_clients_token_is_its_accounts(registry: Registry) -> None:
    registry.create("bob")
    tokens = {name: registry.token(name) for name in ("alice", "bob")}
    for name, token in tokens.items():
        assert authenticate(registry, token) == Credential("client", registry.hash(name), None)


def test_an_account_may_have_several_tokens(registry: Registry) -> None:
    first, second = registry.token("alice"), registry.token("alice")
    assert first != second
    assert authenticate(registry, first) == authenticate(registry, second)


@pytest.mark.parametrize("kind", ["operator", "gateway"])
def test_a_token_says_its_kind_and_is_known_by_its_label(registry: Registry, kind: str) -> None:
    token = issue(registry, kind, "stockholm 1")

    assert token.startswith(f"lethe_{kind}_")
    assert authenticate(registry, token) == Credential(kind, None, "stockholm 1")


@pytest.mark.parametrize("claimed", ["client", "operator", "gateway"])
def test_no_token_passes_for_another_kind(registry: Registry, claimed: str) -> None:
    tokens = [registry.token("alice"), issue(registry, "operator", "o"), issue(registry, "gateway", "g")]
    for token in tokens:
        _, kind, secret = token.split("_", 2)
        if kind != claimed:
            with pytest.raises(NotAuthenticated):
                authenticate(registry, f"lethe_{claimed}_{secret}")


def test_a_new_token_of_the_same_label_replaces_the_old_one(registry: Registry) -> None:
    old = issue(registry, "gateway", "g1")
    other = issue(registry, "gateway", "g2")
    operator = issue(registry, "operator", "g1")
    new = issue(registry, "gateway", "g1")

    with pytest.raises(NotAuthenticated):
        authenticate(registry, old)
    for token in (other, operator, new):
        authenticate(registry, token)
    assert registry.store.read(credentials.labels) == [("gateway", "g1"), ("gateway", "g2"), ("operator", "g1")]


def test_a_withdrawn_token_is_worth_nothing(registry: Registry) -> None:
    token, other = issue(registry, "operator", "one"), issue(registry, "gateway", "one")

    assert registry.store.write(lambda tx: credentials.withdraw(tx, "operator", "one"))
    assert not registry.store.write(lambda tx: credentials.withdraw(tx, "operator", "one"))
    with pytest.raises(NotAuthenticated):
        authenticate(registry, token)
    authenticate(registry, other)


def test_a_closed_accounts_token_says_so_until_the_account_is_forgotten(registry: Registry) -> None:
    token = registry.token("alice")
    registry.close_account("alice")
    assert authenticate(registry, token).account == registry.hash("alice")

    registry.clock.move(days=2)
    registry.tidy()

    with pytest.raises(NotAuthenticated):
        authenticate(registry, token)


def test_only_hashes_are_stored(registry: Registry) -> None:
    tokens = [registry.token("alice"), issue(registry, "operator", "o"), issue(registry, "gateway", "g")]

    rows = registry.store.read(lambda tx: tx.connection.execute(select(schema.credentials)).all())

    stored = b"".join(bytes(part) for row in rows for part in row if isinstance(part, bytes))
    stored += "".join(part for row in rows for part in row if isinstance(part, str)).encode()
    for token in tokens:
        secret = token.split("_", 2)[2]
        assert secret.encode() not in stored
        assert base64.urlsafe_b64decode(secret + "=") not in stored
    assert b"alice" not in stored


@pytest.mark.parametrize(
    "token",
    [
        "",
        "lethe",
        "lethe_client",
        "lethe_client_",
        "lethe_client_AAAA",
        "lethe_client_" + "A" * 44,
        "lethe_root_" + "A" * 43,
        "other_client_" + "A" * 43,
        "lethe_client_" + "Å" * 43,
        "lethe_client_" + "!" * 43,
        "lethe_client_" + "A" * 100_000,
        "\x00" * 50,
    ],
)
def test_what_is_no_token_is_not_authenticated(token: str) -> None:
    with pytest.raises(NotAuthenticated):
        credentials.parse_token(token)


def test_a_token_nobody_issued_is_not_authenticated(registry: Registry) -> None:
    for kind in credentials.KINDS:
        with pytest.raises(NotAuthenticated):
            authenticate(registry, f"lethe_{kind}_{'A' * 43}")


def test_a_token_of_another_registry_is_not_authenticated(make_registry: MakeRegistry) -> None:
    one, other = make_registry(), make_registry()
    with pytest.raises(NotAuthenticated):
        authenticate(other, issue(one, "operator", "o"))


def test_an_unknown_account_gets_no_token(registry: Registry) -> None:
    with pytest.raises(AccountUnknown):
        registry.token("carol")


@pytest.mark.parametrize(("kind", "label"), [("client", "x"), ("root", "x"), ("gateway", ""), ("gateway", "x" * 65)])
def test_what_is_no_kind_or_label_is_refused(registry: Registry, kind: str, label: str) -> None:
    with pytest.raises(InvalidValue):
        issue(registry, kind, label)
    assert registry.store.read(credentials.count_by_kind) == {"client": 0, "operator": 0, "gateway": 0}


def test_credentials_are_counted_by_kind(registry: Registry) -> None:
    registry.token("alice")
    issue(registry, "gateway", "g1")
    issue(registry, "gateway", "g2")
    assert registry.store.read(credentials.count_by_kind) == {"client": 1, "operator": 0, "gateway": 2}
