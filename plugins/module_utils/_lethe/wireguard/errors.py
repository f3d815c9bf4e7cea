# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can go wrong, as exceptions whose message names the thing at fault and the next step.

No message ever holds a key, a client's address or an endpoint: these texts end in journals, in
Ansible's output and in bug reports.
"""

from __future__ import annotations

import errno
import os


class LetheError(Exception):
    """Base of all errors that a person can do something about."""


class InvalidValue(LetheError):
    """A value that was given is malformed. ``field`` says which, as a path like ``peers[3].public_key``."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}; {remedy}")
        self.field = field
        self.problem = problem
        self.remedy = remedy

    def inside(self, outer: str) -> InvalidValue:
        """The same fault seen from a value that holds this one: ``public_key`` -> ``peers[3].public_key``."""
        return InvalidValue(f"{outer}.{self.field}", self.problem, self.remedy)


class InterfaceNotFound(LetheError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no interface {name} here; create it with the module lethe.wireguard.interface, "
            "or look at the names with: ip link show type wireguard"
        )


class NotWireGuard(LetheError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"the interface {name} exists and is not a WireGuard interface; it was left alone: choose another name"
        )


class KernelWithoutWireGuard(LetheError):
    def __init__(self) -> None:
        super().__init__(
            "this kernel has no WireGuard (no generic netlink family 'wireguard'); try: modprobe wireguard. "
            "It is part of Linux 5.6 and later; in a container the host's kernel must have loaded it"
        )


class PermissionMissing(LetheError):
    def __init__(self, what: str) -> None:
        super().__init__(f"no permission to {what}: CAP_NET_ADMIN is needed; run it as root (Ansible: become: true)")


class KernelRefused(LetheError):
    """The kernel answered a request with an error. What stood before it in the same run is applied."""

    def __init__(
        self, what: str, error: int, next_step: str = "run it again: only what is missing will be sent"
    ) -> None:
        name = errno.errorcode.get(error, str(error))
        super().__init__(f"the kernel refused to {what}: {os.strerror(error)} ({name}); {next_step}")
        self.errno = error


class RouteTaken(LetheError):
    def __init__(self, name: str, network: str) -> None:
        super().__init__(
            f"{network} should go through {name}, and has a route through another interface, which was left alone; "
            f"see: ip route show {network}. Remove that route, or the network from the allowed IPs"
        )


class DumpInterrupted(LetheError):
    def __init__(self, name: str, attempts: int) -> None:
        super().__init__(
            f"the peers of {name} kept changing while they were read ({attempts} attempts); "
            "find out what changes them all the time, then run it again"
        )


class ShrinkRefused(LetheError):
    """The plan would remove so many peers that the input is more likely broken than meant."""

    def __init__(self, removed: int, current: int, limit: int) -> None:
        super().__init__(
            f"this would remove {removed} of {current} peers, more than the shrink limit of {limit} %; nothing was "
            "changed. If the list of peers is complete and this is meant, set allow_shrink: true "
            "(role gateway: gateway_allow_shrink)"
        )
        self.removed = removed
        self.current = current


class Busy(LetheError):
    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(
            f"another Lethe process has been changing {name} for more than {seconds:.0f} s; "
            "see who holds the lock with: fuser -v /run/lethe/lock"
        )


class MissingLibrary(LetheError):
    """A third-party Python library is not importable by this interpreter."""

    def __init__(self, library: str, purpose: str) -> None:
        super().__init__(
            f"the Python library {library} is needed to {purpose} and is not there; "
            "deploy it to the host with the role lethe.wireguard.runtime"
        )
        self.library = library
