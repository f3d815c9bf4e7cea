# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from registry.fixtures import MakeRegistry, NewDatabase
from registry.support import Registry, key, leading

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.feed.watch import watching


def waited(registry: Registry, seconds: float) -> float:
    """How long a wait of so many seconds lasts during which something is committed."""
    with leading(registry), watching(registry.store.engine) as watch:
        commit = threading.Timer(0.2, registry.register, ("alice", key(1)))
        begun = time.monotonic()
        commit.start()
        watch.wait(seconds)
        lasted = time.monotonic() - begun
        commit.join()
        return lasted


def test_a_commit_ends_a_wait(registry: Registry) -> None:
    registry.create("alice")
    assert 0.1 < waited(registry, 60) < 30


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_database_may_be_a_link(make_registry: MakeRegistry, new_database: NewDatabase, tmp_path: Path) -> None:
    """As where it was moved to a larger disk."""
    (tmp_path / "link").symlink_to(new_database().removeprefix("sqlite:///"))
    registry = make_registry(f"sqlite:///{tmp_path}/link")
    registry.create("alice")
    assert 0.1 < waited(registry, 60) < 30


def test_a_wait_ends_where_nothing_is_told(registry: Registry) -> None:
    with watching(registry.store.engine) as watch:
        begun = time.monotonic()
        watch.wait(0.3)
        assert 0.2 < time.monotonic() - begun < 30


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_commit_that_cannot_be_told_is_made_all_the_same(registry: Registry, tmp_path: Path) -> None:
    registry.create("alice")
    registry.store._log = f"{tmp_path}/is-not-there"  # type: ignore[attr-defined]
    assert 0.9 < waited(registry, 1) < 30
    assert set(registry.exported()) == {key(1)}
