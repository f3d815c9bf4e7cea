# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module that works on an existing interface takes and needs."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  interface:
    description:
      - The WireGuard interface to work on, for example V(wg0). It has to exist.
    type: str
    required: true
    aliases: [name]
requirements:
  - a kernel with WireGuard (Linux 5.6 or later)
  - the capability CAP_NET_ADMIN, as a rule by C(become)
  - Python 3.10 or later on the host, and no library beside it
"""
