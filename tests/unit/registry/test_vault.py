# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the database must not be able to tell, and that other secrets than the database's own are noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry.fixtures import MakeRegistry, NewDatabase
from registry.support import MASTER, Clock, Registry, key
from sqlalchemy import select, update

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import schema
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.errors import DatabaseUnusable
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.settings import Settings
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Environment, open_store
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.vault import Vault
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PresharedKey

PRESHARED = PresharedKey(bytes(reversed(range(32))))


def test_the_same_secrets_give_the_same_hashes_and_others_give_others() -> None:
    one, same, other = Vault(MASTER), Vault(MASTER), Vault(bytes(32))
    for hashed in (
        lambda vault: vault.account_hash("alice"),
        lambda vault: vault.address_hash(b"\x0a\0\0\1"),
        lambda vault: vault.token_hash(bytes(32)),
        lambda vault: vault.fingerprint,
    ):
        assert hashed(one) == hashed(same) != hashed(other)
        assert len(hashed(one)) == 32


def test_a_hash_of_one_kind_is_none_of_another() -> None:
    vault = Vault(MASTER)
    assert len({vault.account_hash("0000"), vault.address_hash(b"0000"), vault.token_hash(b"0000")}) == 3
    assert MASTER not in vault.fingerprint


def test_a_sealed_preshared_key_opens_for_its_own_key_and_vault_alone() -> None:
    vault = Vault(MASTER)
    sealed = vault.seal(PRESHARED, key(1))

    assert vault.unseal(sealed, key(1)) == PRESHARED
    assert bytes(PRESHARED) not in sealed
    for opener, public_key, content in (
        (Vault(bytes(32)), key(1), sealed),
        (vault, key(2), sealed),
        (vault, key(1), sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (vault, key(1), sealed[:10]),
        (vault, key(1), b""),
    ):
        with pytest.raises(InvalidValue, match=r"^secrets_file: does not fit the database"):
            opener.unseal(content, public_key)


def test_the_same_preshared_key_is_never_sealed_alike() -> None:
    vault = Vault(MASTER)
    assert vault.seal(PRESHARED, key(1)) != vault.seal(PRESHARED, key(1))


def test_every_registration_has_a_preshared_key_of_its_own_where_the_fleet_has_them(
    make_registry: MakeRegistry,
) -> None:
    registry = make_registry(preshared_keys=True)
    registry.create("alice")
    first, _ = registry.register("alice", key(1))
    second, _ = registry.register("alice", key(2))
    successor, _ = registry.begin("alice", key(1), key(3))

    assert len({first.preshared_key, second.preshared_key, successor.preshared_key, None}) == 4
    assert {each.preshared_key for each in registry.exported().values()} == {
        first.preshared_key,
        second.preshared_key,
        successor.preshared_key,
    }
    assert registry.register("alice", key(1))[0].preshared_key == first.preshared_key
    stored = registry.store.read(
        lambda tx: tx.connection.execute(select(schema.registrations.c.preshared_key)).scalars().all()
    )
    assert len(stored) == 3
    assert not any(bytes(each.preshared_key or b"?") in b"".join(stored) for each in (first, second, successor))


def test_a_row_moved_to_another_key_does_not_open(make_registry: MakeRegistry) -> None:
    """Whoever can write to the database cannot give one peer the preshared key of another."""
    registry = make_registry(preshared_keys=True)
    registry.create("alice")
    for n in (1, 2):
        registry.register("alice", key(n))
    table = schema.registrations
    sealed = select(table.c.preshared_key).where(table.c.public_key == bytes(key(1))).scalar_subquery()
    registry.store.write(lambda tx: tx.connection.execute(update(table).values(preshared_key=sealed)) and None)

    with pytest.raises(InvalidValue, match=r"^secrets_file: does not fit"):
        registry.exported()


def test_a_database_opens_with_no_secrets_but_those_it_was_made_with(new_database: NewDatabase) -> None:
    url = new_database()
    Registry.open(url, Clock()).close()

    with pytest.raises(DatabaseUnusable, match=r"^the secrets file is not the one"):
        open_store(Environment.of(Settings(database=url), Vault(bytes(32))))
    Registry.open(url, Clock()).close()


def test_secrets_come_from_a_file_that_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    assert Vault.create_file(path)
    content = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600

    assert not Vault.create_file(path)
    assert path.read_bytes() == content
    assert Vault.from_file(path).fingerprint == Vault.from_file(path).fingerprint
    assert Vault.create_file(tmp_path / "other")
    assert Vault.from_file(path).fingerprint != Vault.from_file(tmp_path / "other").fingerprint


@pytest.mark.parametrize("content", [None, "", "not a key\n"])
def test_a_secrets_file_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "secrets"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(InvalidValue):
        Vault.from_file(path)
