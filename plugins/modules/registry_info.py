#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_info
short_description: Look at a registry
version_added: 0.1.0
description:
  - Returns a registry in numbers, and what its gateways have applied. It names neither an account nor a key nor an
    address.
  - It takes an operator's credential. Without one, it only looks whether the registry is ready, and fails if not.
extends_documentation_fragment:
  - lethe.wireguard._attributes.info
  - lethe.wireguard._registry
options: {}
seealso:
  - module: lethe.wireguard.account
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: The registry serves
  lethe.wireguard.registry_info:
    url: https://registry.example:8443
  delegate_to: localhost

- name: How full are its ranges
  lethe.wireguard.registry_info:
    url: https://registry.example:8443
    token_file: ~/.config/lethe/registry.example-operator.token
  delegate_to: localhost
  register: found
  failed_when: found.registry.pools.ipv4.used_ratio > 0.8
"""

RETURN = r"""
gateways:
  description:
    - All gateways that have a credential, and what each reported last, as C(/v1/gateways) of the API describes them.
    - Only with a credential is there anything in it.
  returned: success
  type: list
  elements: dict
  contains:
    label:
      description: What people call its credential.
      type: str
    age:
      description: How many seconds ago it reported. V(null) if it never has.
      type: int
    version:
      description: Its version of Lethe.
      type: str
    interfaces:
      description:
        - C(interface), C(epoch) and C(revision) that its kernel has, C(peers), C(oldest_endpoint) in seconds, C(drift).
        - C(behind) is how many changes it lacks, or V(null) if its epoch is not the registry's.
      type: list
      elements: dict
  sample:
    - label: gw1
      age: 12
      version: 0.1.0
      interfaces:
        - interface: wg0
          epoch: 6b03aec4d92ae61abb4c9be94de14b0d
          revision: 1047
          behind: 0
          peers: 700
          oldest_endpoint: 171.3
          drift: 0
registry:
  description: The registry, as C(/v1/status) of its API describes it. Only with a credential is there anything in it.
  returned: success
  type: dict
  contains:
    epoch:
      description: The id of its history. A later one after a restore.
      type: str
    revision:
      description: The number of the latest change.
      type: int
    horizon:
      description: The latest change that is not retained any more.
      type: int
    registrations:
      description: How many keys are registered.
      type: int
    accounts:
      description: How many accounts there are in each state.
      type: dict
    credentials:
      description: How many credentials there are of each kind.
      type: dict
    resting:
      description: How many released addresses cannot be drawn yet.
      type: int
    waiting_changes:
      description: How many changes wait for their revision.
      type: int
    pools:
      description: For V(ipv4) and V(ipv6) the addresses. C(size), C(used), C(free) and C(used_ratio), from 0 to 1.
      type: dict
  sample:
    epoch: 6b03aec4d92ae61abb4c9be94de14b0d
    revision: 1047
    horizon: 12
    registrations: 700
    accounts: {active: 650, suspended: 3, closed: 1}
    credentials: {client: 650, operator: 1, gateway: 1}
    resting: 41
    waiting_changes: 0
    pools:
      ipv4: {size: 16777214, used: 741, free: 16776473, used_ratio: 0.0000441}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import API_SPEC, Api
from ..module_utils._module import Options, Outcome, run


def look(options: Options, check: bool) -> Outcome:
    del check
    api = Api(options)
    api.get("/readyz")
    has_credential = options["token"] is not None or options["token_file"] is not None
    return Outcome(
        False,
        {
            "registry": api.get("/v1/status") if has_credential else {},
            "gateways": api.get("/v1/gateways")["gateways"] if has_credential else [],
        },
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=API_SPEC, mutually_exclusive=[("token", "token_file")], supports_check_mode=True
    )
    run(module, look)


if __name__ == "__main__":
    main()
