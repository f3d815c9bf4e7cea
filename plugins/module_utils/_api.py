# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry's HTTP API as modules use it: one request, one answer, every failure an error that says what to do."""

from __future__ import annotations

import http.client
import ipaddress
import json
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url

from ._lethe.wireguard.errors import InvalidValue, LetheError

API_SPEC: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "token": {"type": "str", "no_log": True},
    "token_file": {"type": "path", "no_log": False},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 30},
}
ONE_TOKEN = {"mutually_exclusive": [("token", "token_file")], "required_one_of": [("token", "token_file")]}

_LARGEST = 1 << 20  # bytes of an answer; those that are read at once are small
_LARGEST_TOKEN = 4096  # bytes of a file; more is no token
_PROBLEM = "urn:lethe:problem:"


class RegistryAway(LetheError):
    """No answer, or none that is a registry's."""


class RegistryRefused(LetheError):
    """A problem details answer. ``slug`` says which problem, as registry/errors.py names them."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(f"the registry refused: {detail}")
        self.slug = slug


class Api:
    """A registry's API, for the holder of one credential."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """``options`` of API_SPEC. Raises InvalidValue."""
        self._options = options
        self._url, self._local = _checked(options["url"])
        self._token = _token(options)

    def get(self, path: str) -> dict[str, Any]:
        """Raises RegistryAway, RegistryRefused."""
        return self._json(self.open("GET", path))

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Raises RegistryAway, RegistryRefused."""
        return self._json(self.open("POST", path, json.dumps(body).encode()))

    def open(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The answer, to be read. Raises RegistryAway, RegistryRefused."""
        headers = {"Accept": "application/json, application/jsonl"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            return open_url(
                self._url + path,
                method=method,
                data=body,
                headers=headers,
                timeout=self._options["timeout"],
                validate_certs=self._options["validate_certs"],
                ca_path=self._options["ca_path"],
                http_agent="lethe.wireguard",
                follow_redirects="none",  # the credential is for this registry alone
                use_netrc=False,
                use_proxy=not self._local,
            )
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (urllib.error.URLError, UrlsConnectionError, http.client.HTTPException, OSError) as error:
            raise self.away(error) from None

    def away(self, error: Exception) -> RegistryAway:
        """What to say when a connection fails, also in the middle of an answer."""
        reason = getattr(error, "reason", None) or error
        remedy = "see whether it runs there and this host reaches it"
        if "CERTIFICATE_VERIFY_FAILED" in str(reason):
            remedy = "name the host as the certificate does, and give a certificate that is self-signed as ca_path"
        return RegistryAway(f"no registry answers at {self._url}: {reason}; {remedy}")

    def _json(self, answer: Any) -> dict[str, Any]:
        try:
            with answer:
                document = json.loads(answer.read(_LARGEST))
        except ValueError:
            document = None
        except (OSError, http.client.HTTPException) as error:
            raise self.away(error) from None
        if not isinstance(document, dict):
            raise RegistryAway(f"what answers at {self._url} is not a registry; correct the url")
        return document

    def _refusal(self, error: urllib.error.HTTPError) -> LetheError:
        try:
            with error:
                problem = json.loads(error.read(_LARGEST))
            kind, detail = problem["type"], problem["detail"]
            faults = [f"{fault['field']}: {fault['problem']}; {fault['remedy']}" for fault in problem.get("errors", [])]
        except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
            kind = ""
        if not isinstance(kind, str) or not kind.startswith(_PROBLEM):
            # Whatever it says may repeat what was sent to it.
            return RegistryAway(
                f"what answers at {self._url} is not a registry, or a proxy that does not reach it: "
                f"HTTP status {error.code}; correct the url, or look at the proxy"
            )
        return RegistryRefused(kind.removeprefix(_PROBLEM), "; ".join(faults) or str(detail))


def _checked(url: str) -> tuple[str, bool]:
    """The URL without a slash at its end, and whether it leads to this very host."""
    try:
        parts = urlsplit(url)
        host, dummy = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidValue("url", "is not the address of a registry", "write it like https://registry.example:8443")
    local = _is_loopback(host)
    if parts.scheme == "http" and not local:
        raise InvalidValue("url", "would send the credential through a network in the clear", "write it with https")
    return url.rstrip("/"), local


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(options: Mapping[str, Any]) -> str | None:
    token, path = options["token"], options["token_file"]
    if path is not None:
        try:
            with Path(path).open("rb") as file:
                token = file.read(_LARGEST_TOKEN).decode("ascii", "replace").strip()
        except OSError as error:
            raise InvalidValue(
                "token_file", f"cannot be read: {error.strerror}", "give a file that is there where the module runs"
            ) from None
    if token is not None and not (token.isascii() and token.isprintable() and token.startswith("lethe_")):
        raise InvalidValue("token" if path is None else "token_file", "holds no credential", "they begin with lethe_")
    return token
