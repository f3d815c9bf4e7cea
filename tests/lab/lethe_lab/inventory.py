# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running fleet as an Ansible inventory (the JSON that inventory scripts print)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from .hosts import HOSTS
from .image import Image
from .machine import ssh_options


def inventory(image: Image, ports: Mapping[str, int]) -> dict[str, Any]:
    """Groups and host variables; role variables belong in group_vars beside the inventory, not here.

    Every group is there; hosts are those that have a port.
    """
    groups: dict[str, Any] = {host.group: {"hosts": []} for host in HOSTS}
    hostvars = {}
    for host in (host for host in HOSTS if host.name in ports):
        groups[host.group]["hosts"].append(host.name)
        hostvars[host.name] = {
            "ansible_host": "127.0.0.1",
            "ansible_port": ports[host.name],
            "lab_wan_ipv4": host.wan_ipv4,
            "lab_wan_ipv6": host.wan_ipv6,
        }
    common = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(image.identity),
        "ansible_ssh_common_args": shlex.join(ssh_options(image)),
    }
    return {"all": {"children": sorted(groups), "vars": common}, **groups, "_meta": {"hostvars": hostvars}}
