# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to the registry with Python's own library: what a gateway's agent and a client share. No proxy: what they send
holds credentials, and a stream that lasts for weeks is none of a proxy's business.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult

from .wireguard.errors import InvalidValue, LetheError

LARGEST_PROBLEM = 1 << 16  # bytes
_CONNECT = 10  # seconds, for each address of the registry
_LARGEST_CREDENTIAL = 4096  # bytes of a file; more is no credential
_PROBLEM = re.compile(r"urn:lethe:problem:([a-z-]{1,40})")


def connection(url: SplitResult, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    """Not connected yet. ``context``: for https."""
    host = url.hostname or ""
    if url.scheme == "https":
        return http.client.HTTPSConnection(host, url.port, timeout=_CONNECT, context=context)
    return http.client.HTTPConnection(host, url.port, timeout=_CONNECT)


@contextlib.contextmanager
def failures_told(host: str, away: type[LetheError], refused: type[LetheError]) -> Iterator[None]:
    """Raises, for what goes wrong with a connection, what says so: ``refused`` for a stranger's certificate, ``away``
    for all that may be over soon.
    """
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise refused(
            f"what answers at {host} is not known to be the registry: {error.verify_message}; name the host "
            "as its certificate does, and give a certificate that is self-signed as ca_file"
        ) from None
    except TimeoutError:
        raise away(f"nothing was heard from {host} for too long") from None
    except OSError as error:
        raise away(f"{host} does not answer: {error.strerror or type(error).__name__}") from None
    except http.client.HTTPException as error:
        raise away(f"the answer of {host} broke off: {type(error).__name__}") from None


def problem_in(body: bytes) -> str:
    """Which problem an answer says it is, as registry/errors.py names them; "" if it does not. Nothing else of it is
    to be shown.
    """
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        if match := _PROBLEM.fullmatch(json.loads(body)["type"]):
            return match[1]
    return ""


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Who is believed to be the registry: certificates in PEM; None: whom the system trusts. Raises InvalidValue."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        problem = "is not a certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise InvalidValue(f"{ca_file}", f"cannot be used: {problem}", "give certificates in PEM") from None


def read_credential(path: Path, kind: str) -> str:
    """What the registry knows this host by. ``kind``: gateway or client.

    Raises InvalidValue, which shows nothing of it.
    """
    try:
        with path.open("rb") as file:
            credential = file.read(_LARGEST_CREDENTIAL).decode("ascii", "replace").strip()
    except OSError as error:
        raise InvalidValue(f"{path}", f"cannot be read: {error.strerror}", f"give the {kind}'s credential") from None
    if not credential.startswith(f"lethe_{kind}_") or not credential.isascii() or not credential.isprintable():
        raise InvalidValue(f"{path}", f"holds no {kind}'s credential", f"it begins with lethe_{kind}_")
    return credential
