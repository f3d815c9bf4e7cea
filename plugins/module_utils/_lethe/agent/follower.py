# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interface follows: which snapshot and which batch lead on from where it stands, and what they change.

Pure: signed documents in, peers and plans out; no socket, no clock, no kernel. Whoever drives it carries out what it
gives, and only then tells it so: what the kernel did not take has not been reached.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..feed import batch as batches
from ..feed import snapshot as snapshots
from ..feed.batch import Batch
from ..feed.errors import DocumentRefused
from ..feed.position import Position
from ..feed.signing import VerifyKeys
from ..wireguard.addresses import AllowedIPs
from ..wireguard.errors import LetheError
from ..wireguard.keys import PresharedKey, PublicKey
from ..wireguard.packed import ConfiguredPeers, PackedPeers
from ..wireguard.peers import Configuration, PeerState
from ..wireguard.plan import Plan, plan_peers


class Replayed(LetheError):
    """A snapshot, rightly signed, of a time before what this host has had."""

    def __init__(self, given: Position, known: Position) -> None:
        which = f"is of revision {given.revision}, and revision {known.revision} was applied here before"
        if given.epoch != known.epoch:
            which = "is of an epoch that is over"
        super().__init__(
            f"the snapshot {which}; nothing was changed: see whether an old file or a cache stands in for the registry"
        )


class Gap(LetheError):
    """The next batch does not follow on what is applied."""

    def __init__(self, batch: Batch, applied: Position) -> None:
        what = f"a batch after revision {batch.after} came, and revision {applied.revision} is applied"
        if batch.epoch != applied.epoch:
            what = "another epoch has begun"
        super().__init__(f"the changes do not follow on each other: {what}; a snapshot is taken")


@dataclass(frozen=True, slots=True)
class Whole:
    """A snapshot that leads on: all peers."""

    position: Position
    made: int  # milliseconds since 1970
    peers: ConfiguredPeers


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch that leads on. A heartbeat's plan is empty, and its position the one that is applied."""

    position: Position
    made: int  # milliseconds since 1970
    plan: Plan
    configurations: dict[bytes, bytes | None]  # public key -> Configuration; None: removed


class Follower:
    """Where one interface stands, and the peers that it should have there."""

    def __init__(self, keys: VerifyKeys, *, known: Position | None = None, left_alone: Collection[bytes] = ()) -> None:
        """``known``: the latest position that this host has had, also before it was started again.
        ``left_alone``: public keys that are none of the registry's business here.
        """
        self._keys = keys
        self.left_alone = left_alone
        """May be set at any time; it counts from the next plan on."""
        self._beat = 0  # when the latest heartbeat was made
        self.known = known
        self.applied: Position | None = None
        """What the kernel has; None: only a snapshot leads on."""
        self.peers = ConfiguredPeers({})

    def read_snapshot(self, document: bytes) -> Whole:
        """Raises NotGenuine, DocumentRefused and Replayed."""
        position, made, blocks = snapshots.decode(document, self._keys)
        if self.known is not None and position < self.known:
            raise Replayed(position, self.known)
        return Whole(position, made, _peers_of(blocks))

    def begin_stream(self) -> None:
        """A new connection: nothing was heard on it yet."""
        self._beat = 0

    def read_batch(self, document: bytes) -> Changes | None:
        """None for one that leads nowhere, and proves nothing: whoever has recorded it can send it again.

        Raises NotGenuine, DocumentRefused and Gap.
        """
        batch = batches.decode(document, self._keys)
        applied = self.applied
        if applied is None:
            raise ValueError("no snapshot was applied")
        if batch.position < applied or (batch.position == applied and not batch.is_heartbeat):
            return None
        if (batch.epoch, batch.after) != applied:
            raise Gap(batch, applied)
        if batch.is_heartbeat:
            if batch.made <= self._beat:
                return None
            self._beat = batch.made
        configurations: dict[bytes, bytes | None] = dict.fromkeys(batch.removed)
        configurations |= {peer.public_key: Configuration.of(peer) for peer in batch.peers}
        return Changes(batch.position, batch.made, self._plan(configurations), configurations)

    def accept(self, reached: Whole | Changes) -> None:
        """The kernel has it."""
        if isinstance(reached, Whole):
            self.peers = reached.peers
        else:
            configurations = self.peers.configurations
            for key, configuration in reached.configurations.items():
                if configuration is None:
                    configurations.pop(key, None)
                else:
                    configurations[key] = configuration
        self.applied = reached.position
        self.known = reached.position

    def lose(self) -> None:
        """What is applied leads no further: the registry does not go on from there."""
        self.applied = None

    def _plan(self, configurations: dict[bytes, bytes | None]) -> Plan:
        """Only what differs from what the peers should have been so far; a key that leaves is removed in any case."""
        changed = {
            key: configuration
            for key, configuration in configurations.items()
            if key not in self.left_alone
            and (configuration is None or configuration != self.peers.configurations.get(key))
        }
        wanted = {key: Configuration(to) for key, to in changed.items() if to is not None}
        present = [
            _state(PublicKey(key), Configuration(was))
            for key in wanted
            if (was := self.peers.configurations.get(key)) is not None
        ]
        plan = plan_peers({PublicKey(key): to.peer(PublicKey(key)) for key, to in wanted.items()}, present)
        plan.removed = [PublicKey(key) for key, to in changed.items() if to is None]
        # Everybody else stays: a plan that removes all would take along whoever is left alone.
        spoken_of = sum(key in self.peers.configurations for key in changed)
        plan.unchanged += len(self.peers) - spoken_of + len(self.left_alone)
        return plan


def _peers_of(blocks: tuple[bytes, ...]) -> ConfiguredPeers:
    """Raises InvalidValue and DocumentRefused."""
    configurations: dict[bytes, bytes] = {}
    count = 0
    for i, block in enumerate(blocks):
        peers = PackedPeers(block, f"the snapshot's block {i}")
        count += len(peers)
        if configurations:
            configurations |= peers.configurations
        else:
            configurations = peers.configurations
    if len(configurations) != count:
        raise DocumentRefused("the snapshot", "has a public key twice", "use one version of Lethe on all hosts")
    return ConfiguredPeers(configurations)


def _state(public_key: PublicKey, configuration: Configuration) -> PeerState:
    """What the kernel reports of a peer that is so configured, as far as a plan asks for it."""
    peer = configuration.peer(public_key)
    return PeerState(
        public_key, PresharedKey(peer.preshared_key), peer.persistent_keepalive, AllowedIPs(peer.allowed_ips),
        endpoint=None, handshake=0, received=0, sent=0,
    )  # fmt: skip
