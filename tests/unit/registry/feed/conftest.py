# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from registry.feeding import Feed, FeedSite, fed, write_key
from registry.support import Registry


@pytest.fixture
def signing_key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "feed.key")


@pytest.fixture
def serve(registry: Registry, signing_key: Path) -> Iterator[Feed]:
    """Serves the feed of the registry; takes settings by name."""
    with ExitStack() as stack:

        def start(**settings: Any) -> FeedSite:
            # Heartbeats come where a test asks for them, and not among the changes that it waits for.
            return stack.enter_context(fed(registry, signing_key, **{"heartbeat": 60, **settings}))

        yield start


@pytest.fixture
def site(serve: Feed) -> FeedSite:
    """With the default settings."""
    return serve()
