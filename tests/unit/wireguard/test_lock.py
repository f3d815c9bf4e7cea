# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock between Lethe's writers, with real processes."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import (
    Busy,
    LetheError,
    PermissionMissing,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.lock import exclusive

# Not fork: pytest-xdist's worker has threads.
processes = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lethe" / "lock"


def hold(path: Path, held: Event, done: Event) -> None:
    with exclusive("wg0", path):
        held.set()
        done.wait(60)


def increment(path: Path, number: Path, times: int) -> None:
    for _ in range(times):
        with exclusive("wg0", path):
            value = int(number.read_text(encoding="ascii"))
            time.sleep(0.001)
            number.write_text(str(value + 1), encoding="ascii")


def test_two_processes_never_hold_it_together(path: Path, tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0", encoding="ascii")
    workers = [processes.Process(target=increment, args=(path, number, 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert number.read_text(encoding="ascii") == "60"


def test_who_waits_too_long_is_told_so_and_gets_it_when_it_is_free(path: Path) -> None:
    held, done = processes.Event(), processes.Event()
    holder = processes.Process(target=hold, args=(path, held, done))
    holder.start()
    try:
        assert held.wait(60)
        begin = time.monotonic()
        with pytest.raises(Busy, match="changing wg0 for more than 0 s"), exclusive("wg0", path, wait=0.2):
            pytest.fail("it was held")
        assert time.monotonic() - begin >= 0.2
    finally:
        done.set()
        holder.join(60)
    with exclusive("wg0", path, wait=0):
        pass


def test_the_death_of_its_holder_frees_it(path: Path) -> None:
    held, done = processes.Event(), processes.Event()
    holder = processes.Process(target=hold, args=(path, held, done))
    holder.start()
    assert held.wait(60)
    holder.kill()
    with exclusive("wg0", path, wait=20):
        pass
    holder.join(60)


def test_an_error_inside_frees_it(path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive("wg0", path):
        raise RuntimeError
    with exclusive("wg0", path, wait=0):
        pass


def test_one_lock_serves_all_interfaces(path: Path) -> None:
    with exclusive("wg0", path), pytest.raises(Busy), exclusive("wg1", path, wait=0):
        pytest.fail("it was held")


def test_others_cannot_hold_it_up(path: Path) -> None:
    """Who can open the file could lock it for ever."""
    before = os.umask(0)
    try:
        with exclusive("wg0", path):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO == 0


def test_a_link_that_somebody_put_there_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    target = tmp_path / "target"
    path.symlink_to(target)
    with pytest.raises(LetheError, match=str(path)), exclusive("wg0", path):
        pytest.fail("it was followed")
    assert not target.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_without_permission_the_error_says_which(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    path.touch(mode=0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionMissing, match="take the lock"), exclusive("wg0", path):
            pytest.fail("it was opened")
    finally:
        os.seteuid(0)
