#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: peers
short_description: Manage all peers of a WireGuard interface
version_added: 0.1.0
description:
  - Makes an interface have the peers that are listed, and by default no others.
  - It reads what the kernel has and sends only what differs.
    A peer that does not change keeps its session, whatever happens to the others.
  - A list that would remove a large share of the peers is refused, because it is more likely truncated than meant,
    see O(shrink_limit).
  - Every peer is checked before the first one is changed. Nothing is written to a disk of the host.
extends_documentation_fragment:
  - lethe.wireguard._attributes
  - lethe.wireguard._device
options:
  peers:
    description:
      - The peers, each a mapping with the fields below. For more than a few thousand use O(file), which does not pass
        through templates.
      - An empty list removes all peers, if O(shrink_limit) or O(allow_shrink) let it.
      - Exactly one of O(peers) and O(file) has to be given.
    type: list
    elements: dict
    suboptions:
      public_key:
        description: The peer's public key, 44 characters of base64. Every peer needs it.
        type: str
      preshared_key:
        description: The key that the peer's handshakes are mixed with. Without it the peer has none.
        type: str
      allowed_ips:
        description:
          - The networks whose packets the peer may send and is sent, for example V(10.1.2.3/32).
            An address alone stands for itself.
          - Two peers cannot have the same one.
        type: list
        elements: str
      persistent_keepalive:
        description:
          - Seconds between the packets that keep the peer's way through a firewall open, V(0) to V(65535).
            Without it, or with V(0), there are none.
          - It is for the client's side. On a gateway it makes the kernel try a handshake with absent clients.
        type: int
      endpoint:
        description:
          - Where the peer is reached before it has sent anything, for example V(192.0.2.1:51820).
            Host names are refused.
          - Without it, what the kernel has learnt is left alone.
        type: str
  file:
    description:
      - A file on the host with the peers, of any number.
      - It holds a JSON array of objects, or one JSON object per line, with the same fields as O(peers);
        or the packed form of such a file, which C(lethe pack) makes and which is several times faster to compare.
    type: path
  remove_unlisted:
    description: Whether to remove the peers that are not listed.
    type: bool
    default: true
  shrink_limit:
    description:
      - The largest share of the present peers, in percent, that may be removed. With more, nothing is changed and the
        module fails. Up to ten peers can always be removed.
    type: int
    default: 50
  allow_shrink:
    description: Remove as many peers as it takes, whatever O(shrink_limit) says.
    type: bool
    default: false
notes:
  - Neither the host's journal nor the result ever has a key, an address or an endpoint of a peer.
    The numbers in RV(counts) are all that is returned, however many peers there are.
  - A file with preshared keys is a secret. Put it on a file system in memory, for example below C(/run), and remove it
    afterwards.
seealso:
  - module: lethe.wireguard.interface
  - module: lethe.wireguard.peer
  - module: lethe.wireguard.interface_info
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: Two clients and no others
  lethe.wireguard.peers:
    interface: wg0
    peers:
      - public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
        allowed_ips: [10.68.201.77/32, "fd00:6c65:7468:91ab:42::1/128"]
      - public_key: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
        preshared_key: "{{ vault_preshared_key }}"
        allowed_ips: [10.91.14.203/32]

- name: All peers of a large fleet, from a file that is on the host
  lethe.wireguard.peers:
    interface: wg0
    file: /run/lethe/peers.jsonl

- name: What would change, without changing it
  lethe.wireguard.peers:
    interface: wg0
    file: /run/lethe/peers.jsonl
  check_mode: true
  diff: true

- name: Close the gateway down
  lethe.wireguard.peers:
    interface: wg0
    peers: []
    allow_shrink: true
"""

RETURN = r"""
counts:
  description: How many peers were concerned; in check mode, would be.
  returned: success
  type: dict
  contains:
    wanted:
      description: Peers that are listed.
      type: int
    added:
      description: Peers that were not there.
      type: int
    updated:
      description: Peers that were there and differed.
      type: int
    removed:
      description: Peers that were there and are not listed.
      type: int
    unchanged:
      description: Peers that were as they should be, or are not listed and were kept.
      type: int
  sample:
    wanted: 100000
    added: 12
    updated: 3
    removed: 9
    unchanged: 99985
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._lethe.wireguard.errors import InvalidValue
from ..module_utils._lethe.wireguard.inventory import peers_from_file, peers_from_list
from ..module_utils._lethe.wireguard.reconcile import reconcile_peers
from ..module_utils._module import INTERFACE_SPEC, Options, Outcome, open_device, peers_diff, run


def reconcile(options: Options, check: bool) -> Outcome:
    if not 0 <= options["shrink_limit"] <= 100:
        raise InvalidValue("shrink_limit", f"is {options['shrink_limit']}", "give a percentage from 0 to 100")
    wanted = peers_from_list(options["peers"]) if options["file"] is None else peers_from_file(options["file"])
    plan = reconcile_peers(
        open_device(options),
        wanted,
        remove_unlisted=options["remove_unlisted"],
        shrink_limit=options["shrink_limit"],
        allow_shrink=options["allow_shrink"],
        check=check,
    )
    return Outcome(plan.changed, {"counts": {"wanted": len(wanted), **plan.counts()}}, peers_diff(plan))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **INTERFACE_SPEC,
            # Its fields are checked where those of a file are: with their place, and without showing what they hold.
            "peers": {"type": "list", "elements": "dict", "no_log": True},
            "file": {"type": "path"},
            "remove_unlisted": {"type": "bool", "default": True},
            "shrink_limit": {"type": "int", "default": 50},
            "allow_shrink": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("peers", "file")],
        required_one_of=[("peers", "file")],
        supports_check_mode=True,
    )
    run(module, reconcile)


if __name__ == "__main__":
    main()
