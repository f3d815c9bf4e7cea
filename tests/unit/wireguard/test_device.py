# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel's device says when the kernel refuses; all else of it needs a kernel (tests/kernel)."""

from __future__ import annotations

import errno

import pytest

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard import device
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import KernelRefused
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer


class FullKernel:
    """A socket to a kernel that has no memory for a peer: no test can bring a real one there."""

    def __init__(self, _interface: str) -> None:
        pass

    def __enter__(self) -> FullKernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set(self, what: str, **_: object) -> None:
        raise KernelRefused(what, errno.ENOMEM)


def test_a_reinstatement_that_failed_says_how_the_peers_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "WireGuardSocket", FullKernel)

    with pytest.raises(KernelRefused, match=r"push the peers again") as refused:
        device.KernelDevice("wg0").reinstate([Peer(PublicKey(bytes(32)))])

    assert refused.value.errno == errno.ENOMEM
