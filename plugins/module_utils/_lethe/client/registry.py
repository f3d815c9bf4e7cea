# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry's API as a client uses it. Every answer is checked before it is believed, and every failure is one of
four: try again, another key is needed, the key is gone, a person has to do something.
"""

from __future__ import annotations

import datetime
import json
import ssl
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, urlsplit

from .. import https
from ..gateways import Gateway, gateways_from
from ..sealing import NotOpened, OneTimeKey, one_time_key
from ..version import VERSION
from ..wireguard.errors import InvalidValue, LetheError
from ..wireguard.interface import address_from_text
from ..wireguard.keys import NO_PRESHARED_KEY, PresharedKey, PublicKey
from .rotation import Registration

_LARGEST = 1 << 22  # bytes of an answer: a list of gateways may have thousands
_LONGEST_WAIT = 3600  # seconds that a registry may ask for before the next request
_DAY_ZERO = datetime.date(1970, 1, 1)


class Away(LetheError):
    """No answer, or none that can be used; the same request may have one later."""

    def __init__(self, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class Refused(LetheError):
    """The registry will not, until somebody does something about it. ``slug``: which problem it named."""

    def __init__(self, message: str, slug: str = "") -> None:
        super().__init__(message)
        self.slug = slug


class KeyRefused(LetheError):
    """This key was in use before, or is in the middle of another rotation: another one is needed."""

    def __init__(self) -> None:
        super().__init__("the registry does not take this key; another one is made")


class KeyGone(LetheError):
    """The registry does not have the key. ``removed``: it remembers to have removed it, not long ago."""

    def __init__(self, *, removed: bool) -> None:
        super().__init__("the registry has removed the key" if removed else "the registry does not know the key")
        self.removed = removed


_FOR_PEOPLE = {
    "account-suspended": "the account is suspended: its keys work again once the operator resumes it",
    "account-closed": "the account is closed, and its keys are gone; ask the operator for another one",
    "account-unknown": "the account is not there any more; ask the operator for another one",
    "device-limit": "the account has as many keys as it may have; log another device out, or ask the operator for more",
    "not-authenticated": "the registry does not know this client's credential; ask the operator for a new one",
    "not-allowed": "the credential is none of a client's; ask the operator for one",
    "one-time-key-needed": "this fleet's preshared keys are sealed, and Lethe's Python here has no library to open "
    "them; deploy the role lethe.wireguard.runtime again, with runtime_client: true",
}
_GONE = {"key-unknown": False, "key-removed": True}
_ANOTHER_KEY = ("key-taken", "rotation-conflict")


class Answer(NamedTuple):
    """What came back over HTTP."""

    status: int
    body: bytes
    retry_after: int = 0  # seconds


class Transport(Protocol):
    """How requests travel; a test's loses and doubles them."""

    def ask(self, method: str, path: str, body: bytes | None) -> Answer:
        """Raises Away, Refused."""


class Http:
    """Python's own library, a connection for each request: there are few, days apart."""

    def __init__(self, url: str, credential: str, context: ssl.SSLContext | None) -> None:
        """``context``: for https."""
        self._url: SplitResult = urlsplit(url)
        self._context = context
        self._headers = {
            "Authorization": f"Bearer {credential}",
            "User-Agent": f"lethe-client/{VERSION}",
            "Connection": "close",
        }

    def ask(self, method: str, path: str, body: bytes | None) -> Answer:
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        connection = https.connection(self._url, self._context)
        try:
            with https.failures_told(self._url.hostname or "", Away, Refused):
                connection.request(method, self._url.path + path, body, headers)
                with connection.getresponse() as answer:
                    content = answer.read(_LARGEST)
        finally:
            connection.close()
        seconds = answer.getheader("Retry-After", "")
        return Answer(answer.status, content, min(int(seconds), _LONGEST_WAIT) if _is_number(seconds) else 0)


