# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preshared keys on their way from the registry to clients, which whoever records it cannot read with a quantum
computer later: TLS alone does not promise that.

The one who asks makes a key pair for this one request and sends its public half; the registry seals the preshared key
to it. A request that is sent again has another key pair, and gets the same preshared key. It is HPKE in base mode (RFC
9180) with the hybrid KEM MLKEM768-X25519, also called X-Wing (draft-ietf-hpke-pq, KEM id 0x647A): to open it, both
ML-KEM-768 and X25519 have to be broken. Whose preshared key it is is bound to it: it cannot be passed off as another's.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

from .wireguard.errors import InvalidValue, LetheError, MissingLibrary
from .wireguard.keys import PresharedKey, PublicKey

LIBRARY = "cryptography"
ONE_TIME_KEY_BYTES = 1184 + 32  # of ML-KEM-768 (FIPS 203, table 3), then of X25519
SEALED_BYTES = 1088 + 32 + 32 + 16  # what both encapsulate, the preshared key, the tag of ChaCha20-Poly1305
_PURPOSE = b"lethe preshared key 1\0"  # another number for another format
_MLKEM_BYTES = 1184


class NotOpened(LetheError):
    """It was sealed to another key or for another WireGuard key, was changed since, or is not sealed at all."""

    def __init__(self) -> None:
        super().__init__("the registry's answer was changed on its way: its preshared key cannot be opened; ask again")


class SealingKey:
    """The public half of a one-time key: what a preshared key is sealed to."""

    def __init__(self, raw: bytes) -> None:
        """Raises InvalidValue for what nothing can be sealed to, MissingLibrary."""
        hpke, mlkem, x25519 = _library()
        try:
            self._key = hpke.MLKEM768X25519PublicKey(
                mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_BYTES]),
                x25519.X25519PublicKey.from_public_bytes(raw[_MLKEM_BYTES:]),
            )
            # A point of low order is only found out by using it; this is the time to refuse it.
            _suite().encrypt(b"", self._key)
        except ValueError:
            raise _malformed() from None

    @classmethod
    def from_text(cls, text: Any) -> SealingKey:
        """Raises InvalidValue, MissingLibrary."""
        raw = _from_text(text)
        if raw is None or len(raw) != ONE_TIME_KEY_BYTES:
            raise _malformed()
        return cls(raw)

    def seal(self, preshared_key: PresharedKey, public_key: PublicKey) -> str:
        """The preshared key of ``public_key``, in base64; readable with the one-time key's other half alone."""
        return _text(_suite().encrypt(bytes(preshared_key), self._key, _PURPOSE + public_key))


class OneTimeKey:
    """A key pair for one request. Its private half is in this object and nowhere else."""

    def __init__(self) -> None:
        """Raises MissingLibrary, also where the library was built without ML-KEM."""
        hpke, mlkem, x25519 = _library()
        from cryptography.exceptions import UnsupportedAlgorithm

        try:
            of_mlkem, of_x25519 = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
        except UnsupportedAlgorithm:
            raise _missing() from None
        self._key = hpke.MLKEM768X25519PrivateKey(of_mlkem, of_x25519)
        self.public_text = _text(of_mlkem.public_key().public_bytes_raw() + of_x25519.public_key().public_bytes_raw())
        """What the registry is sent: base64."""

    def open(self, sealed: Any, public_key: PublicKey) -> PresharedKey:
        """What SealingKey.seal made for it and ``public_key``. Raises NotOpened."""
        from cryptography.exceptions import InvalidTag

        raw = _from_text(sealed)
        if raw is None or len(raw) != SEALED_BYTES:
            raise NotOpened
        try:
            return PresharedKey(_suite().decrypt(raw, self._key, _PURPOSE + public_key))
        except (InvalidTag, ValueError):
            raise NotOpened from None

    def opened(self, answer: Mapping[str, Any], public_key: PublicKey) -> PresharedKey | None:
        """The preshared key in a registry's answer to a request with this key; None: there is none. One that is not
        sealed is not taken. Raises NotOpened.
        """
        if answer.get("preshared_key") is not None:
            raise NotOpened
        sealed = answer.get("sealed_preshared_key")
        return None if sealed is None else self.open(sealed, public_key)


def one_time_key() -> OneTimeKey | None:
    """None on a host without the library."""
    try:
        return OneTimeKey()
    except MissingLibrary:
        return None


def _library() -> tuple[Any, Any, Any]:
    """Imported late: gateways do without it. Raises MissingLibrary."""
    try:
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
    except ImportError:  # it is not there, or of a version before these
        raise _missing() from None
    return hpke, mlkem, x25519


def _missing() -> MissingLibrary:
    return MissingLibrary(LIBRARY, "seal and open preshared keys")


def _suite() -> Any:
    hpke, _mlkem, _x25519 = _library()
    return hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def _malformed() -> InvalidValue:
    return InvalidValue(
        "one_time_key",
        "is no key that a preshared key can be sealed to",
        f"give {ONE_TIME_KEY_BYTES} bytes in base64, the public keys of ML-KEM-768 and of X25519, new for each request",
    )


def _text(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode("ascii")


def _from_text(text: Any) -> bytes | None:
    """None for what is not base64 in its canonical spelling."""
    try:
        raw = binascii.a2b_base64(text)
    except (TypeError, ValueError):
        return None
    return raw if _text(raw) == text else None
