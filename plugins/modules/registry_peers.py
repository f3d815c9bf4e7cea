#!/usr/bin/python
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_peers
short_description: Fetch the peers of all gateways from a registry
version_added: 0.1.0
description:
  - Writes all peers that gateways should have into a file that M(lethe.wireguard.peers) reads.
  - It takes a gateway's credential. There is no account in what it fetches.
  - An answer that is cut off leaves the file as it was.
extends_documentation_fragment:
  - lethe.wireguard._attributes
  - lethe.wireguard._registry
attributes:
  diff_mode:
    description: Shows what changes in diff mode.
    support: none
    details:
      - What changes are keys and addresses.
options:
  path:
    description:
      - The file to write, readable for its owner alone. It holds keys and addresses, and preshared keys where the
        fleet has them. Let it be on a file system in memory, and remove it afterwards.
    type: path
    required: true
seealso:
  - module: lethe.wireguard.peers
author:
  - the Lethe contributors (@lethe)
"""

EXAMPLES = r"""
- name: The peers are fetched
  lethe.wireguard.registry_peers:
    url: https://registry.example:8443
    token_file: ~/.config/lethe/registry.example-gateway.token
    path: /dev/shm/peers.jsonl
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
epoch:
  description: The random id of the registry's history. Another one after a restore.
  returned: success
  type: str
revision:
  description: The latest change that is in the file for certain.
  returned: success
  type: int
peers:
  description: How many peers there are.
  returned: success
  type: int
"""

import filecmp
import http.client
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import API_SPEC, ONE_TOKEN, Api, RegistryAway
from ..module_utils._lethe.wireguard.errors import InvalidValue
from ..module_utils._module import Options, Outcome, run

_CHUNK = 1 << 20  # bytes


class CutOff(RegistryAway):
    def __init__(self) -> None:
        super().__init__("the registry cut its answer off; run it again")


def fetch(options: Options, check: bool) -> Outcome:
    api = Api(options)
    with api.open("GET", "/v1/peers") as answer:
        return _write(api, answer, Path(options["path"]), check)


def _write(api: Api, answer: Any, path: Path, check: bool) -> Outcome:
    """Raises RegistryAway, CutOff, InvalidValue."""
    epoch, revision = answer.headers.get("Lethe-Epoch"), answer.headers.get("Lethe-Revision", "")
    length = answer.headers.get("Content-Length")  # bytes; not there where the last chunk tells the end
    if not epoch or not revision.isdigit() or (length is None and answer.headers.get("Transfer-Encoding") != "chunked"):
        raise RegistryAway("what answers is not a registry, or a proxy changes what it says; correct the url")
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    except OSError as error:
        raise InvalidValue("path", f"cannot be written: {error.strerror}", "create its directory first") from None
    try:
        with open(descriptor, "wb") as file:
            peers = _copy(api, answer, file)
            if length is not None and file.tell() != int(length):
                raise CutOff
        changed = not path.exists() or not filecmp.cmp(path, temporary, shallow=False)
        if changed and not check:
            os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return Outcome(changed, {"epoch": epoch, "revision": int(revision), "peers": peers})


def _copy(api: Api, answer: Any, file: Any) -> int:
    """Returns the number of lines. Raises RegistryAway, CutOff."""
    lines = 0
    try:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            lines += chunk.count(b"\n")
    except http.client.IncompleteRead:
        raise CutOff from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise api.away(error) from None
    return lines


def main() -> None:
    module = AnsibleModule(
        argument_spec={**API_SPEC, "path": {"type": "path", "required": True}}, supports_check_mode=True, **ONE_TOKEN
    )
    run(module, fetch)


if __name__ == "__main__":
    main()
