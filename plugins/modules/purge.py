#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: purge
short_description: Make a WireGuard interface forget its idle peers now
version_added: 0.1.0
description:
  - The kernel keeps a peer's public address, the time of its handshake and its counters for ever.
    This module deletes and reinstates the peers that are idle, so that they are gone.
    A peer's key, preshared key, allowed IPs and keepalive stay, and it can connect again at any time.
  - A peer is idle when its latest handshake is older than O(idle_after). A ghost is a peer with an address and no
    handshake at all, as a scan or a broken connection leaves it; it is purged when it has been seen for as long.
  - The role P(lethe.wireguard.purge#role) does this all the time with a timer. This is for a run in between.
extends_documentation_fragment:
  - lethe.wireguard._attributes
  - lethe.wireguard._device
options:
  idle_after:
    description:
      - Seconds without a handshake after which a peer is idle, V(180) or more.
        Until then its session may still be alive.
    type: int
    default: 180
  exempt:
    description:
      - Public keys of peers that are left alone. For peers with an endpoint of their own, as another site has.
    type: list
    elements: str
    default: []
  state_directory:
    description:
      - Where one run leaves for the next when it saw which ghost, as keyed hashes.
        It has to be on a file system in memory, and the same that the timer uses.
    type: path
    default: /run/lethe/purge
notes:
  - A ghost is found by two runs. A first run with a new O(state_directory) purges none.
  - Only numbers are returned, never what belongs to a peer.
seealso:
  - module: lethe.wireguard.interface_info
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: Forget who is no longer here
  lethe.wireguard.purge:
    interface: wg0

- name: Leave the peer alone that is another site
  lethe.wireguard.purge:
    interface: wg0
    exempt:
      - TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=

- name: How many peers are idle
  lethe.wireguard.purge:
    interface: wg0
  check_mode: true
  register: idle
"""

RETURN = r"""
purge:
  description: The run in numbers; in check mode, what it would have been.
  returned: success
  type: dict
  contains:
    peers:
      description: Peers of the interface.
      type: int
    idle:
      description: Idle peers that were purged.
      type: int
    ghosts:
      description: Ghosts that were purged.
      type: int
    purged:
      description: Both together.
      type: int
    waiting_ghosts:
      description: Peers that have an address and no handshake, not yet for long enough.
      type: int
    oldest_endpoint_age:
      description: >-
        Age in seconds of the oldest handshake, or first sight, of the peers that still have an address.
        V(null) when none has one.
      type: float
    duration:
      description: Seconds that the run took.
      type: float
    longest_lock:
      description: Seconds for which one message kept the interface from its other work.
      type: float
  sample:
    peers: 100000
    idle: 37
    ghosts: 1
    purged: 38
    waiting_ghosts: 2
    oldest_endpoint_age: 179.2
    duration: 0.412
    longest_lock: 0.003
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._lethe.wireguard.keys import PublicKey
from ..module_utils._lethe.wireguard.purge import Figures
from ..module_utils._lethe.wireguard.purge_run import purge
from ..module_utils._module import INTERFACE_SPEC, Diff, Options, Outcome, open_device, run


def purge_now(options: Options, check: bool) -> Outcome:
    exempt = [PublicKey.from_text(text, f"exempt[{i}]") for i, text in enumerate(options["exempt"])]
    figures = purge(
        open_device(options),
        idle_after=options["idle_after"],
        exempt=frozenset(exempt),
        state_directory=Path(options["state_directory"]),
        check=check,
    )
    return Outcome(figures.purged > 0, {"purge": {**asdict(figures), "purged": figures.purged}}, _diff(figures))


def _diff(figures: Figures) -> Diff:
    return Diff(f"{figures.idle} idle peers\n{figures.ghosts} ghosts\n", "0 idle peers\n0 ghosts\n")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **INTERFACE_SPEC,
            "idle_after": {"type": "int", "default": 180},
            "exempt": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "state_directory": {"type": "path", "default": "/run/lethe/purge"},
        },
        supports_check_mode=True,
    )
    run(module, purge_now)


if __name__ == "__main__":
    main()
