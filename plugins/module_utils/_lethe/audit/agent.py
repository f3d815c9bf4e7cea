# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check: whether the agent still hears of keys that are revoked."""

from __future__ import annotations

from collections.abc import Iterator

from ..agent import status
from .finding import Leak, Severity, check
from .host import Host

AWAY = 300  # seconds without the registry that are no reason to worry

_SETTINGS = "/etc/lethe/key-sync.json"


@check("agent", Severity.MEDIUM, "the agent follows the registry: a key that is revoked is gone at once")
def agent(host: Host) -> Iterator[Leak]:
    if not host.path(_SETTINGS).exists():
        return  # peers come from elsewhere
    try:
        documents = status.read(host.path(str(status.DIRECTORY)))
    except status.NoAgent:
        yield Leak(
            "no agent runs: keys that are revoked stay",
            "lethe-key-sync.service tells nothing",
            "see why: systemctl status lethe-key-sync.service",
        )
        return
    for document in documents:
        lag = document["lag"]
        if lag is None or lag > AWAY:
            since = "nothing since it started" if lag is None else f"nothing for {lag:.0f} s"
            yield Leak(
                f"the agent of {document['interface']} hears nothing from the registry: keys that are revoked stay",
                since,
                "see what it says: lethe agent status",
            )
