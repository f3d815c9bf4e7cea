# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import subprocess
import traceback

import pytest
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    KEY_BYTES,
    NO_PRESHARED_KEY,
    Key,
    PresharedKey,
    PrivateKey,
    PublicKey,
    clamped,
    fingerprint,
    generate_preshared_key,
    generate_private_key,
)

RAW = bytes(range(200, 232))
TEXT = base64.b64encode(RAW).decode()
KINDS = [PublicKey, PresharedKey]
SECRET = TEXT[:10]


@pytest.mark.parametrize("kind", KINDS)
@given(raw=st.binary(min_size=32, max_size=32))
def test_text_and_bytes_are_two_spellings_of_a_key(kind: type[Key], raw: bytes) -> None:
    key = kind.from_text(base64.b64encode(raw).decode())
    assert key == raw
    assert key.text == base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(TEXT[:-1], id="without the ="),
        pytest.param(TEXT + "=", id="one = more"),
        pytest.param(TEXT + "\n", id="a newline after it"),
        pytest.param(" " + TEXT, id="a space before it"),
        pytest.param(TEXT[:20] + " " + TEXT[20:], id="a space in it"),
        pytest.param(TEXT[:20] + "-" + TEXT[21:], id="the url alphabet"),
        pytest.param(TEXT[:20] + "!" + TEXT[20:], id="a foreign character"),
        pytest.param(TEXT[:-2] + chr(ord(TEXT[-2]) + 1) + "=", id="stray low bits"),
        pytest.param(TEXT[:20] + "é" + TEXT[21:], id="not ASCII"),
        pytest.param(TEXT[:20] + "\ud800" + TEXT[21:], id="a surrogate"),
        pytest.param(RAW.hex(), id="hexadecimal"),
        pytest.param(base64.b64encode(RAW[:31]).decode(), id="31 bytes"),
        pytest.param(base64.b64encode(RAW + b"x").decode(), id="33 bytes"),
        pytest.param(TEXT.encode(), id="bytes"),
        pytest.param(12, id="a number"),
        pytest.param(None, id="nothing"),
        pytest.param([TEXT], id="a list"),
    ],
)
@pytest.mark.parametrize("kind", [PublicKey, PrivateKey, PresharedKey])
def test_anything_but_canonical_base64_is_refused_without_showing_it(kind: type[Key], text: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        kind.from_text(text)
    assert caught.value.field == kind.field
    assert SECRET not in told_by(caught.value)
    assert RAW.hex()[:16] not in told_by(caught.value)


def test_what_wg_refuses_is_what_is_refused() -> None:
    stray = [TEXT[:-2] + letter + "=" for letter in "ABCDEFGH"]
    for text in stray:
        wg = subprocess.run(["wg", "pubkey"], input=text, capture_output=True, text=True, check=False)
        try:
            PrivateKey.from_text(text)
            taken = True
        except InvalidValue:
            taken = False
        assert taken == (wg.returncode == 0), text


@given(st.binary(max_size=80).filter(lambda raw: len(raw) != KEY_BYTES))
def test_a_key_has_32_bytes(raw: bytes) -> None:
    with pytest.raises(InvalidValue, match=f"has {len(raw)} bytes"):
        PublicKey(raw)


def test_the_field_that_is_blamed_can_be_named() -> None:
    with pytest.raises(InvalidValue) as caught:
        PublicKey.from_text("x", "peers[3].public_key")
    assert str(caught.value).startswith("peers[3].public_key: is not a key; ")


@pytest.mark.parametrize("key", [PublicKey(RAW), PrivateKey(RAW), PresharedKey(RAW)])
def test_no_way_of_printing_shows_a_key(key: Key) -> None:
    # ruff: noqa: UP031, UP032
    printed = [
        repr(key), str(key), f"{key}", f"{key!r}", f"{key!a}", f"{key:>60}", "%s" % (key,), "{:s}".format(key),
        repr([key]), repr({key: key}), ascii(key),
    ]  # fmt: skip
    secrets = [RAW.hex()[:8], key.text[:8], repr(bytes(key))[4:20], str(list(key))[1:10]]
    for text in printed:
        assert type(key).__name__ in text
        assert not any(secret in text for secret in secrets), text


def test_a_traceback_with_local_variables_does_not_show_a_key() -> None:
    def fail(key: PrivateKey) -> None:
        raise RuntimeError(f"with {key}")

    try:
        fail(PrivateKey(RAW))
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "<PrivateKey>" in shown
    assert "xcc" not in shown  # 204, as bytes are shown


@given(st.binary(min_size=32, max_size=32))
def test_a_private_key_is_always_clamped(raw: bytes) -> None:
    key = PrivateKey(raw)
    assert key[0] & 7 == 0
    assert key[31] & 0b1100_0000 == 0b0100_0000
    assert (key[0] >> 3, key[1:31], key[31] & 63) == (raw[0] >> 3, raw[1:31], raw[31] & 63)
    assert clamped(key) == key
    assert PrivateKey.from_text(base64.b64encode(raw).decode()) == key


@given(st.binary(min_size=32, max_size=32))
def test_a_public_key_is_the_same_before_and_after_clamping(raw: bytes) -> None:
    from nacl.bindings import crypto_scalarmult_base

    assert PrivateKey(raw).public_key() == crypto_scalarmult_base(raw)


def test_wg_derives_the_same_public_key() -> None:
    key = generate_private_key()
    wg = subprocess.run(["wg", "pubkey"], input=key.text, capture_output=True, text=True, check=True)
    assert key.public_key().text == wg.stdout.strip()


def test_the_public_key_of_rfc_7748() -> None:
    """Section 6.1: Alice's key pair."""
    private = PrivateKey(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert private.public_key().hex() == public


def test_generated_keys_differ_and_are_of_their_kind() -> None:
    private, preshared = generate_private_key(), generate_preshared_key()
    assert isinstance(private, PrivateKey)
    assert isinstance(preshared, PresharedKey)
    assert len({private, generate_private_key(), preshared, generate_preshared_key()}) == 4


def test_no_preshared_key_is_all_zero() -> None:
    assert bytes(32) == NO_PRESHARED_KEY


def test_a_fingerprint_is_short_and_tells_nothing_of_the_key() -> None:
    one, other = PublicKey(RAW), PublicKey(bytes(32))
    assert fingerprint(one) != fingerprint(other)
    assert len(fingerprint(one)) == 8
    assert fingerprint(one) not in RAW.hex()
