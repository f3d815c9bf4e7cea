# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's side of TLS."""

from __future__ import annotations

import ssl

from ..wireguard.errors import InvalidValue
from .settings import ServerSettings


class Tls:
    """A context whose certificate can be replaced while connections go on."""

    def __init__(self, settings: ServerSettings) -> None:
        """Raises InvalidValue."""
        self._settings = settings
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.reload()

    def reload(self) -> None:
        """Use what the files hold now, for new connections. Raises InvalidValue; the old one then stays."""
        certificate, key = self._settings.tls_certificate, self._settings.tls_key
        # Tried on another context first: a half-loaded pair would break the one in use.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            try:
                # A password is never asked for: a service has nobody to ask.
                context.load_cert_chain(certificate, key, password="")
            except OSError as error:  # ssl.SSLError is one
                reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
                raise InvalidValue(
                    f"{self._settings.name}.tls_certificate",
                    f"or its tls_key cannot be used: {reason}",
                    f"see whether {certificate} holds the chain, {key} its key without a password, "
                    "and the service's user may read both",
                ) from None
