# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Curve25519 keys and preshared keys: 32 bytes each, text only at the edges.

The types are ``bytes`` underneath, so that a hundred thousand of them can be hashed and compared at C
speed; their ``repr`` and ``str`` hide the content, so that no log, traceback or diff can show it by accident.
"""

from __future__ import annotations

import binascii
import hashlib
import secrets
from typing import Any, TypeVar

from .errors import InvalidValue, MissingLibrary

KEY_BYTES = 32  # WG_KEY_LEN, include/uapi/linux/wireguard.h

_K = TypeVar("_K", bound="Key")


class Key(bytes):
    """32 bytes that must not be shown. ``from_text`` and ``text`` speak base64, as ``wg`` does."""

    __slots__ = ()
    field = "key"

    def __new__(cls: type[_K], raw: bytes) -> _K:
        if len(raw) != KEY_BYTES:
            raise InvalidValue(cls.field, f"has {len(raw)} bytes", f"a key has {KEY_BYTES}")
        return super().__new__(cls, raw)

    @classmethod
    def from_text(cls: type[_K], text: Any, field: str = "") -> _K:
        """Parse 44 characters of base64. Only the canonical spelling is taken, as by ``wg``.

        Raises InvalidValue, which names ``field`` and does not show the text.
        """
        try:
            raw = binascii.a2b_base64(text)
            # Re-encoding catches what a2b_base64 lets pass: foreign characters, white space, stray low bits.
            if len(raw) == KEY_BYTES and binascii.b2a_base64(raw, newline=False).decode("ascii") == text:
                return bytes.__new__(cls, raw)
        except (TypeError, ValueError):
            pass
        raise cls._malformed(field)

    @classmethod
    def _malformed(cls, field: str) -> InvalidValue:
        return InvalidValue(
            field or cls.field,
            "is not a key",
            "a key is 44 characters of base64 that end in '=', as 'wg genkey', 'wg pubkey' and 'wg genpsk' print them",
        )

    @property
    def text(self) -> str:
        """44 characters of base64."""
        return binascii.b2a_base64(self, newline=False).decode("ascii")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)


class PublicKey(Key):
    """The name of a peer."""

    __slots__ = ()
    field = "public_key"


class PrivateKey(Key):
    """Always clamped: the kernel redoes its work for every peer when it is sent an unclamped key again."""

    __slots__ = ()
    field = "private_key"

    def __new__(cls, raw: bytes) -> PrivateKey:
        return super().__new__(cls, clamped(raw))

    @classmethod
    def from_text(cls, text: Any, field: str = "") -> PrivateKey:
        return cls(bytes(super().from_text(text, field)))

    def public_key(self) -> PublicKey:
        """The public key that belongs to it. Raises MissingLibrary without PyNaCl."""
        try:
            from nacl.bindings import crypto_scalarmult_base
        except ImportError:
            raise MissingLibrary("PyNaCl", "derive a public key") from None
        return PublicKey(crypto_scalarmult_base(bytes(self)))


class PresharedKey(Key):
    """32 random bytes that both ends mix into every handshake. All zero means that there is none."""

    __slots__ = ()
    field = "preshared_key"


NO_PRESHARED_KEY = PresharedKey(bytes(KEY_BYTES))
"""What the kernel reports for, and takes as, a peer without a preshared key."""


def clamped(raw: bytes) -> bytes:
    """``raw`` with the bits of a Curve25519 scalar set and cleared (RFC 7748, section 5)."""
    if len(raw) != KEY_BYTES:
        return raw  # the length is the caller's error to report
    return bytes([raw[0] & 248]) + raw[1:31] + bytes([(raw[31] & 127) | 64])


def generate_private_key() -> PrivateKey:
    """A new private key from the operating system's random source."""
    return PrivateKey(secrets.token_bytes(KEY_BYTES))


def generate_preshared_key() -> PresharedKey:
    """A new preshared key from the operating system's random source."""
    return PresharedKey(secrets.token_bytes(KEY_BYTES))


def fingerprint(public_key: PublicKey) -> str:
    """A short name for a peer in diffs: 8 hexadecimal digits that do not tell the key. Whoever has the key
    can compute it (``lethe fingerprint``); two of 10,000 peers share one with a chance of 1 %.
    """
    return hashlib.sha256(b"lethe peer" + public_key).hexdigest()[:8]
