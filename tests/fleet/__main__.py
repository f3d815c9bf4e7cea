# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the lab's clients and the peers file that site.yml sends: `python -m fleet` with tests/ in PYTHONPATH."""

from __future__ import annotations

from .fleet import Fleet

if __name__ == "__main__":
    fleet = Fleet.in_lab()
    for client in (fleet.alice, fleet.bob):
        client.create()
    fleet.write_peers([fleet.alice, fleet.bob])
