# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A preshared key is read by whom it is sealed to, and by nobody else: in the standard's format, and unchanged."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mlkem
from hiding import told_by
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl import bindings
from without_sealing import without_sealing

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.sealing import (
    ONE_TIME_KEY_BYTES,
    SEALED_BYTES,
    NotOpened,
    OneTimeKey,
    SealingKey,
    one_time_key,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import (
    InvalidValue,
    MissingLibrary,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PresharedKey, PublicKey

OWNER, OTHER = PublicKey(bytes(range(32))), PublicKey(bytes(range(1, 33)))
PRESHARED = PresharedKey(bytes(reversed(range(32))))
OWN = OneTimeKey()
SEALED = SealingKey.from_text(OWN.public_text).seal(PRESHARED, OWNER)
MLKEM = 1184  # bytes of its public key
INFO = b"lethe preshared key 1\0" + OWNER


def raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class Standard:
    """RFC 9180 written down once more, with X-Wing as its KEM; of our own code it has nothing."""

    suite = b"HPKE\x64\x7a\x00\x01\x00\x03"

    @staticmethod
    def shared_secret(of_mlkem: bytes, of_x25519: bytes, ciphertext: bytes, public_key: bytes) -> bytes:
        """draft-connolly-cfrg-xwing-kem, section 5.3."""
        return hashlib.sha3_256(of_mlkem + of_x25519 + ciphertext + public_key + rb"\.//^" + b"\\").digest()

    @classmethod
    def extract(cls, salt: bytes, label: bytes, secret: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + cls.suite + label + secret, "sha256")

    @classmethod
    def expand(cls, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
        """At most 32 bytes: one round of HKDF."""
        labelled = length.to_bytes(2, "big") + b"HPKE-v1" + cls.suite + label + info
        return hmac.digest(key, labelled + b"\x01", "sha256")[:length]

    @classmethod
    def key_and_nonce(cls, shared_secret: bytes) -> tuple[bytes, bytes]:
        """The key schedule of the base mode; section 5.1."""
        context = b"\0" + cls.extract(b"", b"psk_id_hash", b"") + cls.extract(b"", b"info_hash", INFO)
        secret = cls.extract(shared_secret, b"secret", b"")
        return cls.expand(secret, b"key", context, 32), cls.expand(secret, b"base_nonce", context, 12)


class TestFormat:
    def test_what_is_sealed_the_standard_opens(self) -> None:
        of_mlkem, of_x25519 = mlkem.MLKEM768PrivateKey.generate(), bindings.randombytes(32)
        public_key = bindings.crypto_scalarmult_base(of_x25519)
        own = text(of_mlkem.public_key().public_bytes_raw() + public_key)

        sealed = raw(SealingKey.from_text(own).seal(PRESHARED, OWNER))

        to_mlkem, to_x25519, ciphertext = sealed[:1088], sealed[1088:1120], sealed[1120:]
        shared_secret = Standard.shared_secret(
            of_mlkem.decapsulate(to_mlkem), bindings.crypto_scalarmult(of_x25519, to_x25519), to_x25519, public_key
        )
        key, nonce = Standard.key_and_nonce(shared_secret)
        assert bindings.crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, b"", nonce, key) == bytes(PRESHARED)

    def test_what_the_standard_seals_is_opened(self) -> None:
        own = raw(OWN.public_text)
        of_mlkem, to_mlkem = mlkem.MLKEM768PublicKey.from_public_bytes(own[:MLKEM]).encapsulate()
        ephemeral = bindings.randombytes(32)
        to_x25519 = bindings.crypto_scalarmult_base(ephemeral)
        shared_secret = Standard.shared_secret(
            of_mlkem, bindings.crypto_scalarmult(ephemeral, own[MLKEM:]), to_x25519, own[MLKEM:]
        )
        key, nonce = Standard.key_and_nonce(shared_secret)
        ciphertext = bindings.crypto_aead_chacha20poly1305_ietf_encrypt(bytes(PRESHARED), b"", nonce, key)

        assert OWN.open(text(to_mlkem + to_x25519 + ciphertext), OWNER) == PRESHARED

    def test_it_is_as_long_as_it_is_said_to_be(self) -> None:
        assert len(raw(OWN.public_text)) == ONE_TIME_KEY_BYTES
        assert len(raw(SEALED)) == SEALED_BYTES


class TestOpening:
    def test_the_same_preshared_key_is_opened_each_time_it_was_sealed(self) -> None:
        again = SealingKey.from_text(OWN.public_text).seal(PRESHARED, OWNER)
        other = OneTimeKey()
        sealed_to_other = SealingKey.from_text(other.public_text).seal(PRESHARED, OWNER)

        assert len({SEALED, again, sealed_to_other}) == 3
        assert OWN.open(SEALED, OWNER) == OWN.open(again, OWNER) == other.open(sealed_to_other, OWNER) == PRESHARED

    def test_another_one_time_key_does_not_open_it(self) -> None:
        with pytest.raises(NotOpened):
            OneTimeKey().open(SEALED, OWNER)

    def test_it_cannot_be_passed_off_as_anothers(self) -> None:
        with pytest.raises(NotOpened):
            OWN.open(SEALED, OTHER)

    @given(st.integers(0, SEALED_BYTES * 8 - 1))
    @settings(deadline=None, max_examples=300)
    def test_no_bit_of_it_can_be_changed(self, bit: int) -> None:
        with pytest.raises(NotOpened):
            OWN.open(text(flipped(raw(SEALED), bit)), OWNER)

    @given(st.integers(0, ONE_TIME_KEY_BYTES * 8 - 1))
    @settings(deadline=None, max_examples=300)
    @example(ONE_TIME_KEY_BYTES * 8 - 1)  # X25519 itself ignores this one
    def test_no_bit_of_the_one_time_key_can_be_changed(self, bit: int) -> None:
        """What is sealed to another one than was sent is not opened; many are no keys at all."""
        try:
            changed = SealingKey.from_text(text(flipped(raw(OWN.public_text), bit)))
        except InvalidValue:
            return
        with pytest.raises(NotOpened):
            OWN.open(changed.seal(PRESHARED, OWNER), OWNER)

    @given(st.binary(max_size=2 * SEALED_BYTES) | st.binary(min_size=SEALED_BYTES, max_size=SEALED_BYTES))
    @settings(deadline=None)
    def test_what_nobody_sealed_is_not_opened(self, content: bytes) -> None:
        with pytest.raises(NotOpened):
            OWN.open(text(content), OWNER)

    def test_what_is_malformed_is_not_opened(self) -> None:
        for sealed in (None, 7, "", "x", SEALED[:-4], SEALED + "AAAA", SEALED + "\n", "\n" + SEALED, "é", [], b"x"):
            with pytest.raises(NotOpened):
                OWN.open(sealed, OWNER)

    def test_what_goes_wrong_shows_neither_of_them(self) -> None:
        with pytest.raises(NotOpened) as caught:
            OneTimeKey().open(SEALED, OWNER)
        told = told_by(caught.value) + repr(OWN) + repr(SealingKey.from_text(OWN.public_text))
        assert [secret for secret in (SEALED, OWN.public_text, PRESHARED.text) if secret in told] == []


class TestAnswers:
    def test_a_sealed_preshared_key_is_taken(self) -> None:
        assert OWN.opened({"sealed_preshared_key": SEALED}, OWNER) == PRESHARED

    def test_there_may_be_none(self) -> None:
        assert OWN.opened({}, OWNER) is None

    @pytest.mark.parametrize("other", [{}, {"sealed_preshared_key": SEALED}], ids=["alone", "beside"])
    def test_one_that_is_not_sealed_is_not_taken(self, other: dict[str, str]) -> None:
        with pytest.raises(NotOpened):
            OWN.opened({"preshared_key": PRESHARED.text, **other}, OWNER)


class TestOneTimeKeys:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            raw(OWN.public_text)[:-1],
            raw(OWN.public_text) + b"\0",
            b"\xff" * MLKEM + raw(OWN.public_text)[MLKEM:],  # coefficients beyond the modulus: FIPS 203, section 7.2
            raw(OWN.public_text)[:MLKEM] + bytes(32),  # points of low order: whatever is sealed to them anybody opens
            raw(OWN.public_text)[:MLKEM] + b"\x01" + bytes(31),
        ],
        ids=["nothing", "short", "long", "no-mlkem", "zero", "one"],
    )
    def test_what_is_none_is_refused_and_not_shown(self, content: bytes) -> None:
        refused = r"^one_time_key: is no key that .* can be sealed to; give 1216"
        with pytest.raises(InvalidValue, match=refused) as caught:
            SealingKey.from_text(text(content))
        assert not content or text(content) not in told_by(caught.value)

    def test_what_is_no_text_of_one_is_refused(self) -> None:
        for none in (None, 5, "", "x", OWN.public_text + "\n", OWN.public_text[:-1], "é" * 1624, [], {}):
            with pytest.raises(InvalidValue, match=r"^one_time_key: "):
                SealingKey.from_text(none)

    def test_each_is_another_one(self) -> None:
        assert len({OneTimeKey().public_text for _ in range(5)}) == 5


class TestWithoutTheLibrary:
    def test_there_is_no_one_time_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        without_sealing(monkeypatch)
        assert one_time_key() is None
        with pytest.raises(MissingLibrary, match="cryptography"):
            OneTimeKey()

    def test_nor_where_it_was_built_without_mlkem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse() -> Any:
            raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this version of OpenSSL")

        monkeypatch.setattr(mlkem.MLKEM768PrivateKey, "generate", refuse)
        assert one_time_key() is None
