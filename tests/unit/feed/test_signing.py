# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures: what was signed is accepted whole, and nothing else is."""

from __future__ import annotations

import base64

import pytest
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.errors import NotGenuine
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.signing import (
    HEAD_BYTES,
    Signer,
    SigningKey,
    VerifyKey,
    VerifyKeys,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

MAGIC = b"LETHETST"
KEY = SigningKey(bytes(range(32)))
NEXT = SigningKey(bytes(range(32, 64)))
STRANGER = SigningKey(bytes(32))


def accepting(*keys: SigningKey) -> VerifyKeys:
    return VerifyKeys([key.verify_key() for key in keys])


def test_a_document_is_laid_out_as_other_implementations_of_ed25519_expect() -> None:
    """RFC 8032, section 7.1, test 1: of a message that is empty, so without magic."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signature = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert SigningKey(seed).verify_key().hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert Signer(SigningKey(seed)).sealed(b"", b"").hex() == signature


@given(st.binary(max_size=300))
def test_what_was_signed_is_read(content: bytes) -> None:
    document = Signer(KEY).sealed(MAGIC, content)
    assert document[:8] == MAGIC
    assert len(document) == HEAD_BYTES + len(content)
    assert accepting(KEY).content(MAGIC, document, "it") == content


def test_two_keys_are_accepted_while_one_replaces_the_other() -> None:
    for signing in (KEY, NEXT):
        assert accepting(KEY, NEXT).content(MAGIC, Signer(signing).sealed(MAGIC, b"secret"), "it") == b"secret"
    with pytest.raises(NotGenuine):
        accepting(NEXT).content(MAGIC, Signer(KEY).sealed(MAGIC, b"secret"), "it")


@given(st.integers(0, HEAD_BYTES + 19), st.integers(1, 255))
def test_a_document_with_any_byte_changed_is_refused(place: int, change: int) -> None:
    document = bytearray(Signer(KEY).sealed(MAGIC, b"the secret of a peer"))
    document[place] ^= change
    with pytest.raises(NotGenuine) as caught:
        accepting(KEY, NEXT).content(MAGIC, bytes(document), "the batch")
    assert str(caught.value).startswith("the batch: ")
    assert "secret" not in told_by(caught.value)


@given(st.integers(0, HEAD_BYTES + 19))
def test_a_document_that_was_cut_off_is_refused(length: int) -> None:
    document = Signer(KEY).sealed(MAGIC, b"the secret of a peer")
    with pytest.raises(NotGenuine):
        accepting(KEY).content(MAGIC, document[:length], "it")


def test_a_document_with_more_behind_it_is_refused() -> None:
    with pytest.raises(NotGenuine):
        accepting(KEY).content(MAGIC, Signer(KEY).sealed(MAGIC, b"") + b"\0", "it")


def test_a_document_of_another_kind_or_by_a_stranger_is_refused() -> None:
    for document in (Signer(KEY).sealed(b"LETHEOTH", b""), Signer(STRANGER).sealed(MAGIC, b"")):
        with pytest.raises(NotGenuine):
            accepting(KEY, NEXT).content(MAGIC, document, "it")


def test_keys_travel_as_base64_and_do_not_show_themselves() -> None:
    text = KEY.verify_key().text
    assert base64.b64decode(text) == KEY.verify_key()
    assert VerifyKeys.from_texts([text]).content(MAGIC, Signer(KEY).sealed(MAGIC, b"1"), "it") == b"1"
    assert KEY.text not in f"{KEY!r} {KEY}"


@pytest.mark.parametrize("texts", [[], [STRANGER.text] * 3])
def test_one_or_two_verify_keys_are_wanted(texts: list[str]) -> None:
    with pytest.raises(InvalidValue, match="verify_keys"):
        VerifyKeys.from_texts(texts)


def test_a_verify_key_that_is_none_is_named_by_its_place() -> None:
    with pytest.raises(InvalidValue) as caught:
        VerifyKeys.from_texts([VerifyKey(bytes(32)).text, "secret"])
    assert caught.value.field == "verify_keys[1]"
    assert "feed-key" in caught.value.remedy
    assert "secret" not in told_by(caught.value)
