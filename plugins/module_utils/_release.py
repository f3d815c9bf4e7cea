# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases of the runtime on a host: unpack one, try it, switch to it, remove the old ones.

C(ROOT/releases/DIGEST/) holds C(lib) (the package and the libraries), C(venv) (an interpreter that imports from it)
and C(bin/lethe). C(ROOT/current) is a symbolic link to the one in use; it is replaced in one step, and only by a
release that was seen to run. Runs before there is anything but the standard library on the host.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import typing as t
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = """\
#!{python} -I
import sys

from lethe.cli import main

sys.exit(main())
"""


class ReleaseError(Exception):
    """A release cannot be installed; the one in use was left alone."""


@contextmanager
def readable_by_all() -> t.Iterator[None]:
    """The C(lethe) user runs what root installs, also where root's umask is strict."""
    previous = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(previous)


def run(command: list[str]) -> None:
    """Runs what a new release consists of.

    @raise ReleaseError: it fails
    """
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        detail = (result.stderr or result.stdout).strip()
        raise ReleaseError(
            f"the new release does not run on this host, the one in use was left alone: {' '.join(command)}: {detail}"
        )


def replace_link(link: Path, target: str) -> bool:
    """Points a symbolic link to C(target) in one step. Returns whether that changed anything."""
    if link.is_symlink() and os.readlink(link) == target:
        return False
    if link.is_dir() and not link.is_symlink():
        raise ReleaseError(f"{link} is a directory and not a link of this role: move it away")
    link.parent.mkdir(parents=True, exist_ok=True)
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    os.replace(new, link)
    return True


@dataclass(frozen=True)
class Releases:
    """The releases below one directory, and the command that people and units call."""

    root: Path
    command: Path

    @property
    def current(self) -> Path:
        return self.root / "current"

    def path(self, digest: str) -> Path:
        return self.root / "releases" / digest

    def is_complete(self, digest: str) -> bool:
        return (self.path(digest) / "complete").exists()

    def complete(self) -> list[str]:
        return sorted(marker.parent.name for marker in self.root.glob("releases/*/complete"))

    def in_use(self) -> str | None:
        """The digest of the release that C(current) and the command lead to; C(None) if anything of it is missing."""
        if not self.current.is_symlink() or not self.command.is_symlink():
            return None
        digest = Path(os.readlink(self.current)).name
        leads_here = os.readlink(self.command) == str(self.current / "bin" / "lethe")
        return digest if leads_here and self.is_complete(digest) else None

    def unpack(self, digest: str, archive: Path, checksum: str) -> None:
        """Makes a release from a bundle.

        @raise ReleaseError: the archive is damaged, or the release does not run here
        """
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != checksum:
            raise ReleaseError(
                f"{archive} was damaged on its way: its SHA-256 is {found} instead of {checksum}; run the play again"
            )
        release = self.path(digest)
        if release.exists():  # an earlier attempt that did not get to its end
            shutil.rmtree(release)
        release.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            # Pythons before 3.11.4 have no filters, those from 3.12 want one to be named.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            tar.extractall(release)  # noqa: S202 - our own archive, with the checksum that the controller gave
        lib = release / "lib"
        compileall.compile_dir(lib, quiet=2)  # only what the controller's Python could not compile for this one

        environment = release / "venv"
        # Not in this process: whoever started it may have renamed it (Mitogen does), and venv goes by that name.
        run([sys.executable, "-m", "venv", "--symlinks", "--without-pip", str(environment)])
        (site_packages,) = environment.glob("lib/python3.*/site-packages")
        (site_packages / "lethe.pth").write_text(f"{lib}\n")

        launcher = release / "bin" / "lethe"
        launcher.parent.mkdir()
        launcher.write_text(LAUNCHER.format(python=environment / "bin" / "python"))
        launcher.chmod(0o755)
        run([str(launcher), "--version"])

        os.sync()  # a release that is called complete is so after a power cut, too
        (release / "complete").touch()

    def use(self, digest: str) -> bool:
        """Switches to a release. Returns whether that changed anything."""
        switched = replace_link(self.current, f"releases/{digest}")
        linked = replace_link(self.command, str(self.current / "bin" / "lethe"))
        return switched or linked

    def prune(self, keep: int) -> list[str]:
        """Removes all but the C(keep) newest releases, never the one in use. Returns the digests of those removed."""
        in_use = self.in_use()
        others = [path for path in (self.root / "releases").iterdir() if path.name != in_use]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        surplus = others[max(keep - 1, 0) :]
        for path in surplus:
            shutil.rmtree(path)
        return [path.name for path in surplus]


def describe(releases: Releases) -> dict[str, t.Any]:
    """What the controller has to know to decide what this host lacks."""
    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "machine": platform.machine(),
        "in_use": releases.in_use(),
        "complete": releases.complete(),
    }


def install(releases: Releases, digest: str, archive: Path | None, checksum: str | None, keep: int) -> dict[str, t.Any]:
    """Unpacks the release if it is not there, switches to it and removes old ones.

    @raise ReleaseError: it cannot be installed or does not run
    """
    before = releases.in_use()
    with readable_by_all():
        if not releases.is_complete(digest):
            if archive is None or checksum is None:
                raise ReleaseError(f"release {digest} is not on this host and no archive was given")
            releases.unpack(digest, archive, checksum)
        changed = releases.use(digest)
    removed = releases.prune(keep)
    return {"changed": changed or bool(removed), "before": before, "in_use": releases.in_use(), "removed": removed}
