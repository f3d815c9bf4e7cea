# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory on the controller that does not outlive the playbook."""

from __future__ import annotations

DOCUMENTATION = r"""
name: run_directory
short_description: A directory on the controller that does not outlive the playbook
version_added: 0.1.0
description:
  - Returns the directory of the running C(ansible-playbook) for what is on its way through the controller.
  - It is for its owner alone. Ansible removes it when it ends, however it ends; only one that is killed leaves it
    behind.
  - A task that cleans up cannot promise that, because no task runs any more once every host has failed.
options: {}
notes:
  - The directory is in E(ANSIBLE_LOCAL_TEMP), usually C(~/.ansible/tmp). Set that to C(/dev/shm) to keep what is in it
    off the disk.
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: Something private is brought to the controller
  ansible.builtin.fetch:
    src: /run/private
    dest: "{{ lookup('lethe.wireguard.run_directory') }}/private"
    flat: true
"""

RETURN = r"""
_raw:
  description: The path of the directory.
  type: list
  elements: path
"""

from typing import Any

from ansible import constants
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        del terms, variables, kwargs
        return [constants.DEFAULT_LOCAL_TMP]
