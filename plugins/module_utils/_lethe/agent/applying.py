# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a signed snapshot to the kernel: what the agent does when it begins, and a push without an agent does once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..feed.signing import VerifyKeys
from ..wireguard.device import Device
from ..wireguard.errors import LetheError, ShrinkRefused
from ..wireguard.plan import Plan
from ..wireguard.reconcile import follow_peers
from . import memory
from .follower import Follower, Whole


class SnapshotRefused(LetheError):
    """The shrink guard, as it is for a snapshot."""

    def __init__(self, error: ShrinkRefused, limit: int | None) -> None:
        super().__init__(
            f"the snapshot would remove {error.removed} of {error.current} peers, more than the shrink limit of "
            f"{limit} %; nothing was changed. If the registry is right, let the limit be 100 for once "
            "(lethe agent apply --shrink-limit, role key_sync: key_sync_shrink_limit)"
        )


def not_the_registrys(device: Device, left_alone: Collection[bytes]) -> frozenset[bytes]:
    """``left_alone`` and the interface's own key: the kernel does not take that, whoever has registered it."""
    own = device.settings().public_key
    return frozenset(left_alone) | (frozenset() if own is None else {own})


def carry_out(
    device: Device, follower: Follower, whole: Whole, shrink_limit: int | None, *, check: bool = False
) -> Plan:
    """Make the kernel have what the snapshot says; with ``check``, only say what would be done. Raises SnapshotRefused
    and the errors of the kernel.
    """
    left_alone = follower.left_alone
    try:
        plan = follow_peers(device, whole.peers, left_alone=left_alone, shrink_limit=shrink_limit, check=check)
    except ShrinkRefused as error:
        raise SnapshotRefused(error, shrink_limit) from None
    if not check:
        follower.accept(whole)
    return plan


def apply_snapshot(
    device: Device,
    document: bytes,
    keys: VerifyKeys,
    *,
    left_alone: Collection[bytes] = (),
    shrink_limit: int | None,
    state_directory: Path = memory.DIRECTORY,
    check: bool = False,
) -> tuple[Whole, Plan]:
    """Verify a signed snapshot, apply it if it is no older than what this host has had, and remember that. With
    ``check``, change nothing.

    Raises NotGenuine, DocumentRefused, Replayed, SnapshotRefused, MemoryUnusable and the errors of the kernel.
    """
    path = memory.path_of(state_directory, device.name)
    follower = Follower(keys, known=memory.read_position(path), left_alone=not_the_registrys(device, left_alone))
    whole = follower.read_snapshot(document)
    plan = carry_out(device, follower, whole, shrink_limit, check=check)
    if not check:
        memory.write_position(path, whole.position)
    return whole, plan
