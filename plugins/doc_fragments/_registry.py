# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module that asks a registry takes and needs."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where the registry's API is, as it is reached from where the module runs.
      - It has to be C(https) unless the host in it is a loopback address or C(localhost).
    type: str
    required: true
  token:
    description: The credential. Mutually exclusive with O(token_file).
    type: str
  token_file:
    description: A file where the module runs with the credential.
    type: path
  ca_path:
    description:
      - A file where the module runs with the certificates, in PEM, that the registry's has to be signed by.
        A self-signed certificate is its own.
      - Without it, the system's.
    type: path
  validate_certs:
    description: Whether the registry has to prove that it is the one that is named in O(url).
    type: bool
    default: true
  timeout:
    description: Seconds that the registry may take to answer.
    type: int
    default: 30
requirements:
  - Python 3.10 or later where it runs, and no library beside it
notes:
  - It runs on any machine that reaches the registry. That is the registry's own host, or the controller with
    C(delegate_to=localhost).
  - No message, no diff and no journal has a token, a key, an address or an account.
"""
