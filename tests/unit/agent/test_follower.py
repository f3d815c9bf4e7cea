# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interface follows, whatever comes in whatever order; and what the kernel has then."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from signed import KEYS, LATER_EPOCH, SIGNING, STRANGER, SignedRegistry, name, peer

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.applying import carry_out
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.follower import (
    Changes,
    Follower,
    Gap,
    Replayed,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.errors import DocumentRefused, NotGenuine
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.signing import SigningKey, VerifyKeys
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.memory_device import MemoryDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Configuration, Peer
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.reconcile import follow_peers


def kernel(device: MemoryDevice) -> dict[PublicKey, Configuration]:
    return {key: Configuration.of(state) for key, state in device.peers.items()}


def configured(peers: dict[PublicKey, Peer]) -> dict[PublicKey, Configuration]:
    return {key: Configuration.of(each) for key, each in peers.items()}


@pytest.fixture
def registry() -> SignedRegistry:
    return SignedRegistry(peer(n) for n in range(3))


@pytest.fixture
def device() -> MemoryDevice:
    return MemoryDevice()


def begun(registry: SignedRegistry, device: MemoryDevice) -> Follower:
    follower = Follower(KEYS)
    carry_out(device, follower, follower.read_snapshot(registry.snapshot()), None)
    return follower


def take(follower: Follower, device: MemoryDevice, document: bytes) -> Changes | None:
    changes = follower.read_batch(document)
    if changes is not None:
        device.apply(changes.plan)
        follower.accept(changes)
    return changes


def test_a_snapshot_and_the_batches_after_it_lead_to_what_the_registry_has(
    registry: SignedRegistry, device: MemoryDevice
) -> None:
    follower = begun(registry, device)
    take(follower, device, registry.change(peers=[peer(3), peer(4, preshared=True)]))
    take(follower, device, registry.change(removed=[name(0)], peers=[peer(5, address=0)]))
    assert kernel(device) == configured(registry.peers)
    assert follower.applied == follower.known == registry.position


def test_only_what_differs_is_sent(registry: SignedRegistry, device: MemoryDevice) -> None:
    follower = begun(registry, device)
    changes = follower.read_batch(registry.change(peers=[peer(0), peer(1, preshared=True), peer(7)]))
    assert changes is not None
    assert changes.plan.counts() == {"added": 1, "updated": 1, "removed": 0, "unchanged": 2}
    assert changes.plan.updated[0].fields == ["preshared_key"]


def test_what_the_kernel_did_not_take_has_not_been_reached(registry: SignedRegistry, device: MemoryDevice) -> None:
    follower = begun(registry, device)
    before, document = registry.position, registry.change(removed=[name(0)])
    assert follower.read_batch(document) is not None
    assert follower.applied == before
    assert take(follower, device, document) is not None
    assert follower.applied == registry.position


def test_a_key_that_leaves_is_removed_though_nobody_knew_it(registry: SignedRegistry, device: MemoryDevice) -> None:
    follower = begun(registry, device)
    changes = follower.read_batch(registry.change(removed=[name(40)]))
    assert changes is not None
    assert changes.plan.removed == [name(40)]


def test_the_last_one_that_leaves_takes_nobody_along_that_is_left_alone(device: MemoryDevice) -> None:
    registry = SignedRegistry([peer(0)])
    follower = begun(registry, device)
    follower.left_alone = frozenset([name(9)])
    device.reinstate([peer(9)])
    take(follower, device, registry.change(removed=[name(0)]))
    assert device.peers.keys() == {name(9)}


def test_whoever_is_left_alone_is_so_in_batches_as_well(registry: SignedRegistry, device: MemoryDevice) -> None:
    follower = begun(registry, device)
    follower.left_alone = frozenset([name(0), name(9)])
    before = kernel(device)
    take(follower, device, registry.change(removed=[name(0)], peers=[peer(9)]))
    assert kernel(device) == before
    assert follower.applied == registry.position


def test_an_older_snapshot_is_refused_also_after_a_start(registry: SignedRegistry) -> None:
    old = registry.snapshot()
    registry.change(removed=[name(0)])
    follower = Follower(KEYS, known=registry.position)
    with pytest.raises(Replayed, match="is of revision 3, and revision 4 was applied here before"):
        follower.read_snapshot(old)
    assert follower.read_snapshot(registry.snapshot()).position == registry.position


def test_a_snapshot_of_an_epoch_that_is_over_is_refused_and_one_of_a_later_epoch_is_taken(
    registry: SignedRegistry,
) -> None:
    restored = SignedRegistry([peer(0)], epoch=LATER_EPOCH)
    follower = Follower(KEYS, known=registry.position)
    assert follower.read_snapshot(restored.snapshot()).position == Position(LATER_EPOCH, 1)
    with pytest.raises(Replayed, match="is of an epoch that is over"):
        Follower(KEYS, known=restored.position).read_snapshot(registry.snapshot())


def test_a_batch_of_another_epoch_is_a_gap_if_later_and_nothing_if_earlier(
    registry: SignedRegistry, device: MemoryDevice
) -> None:
    follower = begun(registry, device)
    later = SignedRegistry(registry.peers.values(), epoch=LATER_EPOCH)
    with pytest.raises(Gap, match="another epoch has begun"):
        follower.read_batch(later.change(removed=[name(0)]))
    follower = begun(later, device)
    assert follower.read_batch(registry.change(removed=[name(1)])) is None


@pytest.mark.parametrize("ahead", [1, 2])
def test_a_batch_that_is_missing_is_a_gap(registry: SignedRegistry, device: MemoryDevice, ahead: int) -> None:
    follower = begun(registry, device)
    for n in range(ahead):
        registry.change(peers=[peer(10 + n)])
    with pytest.raises(Gap, match=f"a batch after revision {3 + ahead} came, and revision 3 is applied"):
        follower.read_batch(registry.change(peers=[peer(20)]))
    with pytest.raises(Gap):
        follower.read_batch(registry.heartbeat())


def test_a_batch_that_begins_before_what_is_applied_and_ends_after_it_is_a_gap(
    registry: SignedRegistry, device: MemoryDevice
) -> None:
    follower = begun(registry, device)
    take(follower, device, registry.change(peers=[peer(3)]))
    registry.change(peers=[peer(4)])
    with pytest.raises(Gap):
        follower.read_batch(registry.batch(3, (), [peer(3), peer(4)]))


def test_a_recorded_heartbeat_proves_nothing(registry: SignedRegistry, device: MemoryDevice) -> None:
    follower = begun(registry, device)
    first, second = registry.heartbeat(), registry.heartbeat()
    for document, leads in ((first, True), (first, False), (second, True), (first, False), (second, False)):
        assert (take(follower, device, document) is not None) == leads
    follower.begin_stream()
    assert take(follower, device, second) is not None
    take(follower, device, registry.change(peers=[peer(3)]))
    assert take(follower, device, second) is None


def test_what_a_stranger_has_signed_is_refused(registry: SignedRegistry, device: MemoryDevice) -> None:
    follower = begun(registry, device)
    for document in (registry.batch(3, [name(0)], signer=STRANGER), registry.snapshot(STRANGER), b"", b"LETHEBT1"):
        with pytest.raises(NotGenuine):
            follower.read_batch(document)
        with pytest.raises(NotGenuine):
            follower.read_snapshot(document)


def test_a_batch_is_no_snapshot_and_the_other_way_round(registry: SignedRegistry, device: MemoryDevice) -> None:
    follower = begun(registry, device)
    with pytest.raises(NotGenuine):
        follower.read_snapshot(registry.heartbeat())
    with pytest.raises(NotGenuine):
        follower.read_batch(registry.snapshot())


def test_either_of_two_verify_keys_is_believed(registry: SignedRegistry) -> None:
    other = SigningKey(bytes(range(9, 41))).verify_key()
    for keys in ([other, SIGNING.verify_key()], [SIGNING.verify_key(), other]):
        assert Follower(VerifyKeys(keys)).read_snapshot(registry.snapshot()).position == registry.position


def test_a_snapshot_of_several_shapes_of_peers_is_one_fleet(device: MemoryDevice) -> None:
    registry = SignedRegistry([peer(0), peer(1, preshared=True), peer(2), peer(3, preshared=True)])
    begun(registry, device)
    assert kernel(device) == configured(registry.peers)


class AnyOrder(RuleBasedStateMachine):
    """An agent on a network where whoever sits in the middle has recorded everything, and sends what he likes."""

    numbers = st.integers(0, 5)

    def __init__(self) -> None:
        super().__init__()
        self.registry = SignedRegistry()
        self.device = MemoryDevice()
        self.follower = Follower(KEYS)
        self.recorded: list[bytes] = []
        self.snapshots: list[bytes] = []
        self.states: dict[Position, dict[PublicKey, Peer]] = {}
        self.revoked_at: dict[Position, set[PublicKey]] = {}
        self.highest: Position | None = None
        self.note()

    def note(self) -> None:
        self.states[self.registry.position] = dict(self.registry.peers)
        self.snapshots.append(self.registry.snapshot())

    @initialize(begin=st.booleans())
    def begin(self, begin: bool) -> None:
        if begin:
            self.snapshot_arrives(-1)

    @rule(number=numbers, address=numbers, preshared=st.booleans())
    def somebody_registers(self, number: int, address: int, preshared: bool) -> None:
        """Whoever has the address leaves: the registry gives each to one key."""
        new = peer(number, address, preshared=preshared)
        held = [key for key, each in self.registry.peers.items() if each.allowed_ips == new.allowed_ips]
        self.recorded.append(self.registry.change(removed=set(held) - {new.public_key}, peers=[new]))
        self.note()

    @rule(number=numbers)
    def somebody_is_revoked(self, number: int) -> None:
        self.recorded.append(self.registry.change(removed=[name(number)]))
        self.note()

    @rule()
    def a_backup_is_restored(self) -> None:
        self.registry.begin_epoch()
        self.registry.peers = dict(list(self.registry.peers.items())[:-1])
        self.registry.revision = max(0, self.registry.revision - 2)
        self.note()

    @rule(which=st.integers(0, 1000))
    def any_batch_arrives(self, which: int) -> None:
        if self.recorded:
            self.batch_arrives(self.recorded[which % len(self.recorded)])

    @rule()
    def all_batches_arrive_in_order(self) -> None:
        for document in self.recorded:
            self.batch_arrives(document)

    @rule()
    def a_heartbeat_arrives(self) -> None:
        self.recorded.append(self.registry.heartbeat())
        self.batch_arrives(self.recorded[-1])

    @rule(which=st.integers(0, 1000), at=st.integers(0, 10_000), cut=st.booleans())
    def a_broken_batch_arrives(self, which: int, at: int, cut: bool) -> None:
        documents = self.recorded + self.snapshots
        document = bytearray(documents[which % len(documents)])
        at %= len(document)
        if cut:
            del document[at:]
        else:
            document[at] ^= 0x10
        for read in (self.follower.read_snapshot, self.read_batch):
            with pytest.raises((NotGenuine, DocumentRefused)):
                read(bytes(document))

    @rule(which=st.integers(-3, 1000))
    def snapshot_arrives(self, which: int) -> None:
        document = self.snapshots[which % len(self.snapshots) if which >= 0 else -1]
        try:
            whole = self.follower.read_snapshot(document)
        except Replayed:
            return
        carry_out(self.device, self.follower, whole, None)

    @rule(document=st.integers(0, 1000), how_far=st.integers(0, 2))
    def it_is_killed_while_it_applies(self, document: int, how_far: int) -> None:
        """The kernel has nothing, or all, of what was read; the position was written before, or not at all."""
        known = self.follower.known
        if self.recorded and self.follower.applied is not None:
            try:
                changes = self.read_batch(self.recorded[document % len(self.recorded)])
            except Gap:
                changes = None
            if changes is not None and how_far:
                self.device.apply(changes.plan)
                if how_far == 2:
                    self.follower.accept(changes)
                    known = self.follower.known
        self.follower = Follower(KEYS, known=known)

    @rule()
    def the_gateway_reboots(self) -> None:
        self.device.flush()
        self.follower = Follower(KEYS, known=self.follower.known)

    @rule()
    def the_connection_is_made_anew(self) -> None:
        self.follower.begin_stream()

    @precondition(lambda self: self.follower.applied is not None)
    @rule(number=numbers)
    def somebody_changes_the_kernel_and_drift_is_corrected(self, number: int) -> None:
        self.device.reinstate([peer(number + 200, address=number)])
        follow_peers(self.device, self.follower.peers, shrink_limit=None)

    def read_batch(self, document: bytes) -> Changes | None:
        if self.follower.applied is None:
            raise NotGenuine("the batch")  # nobody reads batches before a snapshot is applied
        return self.follower.read_batch(document)

    def batch_arrives(self, document: bytes) -> None:
        if self.follower.applied is None:
            return
        try:
            take(self.follower, self.device, document)
        except Gap:
            self.follower.lose()

    @invariant()
    def the_kernel_has_what_the_registry_had_at_that_position(self) -> None:
        applied = self.follower.applied
        if applied in self.states:
            assert kernel(self.device) == configured(self.states[applied])

    @invariant()
    def it_never_goes_back(self) -> None:
        if self.highest is not None and self.follower.known is not None:
            assert self.follower.known >= self.highest
        self.highest = self.follower.known

    def teardown(self) -> None:
        """Whatever was done to it, a snapshot and what follows lead to where the registry is."""
        self.snapshots.append(self.registry.snapshot())
        self.snapshot_arrives(-1)
        self.batch_arrives(self.registry.change(peers=[peer(50)]))
        assert self.follower.applied == self.registry.position
        assert kernel(self.device) == configured(self.registry.peers)


TestAnyOrder = AnyOrder.TestCase
