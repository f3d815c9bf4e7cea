# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a gateway has ceased to answer, by what the kernel counts: pure.

That nothing comes means nothing by itself: WireGuard is quiet when there is nothing to say, and nobody answers a
keepalive. But a gateway that gets data answers within 10 s, if only with a keepalive, and one that gets an initiation
answers it at once. So silence begins with the first thing that is sent, beside keepalives, and not answered. The kernel
sees to it that one lost packet is not taken for it: it begins a handshake 15 s after unanswered data, and again every
5 s (KEEPALIVE_TIMEOUT, REKEY_TIMEOUT in drivers/net/wireguard/messages.h; timers.c).

Where nothing is sent but keepalives, the first such thing is the handshake with which the client renews the session
after 120 s (REKEY_AFTER_TIME).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PATIENCE = 25.0
"""Seconds: by then unanswered data was followed by two initiations."""

_KEEPALIVE = 32  # bytes: a message without data, MESSAGE_MINIMUM_LENGTH in drivers/net/wireguard/messages.h


@dataclass(frozen=True, slots=True)
class Heard:
    """What was last heard of a gateway."""

    at: float  # seconds since 1970
    received: int  # bytes, by then
    sent: int  # bytes, by then
    asked_at: float | None = None  # seconds since 1970: something was sent since that it would answer

    def after(self, now: float, received: int, sent: int, keepalive: int) -> Heard:
        """What it is after another look at the counters; ``keepalive``: seconds between those of the kernel."""
        if received != self.received or sent < self.sent or now < self.at:
            return Heard(now, received, sent)
        # Beside one for each interval: the first may be due at once, and what was heard last is answered with one.
        keepalives = 2 + int((now - self.at) / keepalive)
        if self.asked_at is None and sent - self.sent > keepalives * _KEEPALIVE:
            return replace(self, asked_at=now)
        return self

    def is_silence(self, now: float) -> bool:
        return self.asked_at is not None and now - self.asked_at >= PATIENCE
