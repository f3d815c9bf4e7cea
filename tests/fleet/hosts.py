# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on the lab's machines."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests/lab/lab"
RUN = Path(os.environ.get("LETHE_LAB_RUN") or CHECKOUT / ".cache/lab/run").absolute()


class CommandFailed(Exception):
    """A command on a machine did not succeed; has its output."""


@dataclass(frozen=True)
class Host:
    """One machine, reached over one shared SSH connection: a new one costs seconds under emulation."""

    name: str
    wan_ipv4: str
    wan_ipv6: str
    ssh: tuple[str, ...]

    def run(self, script: str, *, seconds: float = 120) -> str:
        """Run a shell script as root; returns its standard output. Raises CommandFailed."""
        result = self.try_to_run(script, seconds=seconds)
        if result.returncode != 0:
            output = (result.stdout + result.stderr).strip()
            raise CommandFailed(f"{self.name}: {script!r} ended with {result.returncode}: {output}")
        return result.stdout.strip()

    def try_to_run(self, script: str, *, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root; the caller looks at its exit status."""
        return subprocess.run(
            [*self.ssh, script], capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )

    def start(self, script: str) -> subprocess.Popen[str]:
        """Start a shell script and go on; the caller waits for it."""
        return subprocess.Popen([*self.ssh, script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def reboot(self, *, seconds: float = 240) -> None:
        """Reboot in an orderly way and wait until the machine has started all its units."""
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = self.run(boot)
        self.try_to_run("systemctl reboot")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            after = self.try_to_run(boot)
            if after.returncode == 0 and after.stdout.strip() != before:
                self.try_to_run("systemctl is-system-running --wait", seconds=seconds)
                return
            time.sleep(1)
        raise CommandFailed(f"{self.name} did not come back {seconds:.0f} s after a reboot")


def inventory() -> dict[str, Any]:
    """The running lab as Ansible sees it."""
    return json.loads(subprocess.run([LAB, "inventory"], capture_output=True, text=True, check=True).stdout)


def lab_hosts() -> dict[str, list[Host]]:
    """The machines of the running lab by inventory group."""
    found = inventory()
    sockets = tempfile.mkdtemp(prefix="lethe-fleet-")  # a short path: sockets have a limit
    common = found["all"]["vars"]
    shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={sockets}/%n-%p"]

    def host(name: str) -> Host:
        its = found["_meta"]["hostvars"][name]
        ssh = (
            *("ssh", "-i", common["ansible_ssh_private_key_file"], *shlex.split(common["ansible_ssh_common_args"])),
            *("-p", str(its["ansible_port"]), *shared, f"{common['ansible_user']}@{its['ansible_host']}", "--"),
        )
        return Host(name, its["lab_wan_ipv4"], its["lab_wan_ipv6"], ssh)

    return {group: [host(name) for name in found[group]["hosts"]] for group in ("gateways", "others", "registries")}
