# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks behind interface addresses: where a registry finds addresses for the clients of gateways."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: tunnel_networks
short_description: The networks that interface addresses are in
version_added: 0.1.0
description:
  - Turns addresses with the length of their network, as gateways have them, into these networks, each once.
options:
  _input:
    description: Addresses such as V(10.64.0.1/10), IPv4 and IPv6 mixed.
    type: list
    elements: str
    required: true
  version:
    description: Return only networks of this version of IP.
    type: int
    choices: [4, 6]
positional: version
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
# => ["10.64.0.0/10"]
ranges: "{{ ['10.64.0.1/10', '10.64.0.2/10', 'fd00:6c65:7468::1/48'] | lethe.wireguard.tunnel_networks(4) }}"
"""

RETURN = r"""
_value:
  description: The networks, in the order in which they were found.
  type: list
  elements: str
"""


def tunnel_networks(addresses: Iterable[str], version: int | None = None) -> list[str]:
    try:
        networks = [ipaddress.ip_interface(str(address)).network for address in addresses]
    except ValueError as error:
        raise AnsibleFilterError(f"{error}: write addresses like 10.64.0.1/10") from None
    return list(dict.fromkeys(str(each) for each in networks if version in (None, each.version)))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"tunnel_networks": tunnel_networks}
