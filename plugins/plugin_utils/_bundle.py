# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds, on the controller, the archive that the runtime role unpacks on a host.

A bundle is one directory, C(lib), with the C(lethe) package and everything it imports, for one Python version and
one machine architecture. pip chooses the wheels for that target and checks them against the lock's hashes here, so
that a host needs neither pip nor a package index: it only unpacks. Where this controller's Python makes the
same byte code as the target's, the byte code is made here too, which is much quicker than on a small host.
"""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Part of every digest. Raise it when the same inputs shall make a different release.
LAYOUT = 1

# glibc of the oldest supported system, Ubuntu 22.04, is 2.35 (Debian 12: 2.36). Wheels for anything up to it load.
GLIBC_MINOR = 35
# The first glibc with a manylinux_2_* tag: PEP 600 (x86_64), and the first with aarch64 wheels.
GLIBC_MINOR_OLDEST = {"x86_64": 5, "aarch64": 17}


class BundleError(Exception):
    """The bundle cannot be built; the message says what to do."""


@dataclass(frozen=True)
class Target:
    """What a bundle is built for: the interpreter of a host."""

    python: str
    """Major and minor version, such as C(3.11)."""
    machine: str
    """As C(uname -m) gives it."""

    def pip_options(self) -> list[str]:
        """The options that make pip choose wheels for this target instead of the Python that it runs under."""
        if self.machine not in GLIBC_MINOR_OLDEST:
            known = " and ".join(sorted(GLIBC_MINOR_OLDEST))
            raise BundleError(f"there is no runtime for {self.machine} machines: {known} are supported")
        platforms = [
            f"manylinux_2_{minor}_{self.machine}"
            for minor in range(GLIBC_MINOR, GLIBC_MINOR_OLDEST[self.machine] - 1, -1)
        ]
        platforms.append(f"manylinux2014_{self.machine}")
        abi = "cp" + self.python.replace(".", "")
        options = ["--implementation", "cp", "--python-version", self.python]
        for tag in (abi, "abi3", "none"):
            options += ["--abi", tag]
        for platform in platforms:
            options += ["--platform", platform]
        return options

    def same_byte_code_as_controller(self) -> bool:
        """Byte code depends on the minor version only."""
        return self.python == f"{sys.version_info[0]}.{sys.version_info[1]}"


def package_files(package: Path) -> Iterator[Path]:
    """The package's source files, relative to it, in a fixed order."""
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package)
        if path.is_file() and "__pycache__" not in relative.parts:
            yield relative


def digest(package: Path, lock: Path, target: Target) -> str:
    """Names a release by everything that it is made of: 16 hexadecimal digits."""
    state = hashlib.sha256(f"{LAYOUT}\0{target.python}\0{target.machine}\0".encode())
    state.update(hashlib.sha256(lock.read_bytes()).digest())
    for relative in package_files(package):
        state.update(relative.as_posix().encode() + b"\0")
        state.update(hashlib.sha256((package / relative).read_bytes()).digest())
    return state.hexdigest()[:16]


def install_command(lock: Path, target: Target, destination: Path, wheels: Path | None) -> list[str]:
    """The pip command that puts the locked libraries into C(destination)."""
    pip = [sys.executable, "-m", "pip"]
    source = []
    if wheels is not None:
        source = ["--no-index", "--find-links", str(wheels)]
        bundled = sorted(wheels.glob("pip-*-py3-none-any.whl"))
        if bundled:  # runs from inside the wheel: such a controller needs no pip either
            pip = [sys.executable, str(bundled[-1] / "pip")]
    return [
        *pip, 'install', '--quiet', '--disable-pip-version-check', '--no-input',
        '--no-deps', '--only-binary=:all:', '--require-hashes', '--no-compile',
        '--requirement', str(lock), '--target', str(destination), *source, *target.pip_options(),
    ]  # fmt: skip


def install_libraries(lock: Path, target: Target, destination: Path, wheels: Path | None) -> None:
    result = subprocess.run(
        install_command(lock, target, destination, wheels), capture_output=True, text=True, check=False
    )
    if result.returncode == 0:
        return
    detail = (result.stderr or result.stdout).strip()
    if "No module named pip" in detail:
        raise BundleError(
            f"{sys.executable} on the controller has no pip, which collects the libraries for the hosts: install it"
            " (Debian: apt-get install python3-pip), or put the wheels and one of pip into a directory and set"
            " runtime_wheels_dir"
        )
    raise BundleError(
        f"pip could not collect the libraries of {lock} for Python {target.python} on {target.machine}: {detail}\n"
        "Without a package index on the controller, set runtime_wheels_dir to a directory that holds the wheels."
    )


def write_archive(directory: Path, archive: Path) -> None:
    """Packs the directory's content; owner and permissions are root's and fixed, whoever builds it."""

    def normalised(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        for entry in sorted(directory.iterdir()):
            tar.add(entry, entry.name, filter=normalised)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Ansible's forks come here together: one builds, the others wait and find the result."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_old_archives(cache: Path, keep: int = 8) -> None:
    """Every change of the package makes a new archive for each target; old ones are of no use."""
    archives = sorted(cache.glob("runtime-*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for archive in archives[keep:]:
        archive.unlink(missing_ok=True)
        archive.with_name(archive.name.replace(".tar.gz", ".lock")).unlink(missing_ok=True)


def bundle(package: Path, lock: Path, target: Target, release: Path, cache: Path, wheels: Path | None = None) -> Path:
    """The path of the archive for this target, built if it is not in the cache.

    C(release) is the directory on the host that it will be unpacked to; it ends up in the byte code, for tracebacks.

    @raise BundleError: the libraries cannot be collected
    """
    name = digest(package, lock, target)
    archive = cache / f"runtime-{name}.tar.gz"
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / f"runtime-{name}.lock"):
        if archive.exists():
            return archive
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as scratch:
            content = Path(scratch) / "content"
            lib = content / "lib"
            install_libraries(lock, target, lib, wheels)
            shutil.rmtree(lib / "bin", ignore_errors=True)  # scripts of the libraries: nobody runs them
            for relative in package_files(package):
                copy = lib / "lethe" / relative
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(package / relative, copy)
            if target.same_byte_code_as_controller():
                compileall.compile_dir(lib, quiet=2, workers=0, stripdir=str(lib), prependdir=str(release / "lib"))
            unfinished = Path(scratch) / archive.name
            write_archive(content, unfinished)
            os.replace(unfinished, archive)
    forget_old_archives(cache)
    return archive
