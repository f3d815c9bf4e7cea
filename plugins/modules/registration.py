#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: registration
short_description: Register, rotate and revoke a key
version_added: 0.1.0
description:
  - Registers a client's public key with a registry, which gives it random tunnel addresses; replaces it by another one;
    removes it.
  - It takes the credential of the account that the key belongs to. O(state=revoked) takes an operator's.
extends_documentation_fragment:
  - lethe.wireguard._attributes
  - lethe.wireguard._registry
options:
  public_key:
    description: The client's public key, 44 characters of base64.
    type: str
    required: true
  state:
    description:
      - V(present) for a key that is registered. The same key again gets the same addresses again.
      - V(absent) for one that is not, and neither is the other one of its rotation. The account removes it.
      - V(revoked) for the same, whosever it is. An operator removes it. In check mode it is always a change, because
        an operator cannot look whether a key is registered.
    type: str
    choices: [present, absent, revoked]
    default: present
  successor:
    description:
      - A public key that takes the place of O(public_key). It is registered beside it, with addresses of its own,
        and O(public_key) leaves when the successor is confirmed or after the registry's grace period.
      - Only with O(state=present).
    type: str
  confirm:
    description:
      - Tell the registry that the client uses O(public_key) now, so that the key which it replaces leaves at once.
      - Only with O(state=present), and not with O(successor). The key has to be registered.
    type: bool
    default: false
  return_preshared_key:
    description:
      - Return the preshared key that the registry has for the key.
        The task has to have C(no_log=true), or the module refuses.
      - It travels sealed where Python's library C(cryptography), of version 48 or later, is there. In a fleet whose
        preshared keys are told sealed only, the module needs that library, and uses the one of a registry's or a
        client's runtime if there is one on the host.
    type: bool
    default: false
notes:
  - The addresses that it returns are known to the controller, its log and its callbacks. Set C(no_log) on the task
    where that is not what you want.
seealso:
  - module: lethe.wireguard.account
  - module: lethe.wireguard.peers
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: The client's key is registered
  lethe.wireguard.registration:
    url: https://registry.example:8443
    token: "{{ client_token }}"
    public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
  delegate_to: localhost
  register: client
  no_log: true

- name: Another key is going to take its place
  lethe.wireguard.registration:
    url: https://registry.example:8443
    token: "{{ client_token }}"
    public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
    successor: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
  delegate_to: localhost
  register: client
  no_log: true

- name: The client has switched
  lethe.wireguard.registration:
    url: https://registry.example:8443
    token: "{{ client_token }}"
    public_key: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
    confirm: true
  delegate_to: localhost

- name: A key that was stolen is revoked
  lethe.wireguard.registration:
    url: https://registry.example:8443
    token_file: ~/.config/lethe/registry.example-operator.token
    public_key: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
    state: revoked
  delegate_to: localhost
"""

RETURN = r"""
registration:
  description: >-
    What belongs to the key, or with O(successor) to that.
    V(null) when the key is not registered, and in check mode when it would be.
  returned: success, with O(state=present)
  type: dict
  contains:
    allowed_ips:
      description: The tunnel addresses.
      type: list
      elements: str
    expires_on:
      description: The day (UTC) in the course of which the key expires. V(null) for never.
      type: str
    leaves_in:
      description: Seconds until the key, which is being rotated out, is removed. V(null) for one that is not.
      type: int
    preshared_key:
      description:
        - The preshared key. V(null) where the fleet has none, and in check mode where it is told sealed only.
      type: str
      returned: with O(return_preshared_key=true)
  sample:
    allowed_ips: [10.68.201.77/32, "fd00:6c65:7468:91ab:42::1/128"]
    expires_on: "2026-12-24"
    leaves_in: null
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import API_SPEC, ONE_TOKEN, Api, RegistryRefused
from ..module_utils._lethe.sealing import LIBRARY, one_time_key
from ..module_utils._lethe.wireguard.errors import InvalidValue, MissingLibrary
from ..module_utils._lethe.wireguard.keys import PublicKey, fingerprint
from ..module_utils._module import Diff, Options, Outcome, run


def change_registration(options: Options, check: bool, *, hidden: bool) -> Outcome:
    """``hidden``: whether Ansible keeps the result to itself."""
    _refuse_contradictions(options, hidden)
    public_key = PublicKey.from_text(options["public_key"])
    successor = options["successor"]
    api = Api(options)
    if options["state"] == "revoked":
        changed = check or bool(api.post("/v1/keys/revoke", public_key=public_key.text)["changed"])
        return Outcome(changed, {}, _removal(public_key, changed))
    if options["state"] == "absent":
        return _delete(api, public_key, check)
    if successor is not None:
        return _rotate(api, options, public_key, PublicKey.from_text(successor, "successor"), check)
    return (_confirm if options["confirm"] else _register)(api, options, public_key, check)