class Registry:
    """What a client asks. All methods raise Away and Refused; those about a key KeyGone and KeyRefused as well. All may
    be sent again, however often.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def register(self, public_key: PublicKey) -> Registration:
        return self._agreed("/v1/registrations", public_key, public_key=public_key.text)

    def rotate(self, public_key: PublicKey, successor: PublicKey) -> Registration:
        """Register ``successor`` beside ``public_key``; returns what it got."""
        path = "/v1/registrations/rotate"
        return self._agreed(path, successor, public_key=public_key.text, successor=successor.text)

    def confirm(self, public_key: PublicKey) -> None:
        """The key that this one rotates out may go."""
        # The answer tells the preshared key once more: sealed, though nobody needs it.
        self._agreed("/v1/registrations/confirm", public_key, public_key=public_key.text)

    def delete(self, public_key: PublicKey) -> None:
        self._post("/v1/registrations/delete", public_key=public_key.text)

    def has_been_applied(self, public_key: PublicKey) -> bool:
        """Whether the gateways that are connected to the registry have the key: at least one, and none lacks it."""
        applied = self._post("/v1/registrations/applied", public_key=public_key.text).get("applied")
        if not isinstance(applied, bool):
            raise _not_a_registry()
        return applied

    def gateways(self) -> tuple[Gateway, ...]:
        """Those that a client may connect to."""
        try:
            return gateways_from(self._read("GET", "/v1/account/gateways", None).get("gateways"))
        except InvalidValue as error:
            raise Away(f"the registry's list of gateways cannot be used: {error}") from None

    def _agreed(self, path: str, expected: PublicKey, **body: str) -> Registration:
        """What the ``expected`` key got. Its preshared key travels sealed, if this host has the library for it."""
        own = one_time_key()
        if own is not None:
            body["one_time_key"] = own.public_text
        return _registration(self._post(path, **body), expected, own)

    def _post(self, path: str, **body: str) -> dict[str, Any]:
        return self._read("POST", path, json.dumps(body).encode())

    def _read(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        answer = self._transport.ask(method, path, body)
        if answer.status not in (200, 201):
            raise _failure(answer)
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise _not_a_registry()
        return document


def _registration(answer: dict[str, Any], expected: PublicKey, own: OneTimeKey | None) -> Registration:
    """``own``: to what a preshared key in it is sealed."""
    try:
        if PublicKey.from_text(answer["public_key"]) != expected:
            raise _not_a_registry()
        addresses = tuple(address_from_text(text) for text in answer["allowed_ips"])
        preshared_key = _preshared_key(answer, expected, own)
        expires_on = answer.get("expires_on")
        day = None if expires_on is None else (datetime.date.fromisoformat(expires_on) - _DAY_ZERO).days
    except (InvalidValue, KeyError, TypeError, ValueError):
        raise _not_a_registry() from None
    if not addresses:
        raise _not_a_registry()
    return Registration(addresses, preshared_key, day)


def _preshared_key(answer: dict[str, Any], public_key: PublicKey, own: OneTimeKey | None) -> PresharedKey:
    """Raises InvalidValue, Away."""
    if own is None:
        given = answer.get("preshared_key")
        return NO_PRESHARED_KEY if given is None else PresharedKey.from_text(given)
    try:
        return own.opened(answer, public_key) or NO_PRESHARED_KEY
    except NotOpened as error:
        raise Away(str(error)) from None


def _failure(answer: Answer) -> LetheError:
    """What to think of an answer that is not the one that was asked for. Only the problem's name is shown of it."""
    slug = https.problem_in(answer.body)
    if slug in _GONE:
        return KeyGone(removed=_GONE[slug])
    if slug in _ANOTHER_KEY:
        return KeyRefused()
    if slug in _FOR_PEOPLE:
        return Refused(_FOR_PEOPLE[slug], slug)
    told = f"HTTP {answer.status}, {slug}" if slug else f"HTTP {answer.status}"
    if slug:
        return Away(f"the registry cannot do it now ({told})", answer.retry_after)
    return Away(f"what answers is no registry, or a proxy that does not reach it ({told}); see the setting url")


def _not_a_registry() -> Away:
    return Away("what answers is no registry of this version; see the setting url")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
