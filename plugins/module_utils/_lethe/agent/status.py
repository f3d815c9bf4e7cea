# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an interface stands, in numbers and sentences: for people, for playbooks, for Prometheus. It names nobody."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..feed.position import Position
from ..version import VERSION
from ..wireguard.clock import read_clocks
from ..wireguard.errors import LetheError
from ..wireguard.lock import RUN_DIRECTORY
from ..wireguard.whole_files import write_whole

DIRECTORY = RUN_DIRECTORY / "key-sync"
METRICS = "metrics.prom"
STALE = 30.0  # seconds after which nobody writes the status any more
_SECOND = 1_000_000_000
_READABLE = 0o644


class NoAgent(LetheError):
    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"no agent has its status in {directory}; see what became of it with: systemctl status lethe-key-sync"
        )


@dataclass(slots=True)
class InterfaceStatus:
    """Written by the interface's thread, read by others."""

    name: str
    state: str = "starting"  # then loading (a snapshot), following (the stream), waiting (for another attempt)
    connected: bool = False
    position: Position | None = None  # what the kernel has
    peers: int = 0
    drift: int = 0  # peers that were not as they should be, since the agent started
    batches: int = 0  # that changed something, since the agent started
    changes: int = 0  # peers that they changed
    delay: float | None = None  # seconds from a batch's making to the kernel, of the latest; by two hosts' clocks
    heard: int | None = None  # ns of CLOCK_BOOTTIME: the latest signed word that this is how things stand
    away_since: int | None = None  # ns of CLOCK_BOOTTIME
    attempts: int = 0  # that failed, since the agent started
    error: str | None = None  # why it waits

    @property
    def revision(self) -> int:
        return 0 if self.position is None else self.position.revision

    @property
    def settled(self) -> bool:
        """It is filled, or it is known why not."""
        return self.position is not None or self.error is not None

    def seconds_away(self) -> float:
        return 0.0 if self.away_since is None else (read_clocks().boottime - self.away_since) / _SECOND

    def sentence(self) -> str:
        if self.position is None:
            return f"{self.name}: no peers yet: {self.error}" if self.error else f"{self.name}: {self.state}"
        stands = f"{self.name}: {self.peers} peers, revision {self.revision}"
        if self.connected:
            return stands
        return f"{stands}, the registry is away: {self.error}" if self.error else f"{stands}, asks the registry"

    def as_json(self, oldest_endpoint: float | None) -> dict[str, Any]:
        """``oldest_endpoint``: seconds, of the purge's last run."""
        return {
            "interface": self.name,
            "state": self.state,
            "connected": self.connected,
            "epoch": None if self.position is None else self.position.epoch,
            "revision": None if self.position is None else self.position.revision,
            "peers": self.peers,
            "drift": self.drift,
            "batches": self.batches,
            "changes": self.changes,
            "delay": None if self.delay is None else round(self.delay, 3),
            "heard": self.heard,
            "away_since": self.away_since,
            "error": self.error,
            "oldest_endpoint": oldest_endpoint,
            "written": read_clocks().boottime,
            "version": VERSION,
        }


def write(directory: Path, documents: Iterable[dict[str, Any]]) -> None:
    """The status of each interface, and all of them for Prometheus. Raises OSError."""
    documents = list(documents)
    for document in documents:
        write_whole(directory / f"{document['interface']}.json", json.dumps(document).encode(), mode=_READABLE)
    write_whole(directory / METRICS, _metrics(documents).encode(), mode=_READABLE)


def read(directory: Path = DIRECTORY) -> list[dict[str, Any]]:
    """What the agent has written last, with ages instead of moments: ``lag`` (seconds since the latest signed word
    that this is how things stand), ``away`` (seconds). Raises NoAgent.
    """
    now = read_clocks().boottime
    documents = []
    for path in sorted(directory.glob("*.json")):
        try:
            document = json.loads(path.read_bytes())
            age = (now - document.pop("written")) / _SECOND
            heard, away_since = document.pop("heard"), document.pop("away_since")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # it is going just now
        if 0 <= age <= STALE:
            document["lag"] = None if heard is None else round((now - heard) / _SECOND, 1)
            document["away"] = None if away_since is None else round((now - away_since) / _SECOND, 1)
            documents.append(document)
    if not documents:
        raise NoAgent(directory)
    return documents


_GAUGES = {
    "connected": ("gauge", "Whether the stream of changes is open."),
    "revision": ("gauge", "The registry's revision that the kernel has."),
    "peers": ("gauge", "Peers that the interface should have."),
    "drift": ("counter", "Peers that were not as they should be and were corrected."),
    "batches": ("counter", "Batches that changed something."),
    "changes": ("counter", "Peers that batches changed."),
    "delay": ("gauge", "Seconds from the making of the latest batch to the kernel."),
    "oldest_endpoint": ("gauge", "Seconds since the handshake of the oldest endpoint that the purge has left."),
}


def _metrics(documents: list[dict[str, Any]]) -> str:
    """The text format of Prometheus, as node_exporter reads it from a file."""
    lines = []
    for field, (kind, help_text) in _GAUGES.items():
        name = f"lethe_key_sync_{field}" + {"delay": "_seconds", "oldest_endpoint": "_seconds"}.get(field, "")
        name += "_total" if kind == "counter" else ""
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        lines += [
            f'{name}{{interface="{document["interface"]}"}} {float(document[field]):.15g}'
            for document in documents
            if document[field] is not None
        ]
    # When it was heard of last is a moment of CLOCK_BOOTTIME: an age is what can be told.
    lines += [
        "# HELP lethe_key_sync_lag_seconds Seconds since the latest signed word that this is how things stand.",
        "# TYPE lethe_key_sync_lag_seconds gauge",
    ]
    lines += [
        f'lethe_key_sync_lag_seconds{{interface="{document["interface"]}"}} '
        f"{(document['written'] - document['heard']) / _SECOND:.1f}"
        for document in documents
        if document["heard"] is not None
    ]
    return "\n".join(lines) + "\n"
