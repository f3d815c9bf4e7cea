# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian kernels, downloaded and unpacked into the cache; nothing is installed on the host."""

from __future__ import annotations

import lzma
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .cache import built, digest_of
from .commands import require, run
from .errors import LabError

# The payload of a compressed kernel starts with its compressor's magic number (scripts/extract-vmlinux
# in the kernel source). Debian 12 uses LZ4's legacy frame and XZ.
_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_XZ = b"\xfd7zXZ\x00"


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: root holds boot/, lib/modules/VERSION and vmlinux (the uncompressed program)."""

    version: str
    root: Path

    @property
    def vmlinux(self) -> Path:
        return self.root / "vmlinux"

    @property
    def modules(self) -> Path:
        return self.root / "lib" / "modules" / self.version

    def modules_for(self, *names: str) -> list[Path]:
        """The files of these modules and of all they depend on, in the order to load them."""
        output = run("modprobe", "-d", self.root, "-S", self.version, "--show-depends", "-a", *names)
        files = [line.split()[1] for line in output.splitlines() if line.startswith("insmod ")]
        return [Path(file) for file in dict.fromkeys(files)]


def current_kernel(records: str) -> tuple[str, str] | None:
    """The versioned package and its version that a kernel metapackage stands for, from `apt-cache show`.

    apt prints its preferred candidate first.
    """
    found = re.search(r"^Depends: (linux-image-\d\S+) \(= ([^)]+)\)", records, re.MULTILINE)
    return (found[1], found[2]) if found else None


def _look_up(metapackage: str) -> tuple[str, str]:
    """Ask apt, refreshing its lists when they are empty."""
    for attempt in ("with the lists as they are", "with new lists"):
        shown = subprocess.run(["apt-cache", "show", metapackage], capture_output=True, text=True, check=False)
        found = current_kernel(shown.stdout)
        if found:
            return found
        if attempt == "with the lists as they are":
            run("apt-get", "-qq", "update")
    raise LabError(f"apt offers no {metapackage}: the lab needs Debian 12's package sources (apt-cache policy)")


def fetch_kernel(metapackage: str, cache: Path) -> Kernel:
    """The current kernel of a Debian metapackage (for example linux-image-cloud-amd64), from the cache or from apt."""
    require(["apt-get", "dpkg-deb", "depmod", "modprobe", "lz4", "strip"])
    package, package_version = _look_up(metapackage)
    version = package.removeprefix("linux-image-")
    root = cache / "kernels" / f"{version}-{digest_of(package_version, Path(__file__))}"

    def build(work: Path) -> None:
        run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", f"{package}={package_version}", cwd=work)
        for archive in work.glob("*.deb"):
            run("dpkg-deb", "-x", archive, work)
            archive.unlink()
        run("depmod", "-b", work, version)
        (work / "vmlinux").write_bytes(uncompressed((work / "boot" / f"vmlinuz-{version}").read_bytes()))
        run("strip", "--strip-all", work / "vmlinux")

    return Kernel(version, built(root, build, keep=3))


def uncompressed(bzimage: bytes) -> bytes:
    """The ELF program inside a bzImage. QEMU starts it directly, which saves the guest its own unpacking."""
    for magic, unpack in ((_LZ4_LEGACY, _unlz4), (_XZ, _unxz)):
        start = bzimage.find(magic)
        if start >= 0:
            program = unpack(bzimage[start:])
            if program.startswith(b"\x7fELF"):
                return program
    raise LabError("the kernel is compressed in a way this lab does not know (it knows LZ4 and XZ)")


def _unlz4(data: bytes) -> bytes:
    # What follows the payload makes lz4 complain at the end; the caller checks the result.
    return subprocess.run(["lz4", "-dc"], input=data, capture_output=True, check=False).stdout


def _unxz(data: bytes) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)
