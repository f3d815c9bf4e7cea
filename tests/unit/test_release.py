# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime's releases on a host, with archives as the controller builds them."""

from __future__ import annotations

import hashlib
import sys
import tarfile
from pathlib import Path

import pytest

from ansible_collections.lethe.wireguard.plugins.module_utils._release import (
    ReleaseError,
    Releases,
    describe,
    install,
)

WORKS = "def main():\n    print('lethe 1')\n    return 0\n"
FAILS = "def main():\n    raise RuntimeError('no good here')\n"


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "opt", tmp_path / "bin/lethe")


def archive_of(tmp_path: Path, cli: str) -> tuple[Path, str]:
    package = tmp_path / "content/lib/lethe"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(cli)
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "content/lib", "lib")
    return archive, hashlib.sha256(archive.read_bytes()).hexdigest()


def test_a_fresh_host_has_no_release(releases: Releases) -> None:
    assert describe(releases)["in_use"] is None
    assert describe(releases)["complete"] == []


def test_a_release_is_unpacked_tried_out_and_used(releases: Releases, tmp_path: Path) -> None:
    result = install(releases, "aaaa", *archive_of(tmp_path, WORKS), keep=2)

    assert result == {"changed": True, "before": None, "in_use": "aaaa", "removed": []}
    assert releases.command.resolve() == releases.path("aaaa") / "bin/lethe"


def test_it_is_installed_by_a_process_that_has_another_name(
    releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Mitogen's have, by which Python's venv would look for the interpreter."""
    monkeypatch.setattr(sys, "_base_executable", f"{sys.executable}(mitogen:root@controller:1)")

    assert install(releases, "aaaa", *archive_of(tmp_path, WORKS), keep=2)["in_use"] == "aaaa"


def test_installing_again_changes_nothing_and_needs_no_archive(releases: Releases, tmp_path: Path) -> None:
    install(releases, "aaaa", *archive_of(tmp_path, WORKS), keep=2)

    assert install(releases, "aaaa", None, None, keep=2)["changed"] is False


def test_a_release_that_does_not_run_is_not_used(releases: Releases, tmp_path: Path) -> None:
    install(releases, "aaaa", *archive_of(tmp_path, WORKS), keep=2)

    with pytest.raises(ReleaseError, match="no good here"):
        install(releases, "bbbb", *archive_of(tmp_path, FAILS), keep=2)

    assert releases.in_use() == "aaaa"
    assert releases.complete() == ["aaaa"]


def test_a_half_unpacked_release_is_made_anew(releases: Releases, tmp_path: Path) -> None:
    (releases.path("aaaa") / "lib").mkdir(parents=True)

    assert install(releases, "aaaa", *archive_of(tmp_path, WORKS), keep=2)["in_use"] == "aaaa"


def test_a_damaged_archive_is_refused(releases: Releases, tmp_path: Path) -> None:
    archive, _ = archive_of(tmp_path, WORKS)

    with pytest.raises(ReleaseError, match="damaged"):
        install(releases, "aaaa", archive, "0" * 64, keep=2)

    assert releases.in_use() is None


def test_the_newest_releases_and_the_one_in_use_are_kept(releases: Releases, tmp_path: Path) -> None:
    for digest in ("aaaa", "bbbb", "cccc"):
        result = install(releases, digest, *archive_of(tmp_path, WORKS), keep=2)

    assert result["removed"] == ["aaaa"]
    assert releases.complete() == ["bbbb", "cccc"]


def test_going_back_to_a_kept_release_needs_no_archive(releases: Releases, tmp_path: Path) -> None:
    for digest in ("aaaa", "bbbb"):
        install(releases, digest, *archive_of(tmp_path, WORKS), keep=2)

    assert install(releases, "aaaa", None, None, keep=2)["in_use"] == "aaaa"


def test_a_directory_in_the_place_of_the_command_is_left_alone(releases: Releases, tmp_path: Path) -> None:
    releases.command.mkdir(parents=True)

    with pytest.raises(ReleaseError, match="move it away"):
        install(releases, "aaaa", *archive_of(tmp_path, WORKS), keep=2)

    assert releases.command.is_dir()
