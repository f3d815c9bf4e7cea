#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: peer
short_description: Manage one peer of a WireGuard interface
version_added: 0.1.0
description:
  - Adds, changes or removes one peer and leaves all others alone.
  - "With O(state=absent) it is the ad-hoc revocation: the peer's session ends at once, and its packets get no answer."
  - A peer that M(lethe.wireguard.peers) or an inventory still lists comes back with the next rollout.
    Take its key out there, too.
extends_documentation_fragment:
  - lethe.wireguard._attributes
  - lethe.wireguard._device
options:
  public_key:
    description: The peer's public key, 44 characters of base64.
    type: str
    required: true
  state:
    description:
      - V(present) makes the interface have the peer, as far as the other options say what it should be.
      - V(absent) makes it not have the peer. The other options are then not looked at.
    type: str
    choices: [present, absent]
    default: present
  preshared_key:
    description:
      - The key that the peer's handshakes are mixed with. Left as it is, if not given.
      - The key that is all zeros (43 times V(A) and V(=)) means none.
      - Never give it on a command line, where every user of the controller can read it.
    type: str
  allowed_ips:
    description:
      - All networks whose packets the peer may send and is sent, for example V(10.1.2.3/32).
        An address alone stands for itself. Left as they are, if not given.
      - One that another peer has is refused.
    type: list
    elements: str
  persistent_keepalive:
    description:
      - Seconds between the packets that keep the peer's way through a firewall open, V(1) to V(65535); V(0) for none.
        Left as it is, if not given.
    type: int
  endpoint:
    description:
      - Where the peer is reached before it has sent anything, for example V(192.0.2.1:51820).
        Host names are refused. Left as it is, if not given.
    type: str
notes:
  - Neither the host's journal nor the result ever has a key, an address or an endpoint of the peer.
seealso:
  - module: lethe.wireguard.peers
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
# The revocation of a key on all gateways, now:
#
# ansible gateways -m lethe.wireguard.peer \
#   -a 'interface=wg0 public_key=xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg= state=absent'

- name: The client's key is revoked
  lethe.wireguard.peer:
    interface: wg0
    public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
    state: absent

- name: The client is known
  lethe.wireguard.peer:
    interface: wg0
    public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
    preshared_key: "{{ vault_preshared_key }}"
    allowed_ips:
      - 10.68.201.77/32
      - fd00:6c65:7468:91ab:42::1/128

- name: A gateway of another site, with an endpoint of its own
  lethe.wireguard.peer:
    interface: wg0
    public_key: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
    endpoint: 198.51.100.7:51820
    allowed_ips: [172.16.7.0/24]
    persistent_keepalive: 25
"""

RETURN = r"""
action:
  description: What was done; in check mode, would be.
  returned: success
  type: str
  sample: removed
  choices: [added, updated, removed, unchanged]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._lethe.wireguard.addresses import AllowedIPs, Endpoint
from ..module_utils._lethe.wireguard.inventory import keepalive_from
from ..module_utils._lethe.wireguard.keys import PresharedKey, PublicKey
from ..module_utils._lethe.wireguard.plan import Plan
from ..module_utils._lethe.wireguard.reconcile import PeerOptions, ensure_peer, remove_peer
from ..module_utils._module import INTERFACE_SPEC, Options, Outcome, open_device, peers_diff, run


def change_peer(options: Options, check: bool) -> Outcome:
    public_key = PublicKey.from_text(options["public_key"])
    if options["state"] == "absent":
        plan = remove_peer(open_device(options), public_key, check=check)
    else:
        preshared_key, keepalive = options["preshared_key"], options["persistent_keepalive"]
        allowed_ips, endpoint = options["allowed_ips"], options["endpoint"]
        wanted = PeerOptions(
            public_key,
            preshared_key=None if preshared_key is None else PresharedKey.from_text(preshared_key),
            persistent_keepalive=None if keepalive is None else keepalive_from(keepalive),
            allowed_ips=None if allowed_ips is None else AllowedIPs.from_texts(allowed_ips),
            endpoint=None if endpoint is None else Endpoint.from_text(endpoint),
        )
        plan = ensure_peer(open_device(options), wanted, check=check)
    return Outcome(plan.changed, {"action": _action(plan)}, peers_diff(plan))


def _action(plan: Plan) -> str:
    if plan.added:
        return "added"
    if plan.removed:
        return "removed"
    return "updated" if plan.updated else "unchanged"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **INTERFACE_SPEC,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            # no_log also keeps them out of the host's journal, to which Ansible writes the options of every module.
            "public_key": {"type": "str", "required": True, "no_log": True},
            "preshared_key": {"type": "str", "no_log": True},
            "allowed_ips": {"type": "list", "elements": "str", "no_log": True},
            "persistent_keepalive": {"type": "int"},
            "endpoint": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    run(module, change_peer)


if __name__ == "__main__":
    main()
