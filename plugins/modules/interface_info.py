#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: interface_info
short_description: Look at a WireGuard interface and its peers
version_added: 0.1.0
description:
  - Returns the settings of an interface and of its peers, as the kernel has them.
  - Private keys and preshared keys are never returned.
    Endpoints, handshake times and counters, which tell where and when a client is, are left out unless they are asked
    for in O(gather).
extends_documentation_fragment:
  - lethe.wireguard._attributes.info
  - lethe.wireguard._device
options:
  with_peers:
    description: Whether to return the peers; without them only how many there are.
    type: bool
    default: true
  gather:
    description:
      - What to return of each peer beside its settings.
      - V(endpoints) for the address and port that its packets come from.
      - V(handshakes) for the time of its latest handshake.
      - V(counters) for the bytes that came from it and went to it.
    type: list
    elements: str
    choices: [endpoints, handshakes, counters]
    default: []
  private_key_file:
    description:
      - The file on the host with the interface's private key. If it is given, the public key to which the interface is
        going to change is returned as well.
      - This needs the library PyNaCl, which the role P(lethe.wireguard.runtime#role) brings.
    type: path
notes:
  - Whatever is returned is known to the controller, its log and its callbacks. Set C(no_log) on the task, and leave
    O(gather) empty, where that is not what you want.
seealso:
  - module: lethe.wireguard.interface
  - module: lethe.wireguard.interface_key
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: How many peers are there
  lethe.wireguard.interface_info:
    interface: wg0
    with_peers: false
  register: gateway

- name: Which keys does the gateway let in
  lethe.wireguard.interface_info:
    interface: wg0
  register: gateway
  no_log: true

- name: The other site is connected
  lethe.wireguard.interface_info:
    interface: wg1
    gather: [handshakes]
  register: site
  until: site.peers[0].latest_handshake
  retries: 10
  no_log: true
"""

RETURN = r"""
interface:
  description: The interface itself.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    state:
      description: Whether it is up.
      type: str
      choices: [up, down]
    public_key:
      description: The public key that its clients need. V(null) while it has no private key.
      type: str
    next_public_key:
      description: The public key that it is going to have. V(null) if it keeps the one that it has.
      type: str
      returned: with O(private_key_file)
    listen_port:
      description: The UDP port it listens on.
      type: int
    fwmark:
      description: The mark of the packets it sends, V(0) for none.
      type: int
    mtu:
      description: The largest packet that fits in, in bytes.
      type: int
    addresses:
      description: Its own addresses.
      type: list
      elements: str
    peer_count:
      description: The number of its peers.
      type: int
  sample:
    name: wg0
    state: up
    public_key: HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=
    listen_port: 51820
    fwmark: 0
    mtu: 1420
    addresses: [10.64.0.1/10]
    peer_count: 1
peers:
  description: Its peers.
  returned: success, with O(with_peers=true)
  type: list
  elements: dict
  contains:
    public_key:
      description: The peer's public key.
      type: str
    has_preshared_key:
      description: Whether the peer has a preshared key.
      type: bool
    allowed_ips:
      description: The networks whose packets it may send and is sent.
      type: list
      elements: str
    persistent_keepalive:
      description: Seconds between keepalives, V(0) for none.
      type: int
    endpoint:
      description: Where its packets come from. V(null) if that is not known.
      type: str
      returned: with V(endpoints) in O(gather)
    latest_handshake:
      description: When its latest handshake was, in seconds since 1970. V(null) if there was none.
      type: int
      returned: with V(handshakes) in O(gather)
    received_bytes:
      description: Bytes that came from it.
      type: int
      returned: with V(counters) in O(gather)
    sent_bytes:
      description: Bytes that went to it.
      type: int
      returned: with V(counters) in O(gather)
  sample:
    - public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
      has_preshared_key: true
      allowed_ips: [10.68.201.77/32]
      persistent_keepalive: 0
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._lethe.wireguard.errors import InterfaceNotFound
from ..module_utils._lethe.wireguard.interface import check_name, read_interface
from ..module_utils._lethe.wireguard.key_change import next_public_key
from ..module_utils._lethe.wireguard.keys import NO_PRESHARED_KEY
from ..module_utils._lethe.wireguard.peers import PeerState
from ..module_utils._module import INTERFACE_SPEC, PYNACL, Options, Outcome, interface_values, open_device, run


def look(options: Options, _check: bool) -> Outcome:
    name, gather = check_name(options["interface"]), options["gather"]
    interface = read_interface(name)
    if interface is None:
        raise InterfaceNotFound(name)
    device = open_device(options)
    values: dict[str, Any] = {"interface": interface_values(interface)}
    if options["private_key_file"] is not None:
        coming = next_public_key(device, Path(options["private_key_file"]))
        values["interface"]["next_public_key"] = coming.text if coming else None
    if options["with_peers"]:
        values["peers"] = device.read(lambda states: [_peer_values(state, gather) for state in states])
        values["interface"]["peer_count"] = len(values["peers"])
    else:
        values["interface"]["peer_count"] = device.read(lambda states: sum(1 for _state in states))
    return Outcome(False, values)


def _peer_values(state: PeerState, gather: Collection[str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "public_key": state.public_key.text,
        "has_preshared_key": state.preshared_key != NO_PRESHARED_KEY,
        "allowed_ips": state.allowed_ips.texts,
        "persistent_keepalive": state.persistent_keepalive,
    }
    if "endpoints" in gather:
        values["endpoint"] = state.endpoint.text if state.endpoint else None
    if "handshakes" in gather:
        values["latest_handshake"] = state.handshake // 1_000_000_000 or None
    if "counters" in gather:
        values["received_bytes"] = state.received
        values["sent_bytes"] = state.sent
    return values


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **INTERFACE_SPEC,
            "with_peers": {"type": "bool", "default": True},
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": ["endpoints", "handshakes", "counters"],
                "default": [],
            },
            "private_key_file": {"type": "path", "no_log": False},
        },
        supports_check_mode=True,
    )
    run(module, look, libraries=(PYNACL,) if module.params["private_key_file"] else ())


if __name__ == "__main__":
    main()
