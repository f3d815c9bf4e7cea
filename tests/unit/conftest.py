# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

from hypothesis import settings

# Machines that run tests are slow at times; that is no fault of the code. In CI the examples are always the same, so
# that a failure can be seen again.
settings.register_profile("lethe", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("lethe")