def _refuse_contradictions(options: Options, hidden: bool) -> None:
    if options["confirm"] and options["successor"] is not None:
        raise InvalidValue(
            "confirm", "is given with successor", "confirm the successor, as public_key, when it is used"
        )
    if options["state"] != "present":
        for option in ("successor", "confirm", "return_preshared_key"):
            if options[option]:
                raise InvalidValue(option, "is for a key that is to be there", "leave it out, or use state: present")
    if options["return_preshared_key"] and not hidden:
        raise InvalidValue(
            "return_preshared_key", "would show the key in Ansible's output", "set no_log: true on the task"
        )


def _register(api: Api, options: Options, public_key: PublicKey, check: bool) -> Outcome:
    diff = Diff("", f"key {fingerprint(public_key)}: registered\n")
    if check:
        present = _registered(api).get(public_key)
        return _outcome(options, present, present is None, diff)
    answer = _agree(api, "", public_key, public_key=public_key.text)
    return _outcome(options, answer, answer["changed"], diff)


def _rotate(api: Api, options: Options, public_key: PublicKey, successor: PublicKey, check: bool) -> Outcome:
    leaving, coming = fingerprint(public_key), fingerprint(successor)
    diff = Diff(
        f"key {leaving}: registered\n",
        f"key {leaving}: leaves after the grace period\nkey {coming}: registered\n",
    )
    if not check:
        answer = _agree(api, "/rotate", successor, public_key=public_key.text, successor=successor.text)
        return _outcome(options, answer, answer["changed"], diff)
    registered = _registered(api)
    present = registered.get(successor)
    if present is None and public_key not in registered:
        raise RegistryRefused("key-unknown", "public_key is not registered, or expired, or was removed")
    return _outcome(options, present, present is None, diff)


def _confirm(api: Api, options: Options, public_key: PublicKey, check: bool) -> Outcome:
    diff = Diff("", f"key {fingerprint(public_key)}: confirmed, the one that it replaces is removed\n")
    if not check:
        answer = _agree(api, "/confirm", public_key, public_key=public_key.text)
        return _outcome(options, answer, answer["changed"], diff)
    present = _registered(api).get(public_key)
    if present is None:
        raise RegistryRefused("key-unknown", "public_key is not registered, or expired, or was removed")
    return _outcome(options, present, "replaces" in present, diff)


def _agree(api: Api, path: str, expected: PublicKey, **body: str) -> dict[str, Any]:
    """What the registry answers about the ``expected`` key, with its preshared key opened if that comes sealed."""
    own = one_time_key()
    if own is not None:
        body["one_time_key"] = own.public_text
    try:
        answer = api.post(f"/v1/registrations{path}", **body)
    except RegistryRefused as error:
        if error.slug == "one-time-key-needed" and own is None:
            raise MissingLibrary(LIBRARY, "open a preshared key") from None
        raise
    if own is None:
        return answer
    preshared_key = own.opened(answer, expected)
    return {**answer, "preshared_key": None if preshared_key is None else preshared_key.text}


def _delete(api: Api, public_key: PublicKey, check: bool) -> Outcome:
    if check:
        changed = public_key in _registered(api)
    else:
        changed = bool(api.post("/v1/registrations/delete", public_key=public_key.text)["changed"])
    return Outcome(changed, {}, _removal(public_key, changed))


def _removal(public_key: PublicKey, changed: bool) -> Diff:
    return Diff(f"key {fingerprint(public_key)}: registered\n" if changed else "", "")


def _registered(api: Api) -> dict[PublicKey, dict[str, Any]]:
    """The keys of the account."""
    found = api.get("/v1/registrations")["registrations"]
    return {PublicKey.from_text(each["public_key"]): each for each in found}


def _outcome(options: Options, answer: dict[str, Any] | None, changed: bool, diff: Diff) -> Outcome:
    registration = None
    if answer is not None:
        registration = {
            "allowed_ips": answer["allowed_ips"],
            "expires_on": answer.get("expires_on"),
            "leaves_in": answer.get("leaves_in"),
        }
        if options["return_preshared_key"]:
            registration["preshared_key"] = answer.get("preshared_key")
    return Outcome(changed, {"registration": registration}, diff if changed else Diff("", ""))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **API_SPEC,
            # no_log also keeps them out of the host's journal, to which Ansible writes the options of every module.
            "public_key": {"type": "str", "required": True, "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent", "revoked"], "default": "present"},
            "successor": {"type": "str", "no_log": True},
            "confirm": {"type": "bool", "default": False},
            "return_preshared_key": {"type": "bool", "default": False, "no_log": False},
        },
        supports_check_mode=True,
        **ONE_TOKEN,
    )
    run(module, lambda options, check: change_registration(options, check, hidden=module.no_log))


if __name__ == "__main__":
    main()
