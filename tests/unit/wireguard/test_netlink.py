# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The socket and the device on it, without a kernel: what they make of every answer."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from typing import Any

import netlink_tree as tree
import pytest
from device_contract import PSK, A, B, C, ips
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import device as device_module
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import messages, netlink
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.device import KernelDevice
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import (
    DumpInterrupted,
    InterfaceNotFound,
    KernelRefused,
    KernelWithoutWireGuard,
    NotWireGuard,
    PermissionMissing,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PrivateKey, PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.netlink import (
    Interrupted,
    WireGuardSocket,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer, PeerState
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.plan import PeerUpdate, Plan

FAMILY = 0x1D
ERROR, DONE, INTERRUPTED = 2, 3, 0x10


def message(kind: int, body: bytes, *, flags: int = 0, sequence: int = 2) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 1) + body + bytes(-len(body) % 4)


def error(number: int, sequence: int = 2, kind: int = ERROR) -> bytes:
    return message(kind, struct.pack("=i", -number), sequence=sequence)


FAMILY_ANSWER = message(
    16, tree.GENL_HEADER + tree.attribute(2, b"wireguard\0") + tree.attribute(1, struct.pack("=H", FAMILY))
)


class FakeSocket:
    """Gives prepared datagrams, and keeps what was sent."""

    def __init__(self, datagrams: list[bytes]) -> None:
        self.datagrams = datagrams
        self.sent: list[bytes] = []
        self.closed = False

    def setsockopt(self, *_: int) -> None: ...

    def bind(self, _: object) -> None: ...

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, size: int) -> bytes:
        return self.datagrams.pop(0)[:size]

    def recv_into(self, buffer: bytearray, size: int, flags: int) -> int:
        assert flags == 0x20, "the real size is asked for"
        datagram = self.datagrams.pop(0)
        buffer[: len(datagram)] = datagram[: len(buffer)]
        return len(datagram)

    def close(self) -> None:
        self.closed = True


Answers = Callable[..., FakeSocket]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """The kernel will answer with these datagrams, after the one about the family."""

    def prepare(*datagrams: bytes, family: bytes = FAMILY_ANSWER) -> FakeSocket:
        fake = FakeSocket([family, *datagrams])
        monkeypatch.setattr(netlink.socket, "socket", lambda *_: fake)
        return fake

    return prepare


REFUSALS = [
    (errno.ENODEV, InterfaceNotFound, "wg0"),
    (errno.EOPNOTSUPP, NotWireGuard, "wg0"),
    (errno.EPERM, PermissionMissing, "CAP_NET_ADMIN"),
    (errno.EACCES, PermissionMissing, "CAP_NET_ADMIN"),
    (errno.ENOMEM, KernelRefused, "1,048,576"),
    (errno.EINVAL, KernelRefused, "Invalid argument (EINVAL)"),
    (errno.EADDRINUSE, KernelRefused, "EADDRINUSE"),
    (12345, KernelRefused, "12345"),
]


@pytest.mark.parametrize(("number", "kind", "text"), REFUSALS)
def test_each_refusal_of_a_change_is_explained_and_shows_no_key(
    answers: Answers, number: int, kind: type[Exception], text: str
) -> None:
    fake = answers(error(number))
    key = PrivateKey(b"k" * 32)
    with pytest.raises(kind) as caught, WireGuardSocket("wg0") as kernel:
        kernel.set("set up the interface", private_key=key)
    assert text in str(caught.value)
    assert key.text[:8] not in told_by(caught.value)
    assert "kkkk" not in told_by(caught.value)
    assert fake.closed


@pytest.mark.parametrize(("number", "kind", "text"), REFUSALS)
@pytest.mark.parametrize("ending", [ERROR, DONE])
def test_each_refusal_of_a_dump_is_explained(
    answers: Answers, number: int, kind: type[Exception], text: str, ending: int
) -> None:
    answers(error(number, kind=ending))
    with pytest.raises(kind) as caught:
        KernelDevice("wg0").read(list)
    assert text in str(caught.value)


def test_a_kernel_without_the_family_is_one_without_wireguard(answers: Answers) -> None:
    fake = answers(family=error(errno.ENOENT, 1))
    with pytest.raises(KernelWithoutWireGuard):
        WireGuardSocket("wg0")
    assert fake.closed


def test_a_change_waits_for_the_answer_to_itself(answers: Answers) -> None:
    fake = answers(error(errno.EINVAL, sequence=1), message(77, b""), error(0, sequence=2))
    with WireGuardSocket("wg0") as kernel:
        kernel.set("change peers", fwmark=1)
    assert fake.datagrams == []
    assert tree.request(fake.sent[1]).type == FAMILY


