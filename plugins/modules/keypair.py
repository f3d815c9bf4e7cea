#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: keypair
short_description: Make and keep WireGuard keys on a host
version_added: 0.1.0
description:
  - Makes there be a file with a private key, or with a preshared key, that its owner alone can read.
    A key that is there is kept.
  - The file is written whole or not at all. The key does not leave the host unless O(return_private_key) says so.
  - The public key of a private key is returned, and written to O(public_key_path) if that is given.
extends_documentation_fragment:
  - lethe.wireguard._attributes
options:
  path:
    description:
      - The file on the host with the key. Its directory has to exist.
      - A file that is there and holds something else is never overwritten, unless with O(force).
    type: path
    required: true
  type:
    description: Whether it is a V(private) key or a V(preshared) key.
    type: str
    choices: [private, preshared]
    default: private
  state:
    description: V(absent) removes O(path), and O(public_key_path) if it is given.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - Make a new key in any case and replace what is there.
      - Every run then changes the key, and with it ends the sessions of whoever used it.
    type: bool
    default: false
  public_key_path:
    description: A file on the host for the public key, readable by everybody. Only for O(type=private).
    type: path
  return_private_key:
    description:
      - Return the secret itself, as RV(private_key) or RV(preshared_key).
      - Set C(no_log) on the task.
    type: bool
    default: false
  owner:
    description: The user, by name or number, whom the file with the key should belong to. Left as it is, if not given.
    type: str
  group:
    description: The group, by name or number, that the file with the key should belong to. Left as it is, if not given.
    type: str
requirements:
  - Python 3.10 or later on the host
  - for O(type=private), the library PyNaCl. The role P(lethe.wireguard.runtime#role) brings it, and the module uses its
    interpreter by itself.
seealso:
  - module: lethe.wireguard.interface
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: The host has a key of its own
  lethe.wireguard.keypair:
    path: /etc/lethe/wg0.key
    public_key_path: /etc/lethe/wg0.pub
  register: key

- name: Whom its peers have to know
  ansible.builtin.debug:
    var: key.public_key

- name: A preshared key for one client
  lethe.wireguard.keypair:
    path: /etc/lethe/client1.psk
    type: preshared

- name: The key is gone
  lethe.wireguard.keypair:
    path: /etc/lethe/wg0.key
    public_key_path: /etc/lethe/wg0.pub
    state: absent
"""

RETURN = r"""
public_key:
  description: The public key. V(null) in check mode, when the private key would be made.
  returned: success, with O(type=private) and O(state=present)
  type: str
  sample: HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=
private_key:
  description: The private key. V(null) in check mode, when it would be made.
  returned: success, with O(return_private_key=true), O(type=private) and O(state=present)
  type: str
preshared_key:
  description: The preshared key. V(null) in check mode, when it would be made.
  returned: success, with O(return_private_key=true), O(type=preshared) and O(state=present)
  type: str
steps:
  description: What was done; in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: [created, public key written]
"""

import grp
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._lethe.wireguard.errors import InvalidValue
from ..module_utils._lethe.wireguard.key_files import ensure_key, ensure_public_key, remove_key
from ..module_utils._lethe.wireguard.keys import PresharedKey, PrivateKey
from ..module_utils._module import PYNACL, Diff, Options, Outcome, run


def change_key(options: Options, check: bool) -> Outcome:
    values, steps = (_remove if options["state"] == "absent" else _ensure)(options, check)
    return Outcome(bool(steps), {**values, "steps": steps}, Diff("", "".join(f"{step}\n" for step in steps)))


def _ensure(options: Options, check: bool) -> tuple[dict[str, Any], list[str]]:
    path, public_key_path = options["path"], options["public_key_path"]
    owner, group = _user_id(options["owner"]), _group_id(options["group"])
    values: dict[str, Any] = {}
    if options["type"] == "preshared":
        if public_key_path is not None:
            raise InvalidValue(
                "public_key_path", "is given for a preshared key, which has no public key", "leave it out"
            )
        preshared = ensure_key(path, PresharedKey, regenerate=options["force"], owner=owner, group=group, check=check)
        if options["return_private_key"]:
            values["preshared_key"] = preshared.key.text if preshared.key else None
        return values, preshared.steps
    private = ensure_key(path, PrivateKey, regenerate=options["force"], owner=owner, group=group, check=check)
    public_key = private.key.public_key() if private.key else None
    steps = list(private.steps)
    if public_key_path is not None:
        steps += [f"public key {step}" for step in ensure_public_key(public_key_path, public_key, check=check)]
    values["public_key"] = public_key.text if public_key else None
    if options["return_private_key"]:
        values["private_key"] = private.key.text if private.key else None
    return values, steps


def _remove(options: Options, check: bool) -> tuple[dict[str, Any], list[str]]:
    steps = remove_key(options["path"], check=check)
    if options["public_key_path"] is not None:
        steps += [f"public key {step}" for step in remove_key(options["public_key_path"], check=check)]
    return {}, steps


def _user_id(user: str | None) -> int | None:
    if user is None or user.isdigit():
        return None if user is None else int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise InvalidValue("owner", "is no user of this host", "create the user first, or give a number") from None


def _group_id(group: str | None) -> int | None:
    if group is None or group.isdigit():
        return None if group is None else int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidValue("group", "is no group of this host", "create the group first, or give a number") from None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "type": {"type": "str", "choices": ["private", "preshared"], "default": "private"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "force": {"type": "bool", "default": False},
            "public_key_path": {"type": "path", "no_log": False},
            "return_private_key": {"type": "bool", "default": False, "no_log": False},
            "owner": {"type": "str"},
            "group": {"type": "str"},
        },
        supports_check_mode=True,
    )
    derives = module.params["type"] == "private" and module.params["state"] == "present"
    run(module, change_key, libraries=(PYNACL,) if derives else ())


if __name__ == "__main__":
    main()
