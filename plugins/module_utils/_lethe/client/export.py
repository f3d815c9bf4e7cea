# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration as wg-quick(8) and WireGuard's apps read it."""

from __future__ import annotations

import io
from collections.abc import Callable

from ..gateways import Gateway
from ..wireguard.errors import MissingLibrary
from ..wireguard.keys import NO_PRESHARED_KEY
from .rotation import Own
from .tunnel import TunnelOptions


def configuration(own: Own, gateways: tuple[Gateway, ...], options: TunnelOptions) -> str:
    """For a key that is registered: one gateway, as a packet's address leads to one peer. Holds the private key."""
    registration, gateway = own.registration, gateways[0]
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