def test_each_change_has_a_number_of_its_own(answers: Answers) -> None:
    fake = answers(error(0, sequence=2), error(0, sequence=3))
    with WireGuardSocket("wg0") as kernel:
        kernel.set("change peers", fwmark=1)
        kernel.set("change peers", fwmark=2)
    assert [tree.request(data).sequence for data in fake.sent[1:]] == [2, 3]


def state(name: PublicKey) -> PeerState:
    return PeerState(name, PSK, 0, ips(), None, 0, 0, 0)


def part(*names: PublicKey, flags: int = 0) -> bytes:
    (body,) = tree.dump([state(name) for name in names])
    return message(FAMILY, body, flags=flags)


END = message(DONE, bytes(4))


@pytest.mark.parametrize(
    "datagrams",
    [[part(A), part(B), part(C), END], [part(A) + part(B), part(C) + END], [part(A) + part(B) + part(C) + END]],
    ids=["apart", "in twos", "in one"],
)
def test_a_dump_comes_in_any_number_of_datagrams(answers: Answers, datagrams: list[bytes]) -> None:
    answers(*datagrams)
    assert KernelDevice("wg0").read(list) == [state(A), state(B), state(C)]


INTERRUPTIONS = {
    "in the first message": [part(A, flags=INTERRUPTED), part(B) + END],
    "in a later message": [part(A), part(B, flags=INTERRUPTED), END],
    "in an empty message": [part(A), message(FAMILY, tree.GENL_HEADER, flags=INTERRUPTED), END],
    "at the end": [part(A), message(DONE, bytes(4), flags=INTERRUPTED)],
}


