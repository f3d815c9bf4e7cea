#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: account
short_description: Manage an account of a registry
version_added: 0.1.0
description:
  - Creates, suspends, resumes and closes an account, sets how many keys it may have, and issues a credential for its
    clients.
  - It takes an operator's credential.
extends_documentation_fragment:
  - lethe.wireguard._attributes
  - lethe.wireguard._registry
options:
  account:
    description:
      - What you call the account, 1 to 256 printable characters.
        The registry keeps only a keyed hash of it.
    type: str
    required: true
  state:
    description:
      - V(present) for an account that is there, be it active or suspended. One that is missing is created.
      - V(active) for one whose keys work. One that is suspended is resumed, one that is missing is created.
      - V(suspended) for one whose keys are taken off all gateways. They keep their addresses.
      - V(closed) for one whose keys are removed for good. An account that the registry does not know is closed.
    type: str
    choices: [present, active, suspended, closed]
    default: present
  device_limit:
    description:
      - How many keys the account may have, V(1) to V(1000).
        Without it, what is set stays, and a new account follows the registry's default.
      - Only for an account that is or becomes active.
    type: int
  issue_credential:
    description:
      - Issue a new credential for the account's clients and return it as RV(token). Earlier ones stay valid.
      - It is done in every run. The task has to have C(no_log=true), or the module refuses.
      - Only with O(state=present) and O(state=active).
    type: bool
    default: false
seealso:
  - module: lethe.wireguard.registration
  - module: lethe.wireguard.registry_info
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: There is an account, and its client gets a credential
  lethe.wireguard.account:
    url: https://registry.example:8443
    token_file: ~/.config/lethe/registry.example-operator.token
    account: "{{ customer_number }}"
    device_limit: 3
    issue_credential: true
  delegate_to: localhost
  register: account
  no_log: true

- name: The account is suspended
  lethe.wireguard.account:
    url: https://registry.example:8443
    token_file: ~/.config/lethe/registry.example-operator.token
    account: "{{ customer_number }}"
    state: suspended
  delegate_to: localhost
"""

RETURN = r"""
account:
  description: The account; in check mode, as it would be. V(null) for one that the registry does not know.
  returned: success
  type: dict
  contains:
    state:
      description: V(active), V(suspended) or V(closed).
      type: str
    device_limit:
      description: How many keys it may have. V(null) in check mode, when the registry's default would apply.
      type: int
    key_count:
      description: How many it has.
      type: int
  sample:
    state: active
    device_limit: 3
    key_count: 1
token:
  description: The new credential. V(null) in check mode.
  returned: success, with O(issue_credential=true)
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import API_SPEC, ONE_TOKEN, Api, RegistryRefused
from ..module_utils._lethe.wireguard.errors import InvalidValue
from ..module_utils._module import Diff, Options, Outcome, run, show_value

_OPEN = ("present", "active")


def change_account(options: Options, check: bool, *, hidden: bool) -> Outcome:
    """``hidden``: whether Ansible keeps the result to itself."""
    _refuse_contradictions(options, hidden)
    api = Api(options)
    name = options["account"]
    before = _look(api, name)
    after = _wanted(options, before)
    changed = after != before
    if changed and not check:
        after = _apply(api, options, before)
    values: dict[str, Any] = {"account": after}
    if options["issue_credential"]:
        values["token"] = None if check else api.post("/v1/accounts/credentials", account=name)["token"]
        changed = True
    return Outcome(changed, values, Diff(_text(before), _text(after)))


def _refuse_contradictions(options: Options, hidden: bool) -> None:
    if options["state"] not in _OPEN:
        for option in ("device_limit", "issue_credential"):
            if options[option]:
                raise InvalidValue(option, "is for an account that is open", "leave it out, or use another state")
    if options["issue_credential"] and not hidden:
        raise InvalidValue(
            "issue_credential", "would show the credential in Ansible's output", "set no_log: true on the task"
        )


def _look(api: Api, name: str) -> dict[str, Any] | None:
    try:
        return _picked(api.post("/v1/accounts/show", account=name))
    except RegistryRefused as error:
        if error.slug == "account-unknown":
            return None
        raise


def _wanted(options: Options, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """The account as it is to be. Raises RegistryRefused for what the registry is going to refuse."""
    state, limit = options["state"], options["device_limit"]
    if before is None:
        if state == "suspended":
            raise RegistryRefused("account-unknown", "there is no account with this id; create it first")
        return None if state == "closed" else {"state": "active", "device_limit": limit, "key_count": 0}
    if before["state"] == "closed" and state != "closed":
        raise RegistryRefused("account-closed", "the account is closed and its keys are gone")
    after = {**before, "state": before["state"] if state == "present" else state}
    if limit is not None and limit != before["device_limit"]:
        if after["state"] != "active":
            raise RegistryRefused("account-suspended", "the account is suspended; resume it to set its device_limit")
        after["device_limit"] = limit
    if after["state"] == "closed":
        after["key_count"] = 0
    return after


def _apply(api: Api, options: Options, before: dict[str, Any] | None) -> dict[str, Any]:
    name, state, limit = options["account"], options["state"], options["device_limit"]
    if state == "suspended":
        return _picked(api.post("/v1/accounts/suspend", account=name))
    if state == "closed":
        return _picked(api.post("/v1/accounts/close", account=name))
    if before is not None and before["state"] == "suspended":
        answer = api.post("/v1/accounts/resume", account=name)
        if limit is None:
            return _picked(answer)
    return _picked(api.post("/v1/accounts", account=name, **({} if limit is None else {"device_limit": limit})))


def _picked(answer: dict[str, Any]) -> dict[str, Any]:
    # Not "keys", as the API has it: a template that says account.keys would get the method of a mapping.
    return {"state": answer["state"], "device_limit": answer["device_limit"], "key_count": answer["keys"]}


def _text(account: dict[str, Any] | None) -> str:
    if account is None:
        return "not known\n"
    limit = "the registry's default" if account["device_limit"] is None else account["device_limit"]
    return f"state: {account['state']}\ndevice_limit: {limit}\nkeys: {account['key_count']}\n"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **API_SPEC,
            # no_log keeps it out of the host's journal, to which Ansible writes the options of every module.
            "account": {"type": "str", "required": True, "no_log": True},
            "state": {"type": "str", "choices": ["present", "active", "suspended", "closed"], "default": "present"},
            "device_limit": {"type": "int"},
            "issue_credential": {"type": "bool", "default": False, "no_log": False},
        },
        supports_check_mode=True,
        **ONE_TOKEN,
    )
    show_value(module, "account")
    run(module, lambda options, check: change_account(options, check, hidden=module.no_log))


if __name__ == "__main__":
    main()
