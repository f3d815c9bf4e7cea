#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: interface_key
short_description: Change the private key of a WireGuard interface in two steps
version_added: 0.1.0
description:
  - The first step, O(state=prepared), makes the next key on the host, so that the peers can be told its public key. The
    second, O(state=switched), makes the interface use it.
  - Sessions end with the second step. Peers stay, with all that they are configured to be; each comes back as soon as
    it knows the new key.
  - The next key is in a file beside O(private_key_file), with C(.next) at the end of its name. When it takes that one's
    place, the bytes of the key before are overwritten.
  - A host that fails between the two, or in the midst of the second, can be brought on by the same again. What is done
    already is not done twice.
extends_documentation_fragment:
  - lethe.wireguard._attributes
  - lethe.wireguard._device
options:
  private_key_file:
    description: The file on the host with the interface's private key.
    type: path
    required: true
  state:
    description:
      - V(prepared) makes a next key if there is none.
      - V(switched) makes the interface use the next key. Without one, nothing is changed.
    type: str
    choices: [prepared, switched]
    required: true
requirements:
  - the library PyNaCl. The role P(lethe.wireguard.runtime#role) brings it, and the module uses its interpreter by
    itself.
seealso:
  - module: lethe.wireguard.interface
  - module: lethe.wireguard.interface_info
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: There is a next key
  lethe.wireguard.interface_key:
    interface: wg0
    private_key_file: /etc/lethe/wg0.key
    state: prepared
  register: key

- name: What its clients have to know beforehand
  ansible.builtin.debug:
    var: key.next_public_key

- name: The interface uses it, and the key before is gone
  lethe.wireguard.interface_key:
    interface: wg0
    private_key_file: /etc/lethe/wg0.key
    state: switched
"""

RETURN = r"""
public_key:
  description: The public key of the interface. V(null) while it has no private key.
  returned: success
  type: str
  sample: HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=
next_public_key:
  description: The public key that it is going to have. V(null) if there is none, or in check mode one would be made.
  returned: success
  type: str
  sample: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
steps:
  description: What was done, in order; in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: [key file, private_key]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._lethe.wireguard.key_change import prepare, switch
from ..module_utils._module import INTERFACE_SPEC, PYNACL, Diff, Options, Outcome, open_device, run


def change_key(options: Options, check: bool) -> Outcome:
    change = prepare if options["state"] == "prepared" else switch
    keys = change(open_device(options), Path(options["private_key_file"]), check=check)
    values = {
        "public_key": keys.present.text if keys.present else None,
        "next_public_key": keys.next.text if keys.next else None,
        "steps": keys.steps,
    }
    return Outcome(bool(keys.steps), values, Diff("", "".join(f"{step}\n" for step in keys.steps)))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **INTERFACE_SPEC,
            "private_key_file": {"type": "path", "required": True, "no_log": False},
            "state": {"type": "str", "choices": ["prepared", "switched"], "required": True},
        },
        supports_check_mode=True,
    )
    run(module, change_key, libraries=(PYNACL,))


if __name__ == "__main__":
    main()
