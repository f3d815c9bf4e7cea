#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: privacy_audit
short_description: Look for whatever on a gateway still knows a client
version_added: 0.1.0
description:
  - Looks at the kernel, the logs, the disk and the services of a host for whatever knows, or would come to know, where
    a client of its WireGuard interfaces is or was.
  - What it finds are findings, not a failure. The playbook C(lethe.wireguard.audit) makes one of them.
  - A check that could not look, because a tool or a permission is missing, is a finding as well.
  - A finding has numbers and places, and never an address, a key or a name of a client.
extends_documentation_fragment:
  - lethe.wireguard._attributes.info
options:
  interfaces:
    description:
      - The WireGuard interfaces that it is about. All of the host, if this is left out.
    type: list
    elements: str
  accept:
    description:
      - Checks whose findings are known and accepted. They are returned, and do not count.
    type: list
    elements: str
    default: []
  formats:
    description:
      - The reports to return beside the findings.
      - V(table) for people, V(json) and V(junit) for machines, V(prometheus) for node_exporter's textfile collector.
    type: list
    elements: str
    choices: [table, json, junit, prometheus]
    default: []
  label:
    description:
      - What reports call the host. Its own name, if this is left out.
    type: str
requirements:
  - root, by C(become)
  - Python 3.10 or later on the host, and no library beside it
  - the commands C(nft), C(systemctl) and C(dmesg)
notes:
  - Logs are read whole, which takes a moment for each GiB.
  - The command C(lethe audit) does the same on the host, and C(lethe audit --list) says what is checked.
seealso:
  - module: lethe.wireguard.purge
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: Look for what still knows a client
  lethe.wireguard.privacy_audit:
  register: audit

- name: Nothing that is bad does
  ansible.builtin.assert:
    that: audit.counts.high == 0

- name: The metrics of an audit, with a logging daemon that is meant to be there
  lethe.wireguard.privacy_audit:
    accept: [syslog]
    formats: [prometheus]
  register: audit

- name: They are where node_exporter reads them
  ansible.builtin.copy:
    content: "{{ audit.reports.prometheus }}"
    dest: /var/lib/prometheus/node-exporter/lethe_audit.prom
    mode: "0644"
"""

RETURN = r"""
findings:
  description: What was found, the worst first.
  returned: success
  type: list
  elements: dict
  contains:
    check:
      description: Which check it was.
      type: str
    severity:
      description:
        - V(high) if it knows where clients are or were, V(medium) if it knows some of it or is about to, V(low) if it
          could come to know.
      type: str
      choices: [high, medium, low]
    what:
      description: What is wrong.
      type: str
    evidence:
      description: What was seen; counts, ages and places.
      type: str
    fix:
      description: What to do.
      type: str
    looked:
      description: Whether the check could look. If not, it is not known what it would have found.
      type: bool
    accepted:
      description: Whether it is one of O(accept).
      type: bool
  sample:
    - check: swap
      severity: high
      what: memory is swapped out, and stays there after a power cut
      evidence: 1 areas
      fix: "swapoff --all; roll out the role gateway with gateway_disable_swap: true"
      looked: true
      accepted: false
counts:
  description: How many of them there are, without those that are accepted.
  returned: success
  type: dict
  contains:
    high:
      description: Findings of this severity.
      type: int
    medium:
      description: Findings of this severity.
      type: int
    low:
      description: Findings of this severity.
      type: int
  sample:
    high: 1
    medium: 0
    low: 0
checks:
  description: How many checks there were.
  returned: success
  type: int
  sample: 36
reports:
  description: The reports that O(formats) asks for, as texts.
  returned: success
  type: dict
  sample:
    table: "gateway1, 2026-11-23 12:00:00Z, 36 checks: no findings\n"
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._lethe.audit.finding import Severity
from ..module_utils._lethe.audit.host import Host
from ..module_utils._lethe.audit.report import FORMATS
from ..module_utils._lethe.audit.run import audit
from ..module_utils._module import Options, Outcome, run


def look(options: Options, _check: bool) -> Outcome:
    label = options["label"] or os.uname().nodename
    report = audit(Host(interfaces=options["interfaces"]), label, accepted=options["accept"])
    document = report.as_json()
    counting = [each.severity for each in report.counting(Severity.LOW)]
    return Outcome(
        False,
        {
            "findings": document["findings"],
            "counts": {severity.text: counting.count(severity) for severity in Severity},
            "checks": document["checks"],
            "reports": {name: FORMATS[name](report) for name in options["formats"]},
        },
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interfaces": {"type": "list", "elements": "str"},
            "accept": {"type": "list", "elements": "str", "default": []},
            "formats": {
                "type": "list",
                "elements": "str",
                "choices": ["table", "json", "junit", "prometheus"],
                "default": [],
            },
            "label": {"type": "str"},
        },
        supports_check_mode=True,
    )
    run(module, look)


if __name__ == "__main__":
    main()
