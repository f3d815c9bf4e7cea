#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_release
short_description: Install the C(lethe) package and its libraries on a host
version_added: 0.1.0
description:
  - Puts the Python package of this collection, and the libraries it needs, in one place on the host.
    Units, the C(lethe) command and this collection's modules run from there, at one version.
  - The controller collects the libraries for the Python version and the architecture of the host,
    checked against the hashes of a lock, and sends them with the package as one archive.
    The host needs Python, and neither pip nor a package index.
  - A release is named by a digest of everything in it, is tried out before it is used, and is switched to in one step.
    A host that has the release already is asked one question and nothing is collected.
  - The role P(lethe.wireguard.runtime#role) uses this module.
options:
  root:
    description: Directory on the host for the releases and the link to the one in use.
    type: path
    default: /opt/lethe
  command:
    description: Path on the host of the link that makes the C(lethe) command known.
    type: path
    default: /usr/local/bin/lethe
  keep:
    description: How many releases to keep on the host, counting the one in use.
    type: int
    default: 2
  lock:
    description: Path on the controller of the pip requirements, with versions and hashes. Required in a play.
    type: path
  cache_dir:
    description: Directory on the controller for the archives. Required in a play.
    type: path
  wheels_dir:
    description: >-
      Directory on the controller with the wheels that O(lock) names, for controllers without a package index.
      With a wheel of pip in it, the controller needs no pip either.
    type: path
  digest:
    description: Set by the action plugin. The release to install; without it the host is only looked at.
    type: str
  archive:
    description: Set by the action plugin. Path on the host of the archive to unpack.
    type: path
  checksum:
    description: Set by the action plugin. The SHA-256 of O(archive).
    type: str
attributes:
  check_mode:
    description: Can run in check mode and tell whether it would change anything.
    support: full
  diff_mode:
    description: Shows the release before and after.
    support: full
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: The host runs this version of Lethe
  lethe.wireguard.runtime_release:
    lock: "{{ role_path }}/files/requirements.txt"
    cache_dir: ~/.cache/lethe
"""

RETURN = r"""
release:
  description: Digest of the release that is in use afterwards; in check mode, that would be.
  returned: success
  type: str
  sample: 3f5a0c41d2b69e87
available:
  description: Whether the release is on the host now. Only in check mode can it be missing.
  returned: success
  type: bool
removed:
  description: Digests of the releases that were removed.
  returned: when something was installed
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._release import ReleaseError, Releases, describe, install


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/lethe"},
            "command": {"type": "path", "default": "/usr/local/bin/lethe"},
            "keep": {"type": "int", "default": 2},
            "lock": {"type": "path"},
            "cache_dir": {"type": "path"},
            "wheels_dir": {"type": "path"},
            "digest": {"type": "str"},
            "archive": {"type": "path"},
            "checksum": {"type": "str", "no_log": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    releases = Releases(Path(options["root"]), Path(options["command"]))
    if options["digest"] is None:
        module.exit_json(changed=False, host=describe(releases))
    archive = Path(options["archive"]) if options["archive"] else None
    try:
        module.exit_json(**install(releases, options["digest"], archive, options["checksum"], options["keep"]))
    except (ReleaseError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
