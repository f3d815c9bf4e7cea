# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller collects for a host. pip is a fake here; the fleet test runs the real one."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ansible_collections.lethe.wireguard.plugins.plugin_utils import _bundle
from ansible_collections.lethe.wireguard.plugins.plugin_utils._bundle import BundleError, Target, bundle, digest

HERE = Target(f"{sys.version_info[0]}.{sys.version_info[1]}", "x86_64")
RELEASE = Path("/opt/lethe/releases/0")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    directory = tmp_path / "_lethe"
    (directory / "part").mkdir(parents=True)
    (directory / "cli.py").write_text("def main():\n    return 0\n")
    (directory / "part/values.py").write_text("ONE = 1\n")
    return directory


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text("thing==1 --hash=sha256:00\n")
    return path


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Records its command lines, and installs a library."""
    calls = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        library = Path(command[command.index("--target") + 1]) / "thing"
        library.mkdir(parents=True)
        (library / "__init__.py").write_text("")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(_bundle.subprocess, "run", run)
    return calls


def test_the_digest_changes_with_everything_that_a_release_is_made_of(package: Path, lock: Path) -> None:
    digests = [digest(package, lock, HERE), digest(package, lock, Target("3.99", "x86_64"))]
    digests.append(digest(package, lock, Target(HERE.python, "aarch64")))
    (package / "part/values.py").write_text("ONE = 2\n")
    digests.append(digest(package, lock, HERE))
    (package / "part/values.py").rename(package / "part/other.py")
    digests.append(digest(package, lock, HERE))
    lock.write_text("thing==2 --hash=sha256:00\n")
    digests.append(digest(package, lock, HERE))

    assert len(set(digests)) == len(digests)


def test_byte_code_in_the_checkout_does_not_matter(package: Path, lock: Path) -> None:
    before = digest(package, lock, HERE)
    (package / "__pycache__").mkdir()
    (package / "__pycache__/cli.pyc").write_bytes(b"anything")

    assert digest(package, lock, HERE) == before


@pytest.mark.usefixtures("pip")
def test_the_archive_holds_the_package_and_the_libraries_for_root(package: Path, lock: Path, tmp_path: Path) -> None:
    archive = bundle(package, lock, HERE, RELEASE, tmp_path / "cache")

    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    names = {member.name for member in members}
    assert {"lib/lethe/cli.py", "lib/lethe/part/values.py", "lib/thing/__init__.py"} <= names
    assert any(name.startswith("lib/lethe/__pycache__/cli.") for name in names)
    assert {(member.uid, member.uname) for member in members} == {(0, "root")}


@pytest.mark.usefixtures("pip")
def test_byte_code_for_another_python_is_left_to_the_host(package: Path, lock: Path, tmp_path: Path) -> None:
    archive = bundle(package, lock, Target("3.99", "x86_64"), RELEASE, tmp_path / "cache")

    with tarfile.open(archive) as tar:
        assert not [name for name in tar.getnames() if name.endswith(".pyc")]


def test_a_bundle_is_built_once(package: Path, lock: Path, tmp_path: Path, pip: list[list[str]]) -> None:
    first = bundle(package, lock, HERE, RELEASE, tmp_path / "cache")

    assert bundle(package, lock, HERE, RELEASE, tmp_path / "cache") == first
    assert len(pip) == 1


def test_pip_chooses_for_the_target_and_checks_hashes(
    package: Path, lock: Path, tmp_path: Path, pip: list[list[str]]
) -> None:
    bundle(package, lock, Target("3.12", "aarch64"), RELEASE, tmp_path / "cache")

    (command,) = pip
    assert {"--require-hashes", "--only-binary=:all:", "manylinux_2_17_aarch64", "cp312", "abi3"} <= set(command)
    assert "manylinux_2_36_aarch64" not in command  # Ubuntu 22.04 could not load it


def test_wheels_from_a_directory_need_neither_an_index_nor_pip(
    package: Path, lock: Path, tmp_path: Path, pip: list[list[str]]
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "pip-26.3-py3-none-any.whl").touch()

    bundle(package, lock, HERE, RELEASE, tmp_path / "cache", wheels)

    (command,) = pip
    assert command[1] == str(wheels / "pip-26.3-py3-none-any.whl/pip")
    assert "--no-index" in command


def test_an_unknown_architecture_is_named(package: Path, lock: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no runtime for riscv64 machines: aarch64 and x86_64 are supported"):
        bundle(package, lock, Target("3.12", "riscv64"), RELEASE, tmp_path / "cache")


def test_a_controller_without_pip_is_told_what_to_do(
    package: Path, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "python3: No module named pip\n")

    monkeypatch.setattr(_bundle.subprocess, "run", run)

    with pytest.raises(BundleError, match="runtime_wheels_dir"):
        bundle(package, lock, HERE, RELEASE, tmp_path / "cache")

    assert not list((tmp_path / "cache").glob("*.tar.gz"))


@pytest.mark.usefixtures("pip")
def test_old_archives_do_not_pile_up(package: Path, lock: Path, tmp_path: Path) -> None:
    for number in range(10):
        (package / "cli.py").write_text(f"N = {number}\n")
        newest = bundle(package, lock, HERE, RELEASE, tmp_path / "cache")

    archives = list((tmp_path / "cache").glob("*.tar.gz"))
    assert len(archives) == 8
    assert newest in archives
