# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces as hosts: links between them, WireGuard clients that speak, and `wg` as the witness."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PrivateKey,
    PublicKey,
)

CLONE_NEWNET = 0x40000000  # linux/sched.h
PORT = 51820
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def ip(*lines: str) -> None:
    """Many `ip` commands for the price of one process."""
    run("ip", "-batch", "-", text="\n".join(lines))


def _switch(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """A network namespace. In a `with` block this thread, and the processes it starts, are in it; a socket stays
    where it was made.
    """

    def __init__(self) -> None:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if _libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        self._descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._outside: list[int] = []
        run("ip", "link", "set", "lo", "up")
        _switch(before)
        os.close(before)

    @property
    def path(self) -> str:
        """What `ip link set ... netns` takes."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def __enter__(self) -> Namespace:
        self._outside.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        _switch(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        outside = self._outside.pop()
        _switch(outside)
        os.close(outside)

    def close(self) -> None:
        """It goes when the last socket in it does."""
        os.close(self._descriptor)


class Shown(NamedTuple):
    """A peer as `wg show wg0 dump` shows it."""

    preshared_key: str
    endpoint: str
    allowed_ips: frozenset[str]
    handshake: int  # seconds
    received: int
    sent: int
    keepalive: str

    @property
    def configuration(self) -> tuple[str, frozenset[str], str]:
        return self.preshared_key, self.allowed_ips, self.keepalive

    @property
    def forgotten(self) -> bool:
        return (self.endpoint, self.handshake, self.received, self.sent) == ("(none)", 0, 0, 0)


def wg_show() -> dict[str, Shown]:
    """The peers of wg0 in this namespace, by public key."""
    shown = {}
    for line in run("wg", "show", "wg0", "dump").splitlines()[1:]:
        key, preshared, endpoint, allowed, handshake, received, sent, keepalive = line.split("\t")
        ips = frozenset() if allowed == "(none)" else frozenset(allowed.split(","))
        shown[key] = Shown(preshared, endpoint, ips, int(handshake), int(received), int(sent), keepalive)
    return shown


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Client:
    """A host with one link to the gateway (192.0.N.1 to 192.0.N.2) and one WireGuard peer, the gateway, which is
    10.0.0.1 inside; it is 10.0.0.N+1 there. Made inside the gateway's namespace.
    """

    def __init__(
        self, number: int, gateway: PublicKey, private_key: PrivateKey, preshared_key: PresharedKey = NO_PRESHARED_KEY
    ) -> None:
        self.number = number
        self.link = f"wan{number}"
        self.outer = f"192.0.{number}.2"
        self.inner = f"10.0.0.{number + 1}"
        self.public_key = private_key.public_key()
        self._namespace = Namespace()
        self.namespace = self._namespace
        ip(
            f"link add {self.link} type veth peer name eth0 netns {self._namespace.path}",
            f"addr add 192.0.{number}.1/24 dev {self.link}",
            f"link set {self.link} up",
        )
        with self._namespace:
            ip(
                "link add wg0 type wireguard",
                f"addr add {self.outer}/24 dev eth0",
                f"addr add {self.inner}/24 dev wg0",
                "link set eth0 up",
            )
            run("wg", "setconf", "wg0", "/proc/self/fd/0", text=f"""\
                [Interface]
                PrivateKey = {private_key.text}
                [Peer]
                PublicKey = {gateway.text}
                PresharedKey = {preshared_key.text}
                Endpoint = 192.0.{number}.1:{PORT}
                AllowedIPs = 10.0.0.1/32
            """)  # fmt: skip
            ip("link set wg0 up")
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((self.inner, 7))

    def close(self) -> None:
        self._socket.close()
        self._namespace.close()

    def speaks(self, seconds: float = 5.0) -> bool:
        """Send through the tunnel until the gateway answers, or for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.sendto(b"hello", ("10.0.0.1", 7))
            self._socket.settimeout(min(left, 0.5))
            with contextlib.suppress(TimeoutError):
                self._socket.recv(100)
                return True
        return False

    def calls(self) -> None:
        """Send one packet, with which a handshake begins, and wait for nothing."""
        self._socket.sendto(b"hello", ("10.0.0.1", 7))

    def hears_nothing(self) -> None:
        """From now on the gateway's answers are lost: it sends them to nobody's hardware address."""
        ip(f"neigh replace {self.outer} lladdr 02:00:00:00:00:99 nud permanent dev {self.link}")

    def hears_again(self) -> None:
        ip(f"neigh del {self.outer} lladdr 02:00:00:00:00:99 dev {self.link}")


@contextlib.contextmanager
def in_child(work: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Run ``work`` again and again in a process of its own, for as long as the block takes; gives a function
    that says how often it was done so far. A process and not a thread, so that neither waits for the other.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BrokenPipeError):
            try:
                while True:
                    work()
                    os.write(write, b".")
            except BaseException:
                import traceback

                traceback.print_exc()
                raise
            finally:
                os._exit(status)
    os.close(write)
    os.set_blocking(read, False)
    rounds = 0

    def done() -> int:
        nonlocal rounds
        with contextlib.suppress(BlockingIOError):
            rounds += len(os.read(read, 1 << 16))
        return rounds

    try:
        wait_until(done, 30, "the other process to work")
        yield done
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the other process failed"
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, 9)
            os.waitpid(child, 0)
        os.close(read)


def in_the_lab() -> bool:
    """Whether this is one of our machines (tests/kernel/run, tests/bench/uml), whose clock may be set."""
    return "lethe" in Path("/proc/cmdline").read_text(encoding="ascii") + os.uname().release
