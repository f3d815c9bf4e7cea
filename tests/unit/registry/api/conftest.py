# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from registry.fixtures import NewDatabase
from registry.site import Serve, Site, served
from registry.support import Clock


@pytest.fixture
def serve(new_database: NewDatabase) -> Iterator[Serve]:
    """Serves a registry over a new database; takes settings by name."""
    with ExitStack() as stack:

        def start(clock: Clock | None = None, **settings: Any) -> Site:
            return stack.enter_context(served(new_database(), clock or Clock(), **settings))

        yield start


@pytest.fixture
def site(serve: Serve) -> Site:
    """A registry with the default settings, served."""
    return serve()
