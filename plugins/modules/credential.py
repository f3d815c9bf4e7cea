#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: credential
short_description: Issue and withdraw the credential of a gateway or an operator
version_added: 0.1.0
description:
  - Issues a credential by which a registry knows a gateway or an operator, or makes one invalid.
  - It takes an operator's credential.
extends_documentation_fragment:
  - lethe.wireguard._attributes
  - lethe.wireguard._registry
options:
  label:
    description: What the credential is called, 1 to 64 printable characters. For a gateway, its name.
    type: str
    required: true
  kind:
    description:
      - V(gateway) for one that may read all peers and report. V(operator) for one that may do what this module does.
    type: str
    choices: [gateway, operator]
    default: gateway
  state:
    description:
      - V(present) for a credential that is there. Only when it is issued can its token be seen.
      - V(absent) for one that is not.
    type: str
    choices: [present, absent]
    default: present
  replace:
    description:
      - Issue a new one also if there is one of this kind and label, which becomes invalid at once.
      - Only with O(state=present).
    type: bool
    default: false
seealso:
  - module: lethe.wireguard.account
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: The gateway gets a credential of its own
  lethe.wireguard.credential:
    url: https://registry.example:8443
    token_file: ~/.config/lethe/registry.example-operator.token
    label: "{{ inventory_hostname }}"
    replace: true
  delegate_to: localhost
  register: credential
  no_log: true

- name: A gateway that is gone reads nothing any more
  lethe.wireguard.credential:
    url: https://registry.example:8443
    token_file: ~/.config/lethe/registry.example-operator.token
    label: gateway7.example
    state: absent
  delegate_to: localhost
"""

RETURN = r"""
token:
  description: The new credential. V(null) if none was issued, and in check mode.
  returned: success, with O(state=present)
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import API_SPEC, ONE_TOKEN, Api
from ..module_utils._lethe.wireguard.errors import InvalidValue
from ..module_utils._module import Diff, Options, Outcome, run


def change_credential(options: Options, check: bool, *, hidden: bool) -> Outcome:
    """``hidden``: whether Ansible keeps the result to itself."""
    kind, label = options["kind"], options["label"]
    if options["state"] == "absent":
        if options["replace"]:
            raise InvalidValue("replace", "is for a credential that is to be there", "leave it out")
        api = Api(options)
        changed = _is_there(api, kind, label)
        if changed and not check:
            changed = bool(api.post("/v1/credentials/withdraw", kind=kind, label=label)["changed"])
        return Outcome(changed, {}, _diff(changed, "valid", "withdrawn"))
    if not hidden:
        raise InvalidValue("state", "would show the credential in Ansible's output", "set no_log: true on the task")
    api = Api(options)
    changed = options["replace"] or not _is_there(api, kind, label)
    token = api.post("/v1/credentials", kind=kind, label=label)["token"] if changed and not check else None
    return Outcome(changed, {"token": token}, _diff(changed, "", "issued"))


def _is_there(api: Api, kind: str, label: str) -> bool:
    there: list[dict[str, Any]] = api.get("/v1/credentials")["credentials"]
    return {"kind": kind, "label": label} in there


def _diff(changed: bool, before: str, after: str) -> Diff:
    return Diff(f"credential: {before}\n", f"credential: {after}\n") if changed else Diff("", "")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **API_SPEC,
            "label": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": ["gateway", "operator"], "default": "gateway"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "replace": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        **ONE_TOKEN,
    )
    run(module, lambda options, check: change_credential(options, check, hidden=module.no_log))


if __name__ == "__main__":
    main()
