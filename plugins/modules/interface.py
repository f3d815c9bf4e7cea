#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: interface
short_description: Manage a WireGuard interface
version_added: 0.1.0
description:
  - Creates, configures and removes a WireGuard interface, straight in the kernel and without a configuration file.
  - What is already as it should be is not touched, so no session ends because of a run that changes nothing.
    What is not given is left as it is.
  - The interface is gone after a reboot. The role P(lethe.wireguard.gateway#role) has a unit that brings it back.
extends_documentation_fragment:
  - lethe.wireguard._attributes
options:
  name:
    description: The name of the interface, for example V(wg0). At most 15 characters.
    type: str
    required: true
    aliases: [interface]
  state:
    description:
      - V(up) and V(down) make it exist and be in that state.
      - V(absent) removes it with all its peers. The other options are then not looked at, and key files stay.
    type: str
    choices: [up, down, absent]
    default: up
  private_key:
    description:
      - Its private key, 44 characters of base64. It comes from the controller. See O(private_key_file) for one that
        does not.
      - Changing the key ends all sessions.
    type: str
  private_key_file:
    description: A file on the host with its private key.
    type: path
  generate_private_key:
    description:
      - Make a private key if there is no O(private_key_file), and write it there, readable by root alone.
        It never leaves the host.
      - A file that is there is kept, and made unreadable for others.
    type: bool
    default: false
  listen_port:
    description: The UDP port to listen on, V(0) to V(65535). With V(0) the kernel chooses one for a new interface.
    type: int
  fwmark:
    description: The mark of the packets it sends, for routing and firewall rules, V(0) to V(4294967295). V(0) for none.
    type: int
  mtu:
    description: The largest packet that fits in, V(1280) to V(65456) bytes.
    type: int
  addresses:
    description:
      - All addresses it should have, with prefix, for example V(10.64.0.1/10). Others are removed, but for those that
        the kernel gives by itself.
    type: list
    elements: str
requirements:
  - a kernel with WireGuard (Linux 5.6 or later)
  - the capability CAP_NET_ADMIN, as a rule by C(become)
  - Python 3.10 or later on the host, with the libraries pyroute2 and PyNaCl. The role P(lethe.wireguard.runtime#role)
    brings them, and the module uses its interpreter by itself.
notes:
  - An interface of that name that is not a WireGuard interface is left alone, and the module fails.
seealso:
  - module: lethe.wireguard.peers
  - module: lethe.wireguard.keypair
  - module: lethe.wireguard.interface_info
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: The gateway's interface is up, with a key that never leaves it
  lethe.wireguard.interface:
    name: wg0
    private_key_file: /etc/lethe/wg0.key
    generate_private_key: true
    listen_port: 51820
    mtu: 1420
    addresses:
      - 10.64.0.1/10
      - fd00:6c65:7468::1/48
  register: gateway

- name: What its clients need
  ansible.builtin.debug:
    var: gateway.interface.public_key

- name: The interface is gone
  lethe.wireguard.interface:
    name: wg1
    state: absent
"""

RETURN = r"""
interface:
  description: >-
    The interface afterwards; in check mode, as it would be. What only the kernel or a key that is not there yet would
    tell is then V(0) or V(null).
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    state:
      description: Whether it is up. The rest is returned only if it is not V(absent).
      type: str
      choices: [up, down, absent]
    public_key:
      description: The public key that its clients need. V(null) while it has no private key.
      type: str
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
  sample:
    name: wg0
    state: up
    public_key: HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=
    listen_port: 51820
    fwmark: 0
    mtu: 1420
    addresses: [10.64.0.1/10, "fd00:6c65:7468::1/48"]
steps:
  description: What was done, in order; in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: [key file created, created, private_key, listen_port, mtu, addresses, up]
"""

from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._lethe.wireguard.interface import (
    InterfaceOptions,
    InterfaceState,
    address_from_text,
    ensure_interface,
    read_interface,
    remove_interface,
)
from ..module_utils._lethe.wireguard.key_files import ensure_key, read_key
from ..module_utils._lethe.wireguard.keys import PrivateKey, fingerprint
from ..module_utils._module import PYNACL, PYROUTE2, Diff, Options, Outcome, interface_values, run


def change_interface(options: Options, check: bool) -> Outcome:
    name = options["name"]
    key_steps: list[str] = []
    if options["state"] == "absent":
        change = remove_interface(name, check=check)
    else:
        addresses = options["addresses"]
        wanted = InterfaceOptions(
            name=name,
            up=options["state"] == "up",
            listen_port=options["listen_port"],
            fwmark=options["fwmark"],
            mtu=options["mtu"],
            addresses=None
            if addresses is None
            else tuple(address_from_text(text, f"addresses[{i}]") for i, text in enumerate(addresses)),
        )
        private_key, key_steps = _private_key(options, check)
        change = ensure_interface(replace(wanted, private_key=private_key), check=check)
        if check and key_steps and private_key is None and change.after:
            change = replace(change, after=replace(change.after, public_key=None))
    steps = [f"key file {step}" for step in key_steps] + change.steps
    values = {"interface": interface_values(change.after) if change.after else {"name": name, "state": "absent"}}
    return Outcome(bool(steps), {**values, "steps": steps}, Diff(_lines(change.before), _lines(change.after)))


def _private_key(options: Options, check: bool) -> tuple[PrivateKey | None, list[str]]:
    """The key that the interface should have, and what was done to its file. None: the one that it has, or in check
    mode one that would be made.
    """
    if options["private_key"] is not None:
        return PrivateKey.from_text(options["private_key"]), []
    if options["private_key_file"] is None:
        return None, []
    if not options["generate_private_key"]:
        return read_key(options["private_key_file"], PrivateKey), []
    read_interface(options["name"])  # if it is none of ours, that is said before a key is made for it
    key_file = ensure_key(options["private_key_file"], PrivateKey, check=check)
    return key_file.key, key_file.steps


def _lines(state: InterfaceState | None) -> str:
    if state is None:
        return ""
    values = interface_values(state)
    values["public_key"] = f"fingerprint {fingerprint(state.public_key)}" if state.public_key else None
    return "".join(f"{name}: {value}\n" for name, value in values.items())


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True, "aliases": ["interface"]},
            "state": {"type": "str", "choices": ["up", "down", "absent"], "default": "up"},
            "private_key": {"type": "str", "no_log": True},
            "private_key_file": {"type": "path", "no_log": False},
            "generate_private_key": {"type": "bool", "default": False, "no_log": False},
            "listen_port": {"type": "int"},
            "fwmark": {"type": "int"},
            "mtu": {"type": "int"},
            "addresses": {"type": "list", "elements": "str"},
        },
        mutually_exclusive=[("private_key", "private_key_file")],
        required_if=[("generate_private_key", True, ["private_key_file"])],
        supports_check_mode=True,
    )
    run(module, change_interface, libraries=(PYROUTE2, PYNACL))


if __name__ == "__main__":
    main()
