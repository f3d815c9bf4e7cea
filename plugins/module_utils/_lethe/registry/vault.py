# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the database must not be able to tell: keyed hashes and sealed values, under keys that are not in it.

One master key in a file; each use derives its own (keyed BLAKE2b with a personal label), so that a hash of
one kind says nothing about another.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from ..wireguard.errors import InvalidValue
from ..wireguard.key_files import ensure_key, read_key
from ..wireguard.keys import PresharedKey, PublicKey

HASH_BYTES = 32
_TOKEN_BYTES = 32


class Vault:
    """Hashes and seals for one registry."""

    def __init__(self, master: bytes) -> None:
        def derive(label: bytes) -> bytes:
            return hashlib.blake2b(b"", key=master, person=label, digest_size=HASH_BYTES).digest()

        self._account = derive(b"lethe account")
        self._address = derive(b"lethe address")
        self._token = derive(b"lethe token")
        self._box = SecretBox(derive(b"lethe psk"))
        self.fingerprint = derive(b"lethe vault")
        """Tells one vault from another, and nothing else."""

    @classmethod
    def from_file(cls, path: str | Path) -> Vault:
        """Raises InvalidValue if the file is not there or holds no key."""
        return cls(bytes(read_key(path, PresharedKey)))

    @staticmethod
    def create_file(path: str | Path) -> bool:
        """Make the master key if there is none; returns whether it did."""
        return "created" in ensure_key(path, PresharedKey).steps

    def account_hash(self, account: str) -> bytes:
        """What stands for the operator's account id."""
        return hashlib.blake2b(account.encode(), key=self._account, digest_size=HASH_BYTES).digest()

    def address_hash(self, address: bytes) -> bytes:
        """What stands for a tunnel address that rests."""
        return hashlib.blake2b(address, key=self._address, digest_size=HASH_BYTES).digest()

    def token_hash(self, secret: bytes) -> bytes:
        """What stands for a credential's secret."""
        return hashlib.blake2b(secret, key=self._token, digest_size=HASH_BYTES).digest()

    def seal(self, preshared_key: PresharedKey, public_key: PublicKey) -> bytes:
        """A preshared key, readable only with the vault and only for this public key."""
        return bytes(self._box.encrypt(bytes(preshared_key) + self._binding(public_key)))

    def unseal(self, sealed: bytes, public_key: PublicKey) -> PresharedKey:
        """Raises InvalidValue if it was sealed by another vault, or for another key."""
        try:
            opened = self._box.decrypt(sealed)
        except CryptoError:
            opened = b""
        if not hmac.compare_digest(opened[32:], self._binding(public_key)):
            raise InvalidValue(
                "secrets_file", "does not fit the database", "give the file that was in use when the keys were made"
            )
        return PresharedKey(opened[:32])

    @staticmethod
    def _binding(public_key: PublicKey) -> bytes:
        return hashlib.blake2b(public_key, digest_size=16).digest()


def new_secret() -> bytes:
    return secrets.token_bytes(_TOKEN_BYTES)
