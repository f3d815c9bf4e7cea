# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel-test machine: a Debian kernel over the host's own files, for as long as one command runs.

The command sees the checkout, the virtual environment and the host's programs, as root, with a kernel that
has WireGuard. What it writes stays in the machine's memory and is gone with it; only the job directory
comes back.
"""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from .accelerator import accelerator_options, choose_accelerator
from .cache import built, digest_of
from .commands import require, run
from .errors import LabError
from .image import pack_initrd
from .kernel import Kernel, fetch_kernel
from .settings import CHECKOUT, positive

# The cloud kernel cannot mount 9p.
KERNEL = "linux-image-amd64"
SOURCES = Path(__file__).resolve().parent.parent / "kernel_vm"

# The exit status when there is no result of pytest's: the machine failed, not a test.
_NO_RESULT = 70

_INITRD_MODULES = ("virtio_pci", "virtio_console", "virtio_rng", "9pnet_virtio", "9p", "overlay")


@dataclass(frozen=True, slots=True)
class Limits:
    """How big the machine is (MiB, processors) and how long it may take (seconds)."""

    memory: int
    cpus: int
    boot: int
    total: int

    @classmethod
    def from_environment(cls) -> Limits:
        return cls(
            memory=positive(os.environ, "LETHE_KERNEL_MEMORY", 2048),
            cpus=positive(os.environ, "LETHE_KERNEL_CPUS", 2),
            boot=positive(os.environ, "LETHE_KERNEL_BOOT_TIMEOUT", 180),
            total=positive(os.environ, "LETHE_KERNEL_TIMEOUT", 1500),
        )


def pytest_command(arguments: Sequence[str], colour: bool) -> str:
    """The shell script that runs the kernel tests in the machine; without a path among the arguments, all of them."""
    paths = [word for word in arguments if not word.startswith("-") and Path(CHECKOUT, word.split("::")[0]).exists()]
    words = [
        "python", "-m", "pytest", f"--color={'yes' if colour else 'no'}", "--junitxml=/run/job/kernel.xml",
        *([] if paths else ["tests/kernel"]), *arguments,
    ]  # fmt: skip
    return (
        f"cd {shlex.quote(str(CHECKOUT))}\n"
        f"export PATH={shlex.quote(str(CHECKOUT))}/.venv/bin:$PATH\n"
        # Hypothesis and xdist load with pytest even where no test uses them: 17 s under emulation.
        "export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1\n"
        f"exec {shlex.join(words)}\n"
    )


def run_in_machine(command: str, limits: Limits, cache: Path, job: Path) -> int:
    """Boot, run a shell script with its output on standard output as it comes, and return its exit status.

    Raises LabError, with the end of the console, when the machine does not boot in time, does not finish in
    time or ends without a status.
    """
    require(["qemu-system-x86_64", "cpio", "busybox", "setpriv"])
    kernel = fetch_kernel(KERNEL, cache)
    initrd = _initrd(kernel, cache)
    (job / "command").write_text(command, encoding="utf-8")
    ours, theirs = socket.socketpair()
    console = job / "console.log"
    qemu = [
        # Should this process be killed, the kernel kills QEMU too.
        "setpriv", "--pdeathsig", "KILL",
        "qemu-system-x86_64", "-name", "lethe-kernel-tests",
        "-M", "q35,usb=off,vmport=off,smbus=off,sata=off,graphics=off",
        *accelerator_options(choose_accelerator(kernel.vmlinux, cache, os.environ.get("LETHE_LAB_ACCEL") or None)),
        "-smp", str(limits.cpus), "-m", str(limits.memory), "-nodefaults", "-no-user-config", "-display", "none",
        "-no-reboot", "-rtc", "base=utc,clock=host", "-serial", f"file:{console}",
        "-kernel", str(kernel.vmlinux), "-initrd", str(initrd),
        "-append", (
            "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable"
            " cryptomgr.notests nowatchdog audit=0 random.trust_cpu=on net.ifnames=0"
            f" lethe.session={SOURCES / 'session'} lethe.modules={kernel.modules}"
        ),
        "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
        "-device", "virtio-serial-pci", "-chardev", f"socket,id=output,fd={theirs.fileno()}",
        "-device", "virtserialport,chardev=output,name=lethe.output",
        "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        "-fsdev", f"local,id=job,path={job},security_model=none,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=job,mount_tag=job",
    ]  # fmt: skip
    log = job / "qemu.log"
    with ours, log.open("wb") as errors:
        machine = subprocess.Popen(
            qemu, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        problem = "was interrupted"
        try:
            problem = _relay(ours, limits)
        finally:
            _end(machine, patience=0 if problem else 10)
    status = job / "status"
    if not problem and status.exists():
        return int(status.read_text(encoding="ascii"))
    raise LabError(
        f"the kernel-test machine {problem or 'ended without finishing its job'}.\n"
        + _tail("QEMU", log) + _tail("console", console)
    )  # fmt: skip


def _end(machine: subprocess.Popen[bytes], patience: float) -> None:
    """Give QEMU some seconds to end by itself, as it does when the machine switches off, then kill it."""
    try:
        machine.wait(patience)
    except subprocess.TimeoutExpired:
        machine.kill()
        machine.wait()


def _relay(source: socket.socket, limits: Limits) -> str:
    """Copy the machine's output to ours until it ends; returns what went wrong, or nothing."""
    start = time.monotonic()
    booted = False
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while True:
            limit = limits.total if booted else min(limits.boot, limits.total)
            if not selector.select(timeout=max(0.0, start + limit - time.monotonic())):
                if booted:
                    return f"was stopped after {limit} s (LETHE_KERNEL_TIMEOUT)"
                return f"did not boot within {limit} s (LETHE_KERNEL_BOOT_TIMEOUT)"
            data = source.recv(1 << 16)
            if not data:
                return "" if booted else "ended before it had booted"
            if not booted:
                booted, data = True, data[1:]
                print(f"kernel-test machine booted in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _initrd(kernel: Kernel, cache: Path) -> Path:
    key = digest_of(
        SOURCES / "init", kernel.root.name, " ".join(_INITRD_MODULES), Path(pack_initrd.__code__.co_filename)
    )

    def build(work: Path) -> None:
        pack_initrd(work / "initrd.cpio", SOURCES / "init", kernel.modules_for(*_INITRD_MODULES), cache / "initrd.log")

    return built(cache / "initrds" / key, build) / "initrd.cpio"


def _tail(name: str, log: Path, lines: int = 25) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return f"-- {name}:\n" + "\n".join(text.splitlines()[-lines:]) + "\n" if text else ""


def main(arguments: Sequence[str]) -> int:
    """tests/kernel/run: run the kernel tests in the machine and return pytest's exit status."""
    if arguments[:1] in (["--help"], ["-h"]):
        print((CHECKOUT / "tests" / "kernel" / "README.md").read_text(encoding="utf-8"), end="")
        return 0
    # An ordinary exit on SIGTERM lets the clean-up run.
    signal.signal(signal.SIGTERM, _exit)
    try:
        return _run_tests(arguments)
    except LabError as error:
        print(f"tests/kernel/run: {error}", file=sys.stderr)
        return _NO_RESULT
    except KeyboardInterrupt:
        return 130


def _run_tests(arguments: Sequence[str]) -> int:
    python = CHECKOUT / ".venv" / "bin" / "python"
    if not python.exists():
        raise LabError(f"{python} is missing. Make it with: bash scripts/setup")
    # What the machine compiles is lost with it, and compiling is slow there.
    run(python, "-m", "compileall", "-q", CHECKOUT / "plugins", CHECKOUT / "tests" / "kernel")
    command = pytest_command(arguments, colour=sys.stdout.isatty())
    results = CHECKOUT / ".cache" / "test"
    results.mkdir(parents=True, exist_ok=True)
    (results / "kernel.xml").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=results) as directory:
        job = Path(directory)
        try:
            return run_in_machine(command, Limits.from_environment(), CHECKOUT / ".cache" / "lab", job)
        finally:
            report = job / "kernel.xml"
            if report.exists():
                shutil.copyfile(report, results / "kernel.xml")


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
