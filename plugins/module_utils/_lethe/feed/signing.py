# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed documents: 8 bytes of magic, an Ed25519 signature over magic and content, the content.

The registry has the signing key; gateways have the verify key, so that neither a cache nor whoever has a gateway's
credential can give a gateway a peer. Two verify keys are accepted, for the time in which one replaces the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..wireguard.errors import InvalidValue, MissingLibrary
from ..wireguard.keys import Key
from .errors import NotGenuine

MAGIC_BYTES = 8
SIGNATURE_BYTES = 64  # RFC 8032, section 5.1.6
HEAD_BYTES = MAGIC_BYTES + SIGNATURE_BYTES
_MOST_KEYS = 2


class _Ed25519Key(Key):
    __slots__ = ()

    @classmethod
    def _malformed(cls, field: str) -> InvalidValue:
        return InvalidValue(
            field or cls.field,
            "is not a key",
            "a key is 44 characters of base64 that end in '=', as 'lethe-registry feed-key show' prints them",
        )


class SigningKey(_Ed25519Key):
    """The secret half: the seed of an Ed25519 key (RFC 8032, section 5.1.5)."""

    __slots__ = ()
    field = "signing_key"

    def verify_key(self) -> VerifyKey:
        """Raises MissingLibrary without PyNaCl."""
        return VerifyKey(_key_pair(self)[0])


class VerifyKey(_Ed25519Key):
    """The half that gateways have."""

    __slots__ = ()
    field = "verify_key"


class Signer:
    """Signs documents with one key."""

    def __init__(self, key: SigningKey) -> None:
        """Raises MissingLibrary without PyNaCl."""
        self._secret = _key_pair(key)[1]

    def sealed(self, magic: bytes, content: bytes) -> bytes:
        """The document with this content."""
        from nacl.bindings import crypto_sign

        signed = crypto_sign(magic + content, self._secret)
        return b"".join((magic, signed[:SIGNATURE_BYTES], content))


class VerifyKeys:
    """The one or two keys that a gateway accepts."""

    def __init__(self, keys: Iterable[VerifyKey], field: str = "verify_keys") -> None:
        """Raises InvalidValue, which names ``field``."""
        self._keys = tuple(keys)
        if not 1 <= len(self._keys) <= _MOST_KEYS:
            raise InvalidValue(
                field, f"are {len(self._keys)} keys", "give the registry's key, and beside it the next one at most"
            )

    @classmethod
    def from_texts(cls, texts: Sequence[Any], field: str = "verify_keys") -> VerifyKeys:
        """From base64. Raises InvalidValue, which names the one at fault."""
        return cls([VerifyKey.from_text(text, f"{field}[{i}]") for i, text in enumerate(texts)], field)

    def content(self, magic: bytes, document: bytes, what: str) -> memoryview:
        """The document's content, whose signature is right. Raises NotGenuine, which names ``what``, and
        MissingLibrary without PyNaCl.
        """
        try:
            from nacl.bindings import crypto_sign_open
            from nacl.exceptions import BadSignatureError
        except ImportError:
            raise MissingLibrary("PyNaCl", "verify a signature") from None
        if len(document) < HEAD_BYTES or not document.startswith(magic):
            raise NotGenuine(what)
        view = memoryview(document)
        signed = b"".join((view[MAGIC_BYTES:HEAD_BYTES], magic, view[HEAD_BYTES:]))
        for key in self._keys:
            try:
                crypto_sign_open(signed, key)
            except BadSignatureError:
                continue
            return view[HEAD_BYTES:]
        raise NotGenuine(what)


def _key_pair(key: SigningKey) -> tuple[bytes, bytes]:
    """Public and secret key, as libsodium has them."""
    try:
        from nacl.bindings import crypto_sign_seed_keypair
    except ImportError:
        raise MissingLibrary("PyNaCl", "sign") from None
    return crypto_sign_seed_keypair(bytes(key))
