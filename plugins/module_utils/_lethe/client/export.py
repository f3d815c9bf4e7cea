# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration as wg-quick(8) and WireGuard's apps read it."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable

from ..gateways import Gateway
from ..wireguard.errors import LetheError, MissingLibrary
from ..wireguard.keys import NO_PRESHARED_KEY, PrivateKey
from .registry import Away, Registry
from .rotation import Own
from .tunnel import TunnelOptions

_ATTEMPTS = 3
_PAUSE = 2.0  # seconds


def registered(registry: Registry, private_key: PrivateKey, sleep: Callable[[float], None] = time.sleep) -> Own:
    """What the key got. If no answer comes, the registry may have the key all the same, for which nobody will ever have
    the private half: it is asked for the same key again, and then to remove it. Raises Away, Refused, KeyRefused.
    """
    public_key = private_key.public_key()
    for _attempt in range(_ATTEMPTS - 1):
        with contextlib.suppress(Away):
            return Own(private_key, registry.register(public_key))
        sleep(_PAUSE)
    try:
        return Own(private_key, registry.register(public_key))
    except Away:
        with contextlib.suppress(LetheError):
            registry.delete(public_key)
        raise


def configuration(own: Own, gateway: Gateway, options: TunnelOptions) -> str:
    """For a key that is registered: one gateway, as a packet's address leads to one peer. Holds the private key."""
    registration = own.registration
    if registration is None:
        raise ValueError("the key is not registered")
    lines = [
        "[Interface]",
        f"PrivateKey = {own.private_key.text}",
        f"Address = {', '.join(str(address) for address in registration.addresses)}",
        f"MTU = {options.mtu}",
        "",
        "[Peer]",
        f"# {gateway.name}",
        f"PublicKey = {gateway.public_key.text}",
    ]
    if registration.preshared_key != NO_PRESHARED_KEY:
        lines.append(f"PresharedKey = {registration.preshared_key.text}")
    lines += [
        f"AllowedIPs = {', '.join(options.allowed_ips)}",
        f"Endpoint = {gateway.endpoint}",
        f"PersistentKeepalive = {options.keepalive}",
    ]
    return "\n".join(lines) + "\n"


def qr_codes() -> Callable[[str], str]:
    """What makes a picture for a terminal out of a text; WireGuard's apps read it with the camera. Raises
    MissingLibrary.
    """
    try:
        import segno
    except ImportError:
        raise MissingLibrary("segno", "make a QR code") from None

    def draw(text: str) -> str:
        picture = io.StringIO()
        segno.make(text, micro=False, error="l").terminal(picture, compact=True)
        return picture.getvalue()

    return draw
