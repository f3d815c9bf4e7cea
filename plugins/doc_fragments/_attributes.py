# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules can do, in the words of ansible-doc."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/lethe.wireguard.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - lethe.wireguard.all
  check_mode:
    description: Can run in check mode and tell what it would change, without changing it.
    support: full
  diff_mode:
    description: Shows what changes in diff mode, or in check mode what would change.
    support: full
    details:
      - >-
        A diff names a key by a fingerprint of eight digits and shows no address and no endpoint of a peer.
        Whoever has a public key can compute its fingerprint on a gateway with C(lethe fingerprint).
  platform:
    description: The operating systems it works on.
    support: full
    platforms: linux
"""

    # For modules that only look.
    INFO = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/lethe.wireguard.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - lethe.wireguard.all
  check_mode:
    description: Can run in check mode.
    support: full
    details:
      - It changes nothing in any mode.
  diff_mode:
    description: Shows what changes in diff mode.
    support: N/A
  platform:
    description: The operating systems it works on.
    support: full
    platforms: linux
"""
