# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines' image: Debian 12 from the host's own package sources, as an ext4 disk, with kernel and initrd."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .cache import built, digest_of
from .commands import require, run, search_path
from .errors import LabError
from .hosts import hosts_file
from .kernel import Kernel, fetch_kernel

SUITE = "bookworm"
KERNEL = "linux-image-cloud-amd64"
SOURCES = Path(__file__).resolve().parent.parent / "image"

# A small Debian server: of Python only what Debian itself installs, so that a role which needs more has
# to bring it. wireguard-tools, conntrack and tcpdump are there for the tests, as witnesses
# independent of the collection.
PACKAGES = [
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "netbase", "sudo", "openssh-server"),
    *("iproute2", "iputils-ping", "python3", "python3-apt", "nftables"),
    *("wireguard-tools", "conntrack", "tcpdump"),
]

# What roles install when they are told to. The machines have it, and all that it needs, as packages only.
INSTALLABLE = ["openssl", "postgresql"]

# Room for what tests install, beyond the image's own files. MiB; the file is sparse.
FREE_SPACE = 2048

_INITRD_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng")


@dataclass(frozen=True, slots=True)
class Image:
    """A built image; every path is inside one directory of the cache."""

    root: Path

    @property
    def vmlinux(self) -> Path:
        return self.root / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.root / "initrd.cpio"

    @property
    def disk(self) -> Path:
        return self.root / "root.ext4"

    @property
    def identity(self) -> Path:
        return self.root / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known_hosts"


def build_image(cache: Path, progress: Callable[[str], None]) -> Image:
    """The image for the current scripts and kernel, from the cache or built now (one to three minutes)."""
    require(["mmdebstrap", "mke2fs", "cpio", "busybox", "ssh-keygen"])
    kernel = fetch_kernel(KERNEL, cache)
    key = digest_of(Path(__file__), SOURCES, hosts_file(), kernel.root.name)

    def build(work: Path) -> None:
        log = cache / "image.log"
        log.unlink(missing_ok=True)
        progress(f"building the image {key} with kernel {kernel.version} (once; output in {log})")
        rootfs = work / "rootfs"
        debootstrap(rootfs, log)
        progress("Debian is unpacked; configuring it")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lethe-lab", "-f", work / "id_ed25519", log=log)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lethe-lab-host", "-f", work / "host_key", log=log)
        public = (work / "host_key.pub").read_text(encoding="ascii").split()
        (work / "known_hosts").write_text(f"{HOST_KEY_ALIAS} {public[0]} {public[1]}\n", encoding="ascii")
        (work / "hosts").write_text(hosts_file(), encoding="ascii")
        run(
            SOURCES / "customize",
            rootfs,
            work / "id_ed25519.pub",
            work / "host_key",
            work / "hosts",
            SOURCES / "sitecustomize.py",
            log=log,
        )
        install_kernel(kernel, rootfs)
        write_initrd(kernel, work, log)
        write_disk(rootfs, work / "root.ext4", log)
        shutil.copyfile(kernel.vmlinux, work / "vmlinux")
        shutil.rmtree(rootfs)

    return Image(built(cache / "images" / key, build))


# The name under which the machines' host key is known to SSH clients, whatever their port.
HOST_KEY_ALIAS = "lethe-lab"


def package_sources() -> str:
    """The host's own Debian sources of the suite, one line each, as apt knows them."""
    listed = run(
        "apt-get", "indextargets", "--format", "$(CODENAME)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)", "Created-By: Packages"
    )
    lines = []
    for target in listed.splitlines():
        codename, release, component, uri = target.split("|")
        if codename in (SUITE, f"{SUITE}-updates", f"{SUITE}-security"):
            lines.append(f"deb {uri} {release} {component}")
    if not lines:
        raise LabError(f"apt here knows no Debian {SUITE} source; the lab's image is built from them (apt-get update)")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def debootstrap(rootfs: Path, log: Path) -> None:
    """Install the packages into an empty directory, and put those that can be installed later beside them."""
    later = (
        'set -e; export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" directory="$1/var/lib/lab-packages";'
        ' mkdir -p "$directory/partial";'
        ' apt-get --quiet --yes --no-install-recommends --download-only -o Dir::Cache::archives="$directory"'
        f' install {" ".join(INSTALLABLE)}; rm -rf "$directory/partial" "$directory/lock"'
    )
    run(
        "mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
        f"--customize-hook={later}",
        SUITE, rootfs, "-",
        stdin=package_sources(), log=log,
    )  # fmt: skip


def install_kernel(kernel: Kernel, rootfs: Path) -> None:
    target = rootfs / "lib" / "modules" / kernel.version
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(kernel.modules, target, symlinks=True)
    shutil.copyfile(kernel.root / "boot" / f"config-{kernel.version}", rootfs / "boot" / f"config-{kernel.version}")
    run("depmod", "-b", rootfs, kernel.version)


def write_initrd(kernel: Kernel, work: Path, log: Path) -> None:
    """A static busybox, the modules that reach the root disk, and image/init."""
    pack_initrd(work / "initrd.cpio", SOURCES / "init", kernel.modules_for(*_INITRD_MODULES), log)


def pack_initrd(target: Path, init: Path, modules: list[Path], log: Path) -> None:
    """Write an uncompressed initrd: busybox, the modules in loading order as /modules/NN-NAME.ko, and init."""
    tree = target.with_suffix(".tree")
    for directory in ("bin", "dev", "proc", "sys", "root", "modules"):
        (tree / directory).mkdir(parents=True)
    shutil.copy(static_busybox(), tree / "bin" / "busybox")
    shutil.copy(init, tree / "init")
    for position, module in enumerate(modules):
        run("strip", "--strip-debug", "-o", tree / "modules" / f"{position:02d}-{module.name}", module, log=log)
    names = "\n".join(sorted(str(path.relative_to(tree)) for path in tree.rglob("*")))
    run("cpio", "--create", "--format=newc", "--owner=0:0", "--quiet", "--file", target, cwd=tree, stdin=names, log=log)
    shutil.rmtree(tree)


def static_busybox() -> Path:
    """The host's busybox; raises LabError if it needs a loader, which an initrd does not have."""
    require(["busybox"])
    busybox = Path(shutil.which("busybox", path=search_path()) or "")
    if b"/lib64/ld-linux" in busybox.read_bytes():
        raise LabError(f"{busybox} is not static. Install the static one with: apt-get install busybox-static")
    return busybox


def write_disk(rootfs: Path, disk: Path, log: Path) -> None:
    used = int(run("du", "-sm", rootfs).split()[0])
    run(
        "mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum,^resize_inode", "-E", "lazy_itable_init=1,root_owner=0:0",
        "-m", "0", "-L", "root", "-d", rootfs, disk, f"{used + FREE_SPACE}M", log=log,
    )  # fmt: skip