@pytest.mark.parametrize("datagrams", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_an_interrupted_dump_is_noticed_wherever_it_is_flagged(answers: Answers, datagrams: list[bytes]) -> None:
    answers(*datagrams)
    with pytest.raises(Interrupted), WireGuardSocket("wg0") as kernel:
        list(kernel.dump())


def test_a_datagram_larger_than_the_buffer_is_an_error(answers: Answers) -> None:
    answers(bytes(70_000))
    with pytest.raises(KernelRefused, match="EMSGSIZE"):
        KernelDevice("wg0").read(list)


# --- the device ---------------------------------------------------------------------------------------


class FakeKernel:
    """In place of WireGuardSocket: dumps that are prepared, and changes that take their time."""

    interrupted = 0  # dumps that are, before one that is not
    cost = 0.0  # seconds per peer
    dumps = 0
    sent: list[bytes]
    now = 0.0

    def __init__(self) -> None:
        self.sent = []

    def __call__(self, _: str) -> FakeKernel:
        return self

    def __enter__(self) -> FakeKernel:
        return self

    def __exit__(self, *_: object) -> None: ...

    def dump(self) -> Iterator[bytes]:
        self.dumps += 1
        (body,) = tree.dump([state(A)] if self.dumps <= self.interrupted else [state(A), state(B)])
        yield body
        if self.dumps <= self.interrupted:
            raise Interrupted

    def set(self, what: str, *, peers: bytes = b"", **_: Any) -> None:
        self.sent.append(peers)
        self.now += self.cost * len(tree.attributes(peers))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    kernel = FakeKernel()
    monkeypatch.setattr(device_module, "WireGuardSocket", kernel)
    monkeypatch.setattr(device_module.time, "perf_counter", lambda: kernel.now)
    monkeypatch.setattr(device_module.time, "sleep", lambda _: None)
    return kernel


@pytest.mark.parametrize("interrupted", [0, 1, 19])
def test_an_interrupted_dump_is_read_again_from_its_beginning(kernel: FakeKernel, interrupted: int) -> None:
    kernel.interrupted = interrupted
    given: list[list[PeerState]] = []

    def fold(states: Iterator[PeerState]) -> int:
        given.append([])
        given[-1] += states
        return len(given[-1])

    assert KernelDevice("wg0").read(fold) == 2
    assert kernel.dumps == interrupted + 1
    assert len(given) == interrupted + 1


def test_a_dump_that_is_always_interrupted_is_given_up(kernel: FakeKernel) -> None:
    kernel.interrupted = 1000
    with pytest.raises(DumpInterrupted, match="wg0"):
        KernelDevice("wg0").read(list)
    assert kernel.dumps == 20


def test_what_is_expected_of_a_dump_is_expected_anew_of_the_next(kernel: FakeKernel) -> None:
    kernel.interrupted = 2
    expected = {bytes(A): b"x", bytes(C): b"y"}
    _, left = KernelDevice("wg0").compare(expected, lambda states, left: (list(states), left))
    assert left == expected
    assert left is not expected


def made_up_peers(count: int, allowed_ips: int = 2) -> list[Peer]:
    return [
        Peer(
            PublicKey(n.to_bytes(32, "big")),
            PSK,
            0,
            ips(*(f"10.{n >> 8}.{n & 255}.{i}/32" for i in range(allowed_ips))),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(("cost", "most"), [(0.0001, 40), (0.001, 4), (0.01, 1), (1, 1)])
def test_messages_get_as_small_as_the_time_they_hold_the_lock_demands(
    kernel: FakeKernel, cost: float, most: int
) -> None:
    kernel.cost = cost
    peers = made_up_peers(400)
    longest = KernelDevice("wg0")._send(piece for peer in peers for piece in messages.encode_peer(peer))
    counts = [len(tree.attributes(data)) for data in kernel.sent]
    assert sum(counts) == 400
    assert max(counts[1:]) == most
    assert longest == pytest.approx(cost * max(counts))


def test_messages_get_as_large_as_they_may_where_the_kernel_is_fast(kernel: FakeKernel) -> None:
    kernel.cost = 1e-7
    KernelDevice("wg0").apply(Plan(added=made_up_peers(2000)))
    sizes = [len(data) for data in kernel.sent]
    assert max(sizes) <= 16 * 1024
    assert sorted(sizes)[len(sizes) // 2] > 15 * 1024


def test_a_clock_that_does_not_move_is_no_error(kernel: FakeKernel) -> None:
    kernel.cost = 0
    KernelDevice("wg0").apply(Plan(added=made_up_peers(500)))
    assert sum(len(tree.attributes(data)) for data in kernel.sent) == 500


@given(st.lists(st.integers(0, 60), max_size=60), st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]))
def test_nothing_is_lost_divided_or_turned_around_in_messages(sizes: list[int], cost: float) -> None:
    peers = [
        Peer(PublicKey(n.to_bytes(32, "big")), PSK, n, ips(*(f"10.0.{n}.{i}/32" for i in range(size))))
        for n, size in enumerate(sizes)
    ]
    kernel = FakeKernel()
    kernel.cost = cost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_module, "WireGuardSocket", kernel)
        patch.setattr(device_module.time, "perf_counter", lambda: kernel.now)
        KernelDevice("wg0").reinstate(peers)
    assert b"".join(kernel.sent) == b"".join(piece for peer in peers for piece in messages.encode_reinstatement(peer))
    for data in kernel.sent:
        pairs = tree.peers_of(data)
        # A removal and its reinstatement travel in one message.
        for removal, whole in zip(pairs[::2], pairs[1::2], strict=True):
            assert (removal["flags"], whole["flags"]) == (1, 2)
            assert removal["public_key"] == whole["public_key"]


def test_a_plan_is_sent_in_the_order_that_makes_moved_addresses_arrive(kernel: FakeKernel) -> None:
    KernelDevice("wg0").apply(Plan(added=[Peer(A)], updated=[PeerUpdate(B, PSK)], removed=[C], unchanged=1))
    sent = tree.peers_of(b"".join(kernel.sent))
    assert [(peer["public_key"], peer["flags"]) for peer in sent] == [(C, 1), (B, 4), (A, 2)]


def test_a_plan_that_removes_all_names_no_peer_for_it(kernel: FakeKernel) -> None:
    KernelDevice("wg0").apply(Plan(added=[Peer(A)], removed=[B, C]))
    assert tree.peers_of(kernel.sent[0]) == []
    assert [peer["public_key"] for peer in tree.peers_of(b"".join(kernel.sent))] == [A]


def test_messages_grow_no_faster_than_the_last_one_has_shown_to_be_safe(kernel: FakeKernel) -> None:
    kernel.cost = 1e-7
    KernelDevice("wg0").apply(Plan(added=made_up_peers(100)))
    assert [len(tree.attributes(data)) for data in kernel.sent][:2] == [16, 32]


def test_nothing_to_send_is_nothing_sent(kernel: FakeKernel) -> None:
    device = KernelDevice("wg0")
    device.apply(Plan(unchanged=5))
    device.configure()
    assert device.reinstate([]) == 0
    assert kernel.sent == []
