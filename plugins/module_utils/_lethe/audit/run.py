# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One audit: every check in turn, and what they find."""

from __future__ import annotations

import errno
import time
from collections.abc import Collection, Iterator, Sequence

from ..wireguard.errors import InvalidValue, KernelRefused, LetheError
from . import agent, files, logs, memory, network, peers, tracing
from .finding import Check, Finding
from .host import Host
from .report import Report

CHECKS: tuple[Check, ...] = (
    peers.endpoints,
    peers.ghosts,
    peers.purge_timer,
    peers.purge_late,
    peers.kernel_version,
    agent.agent,
    network.tracked,
    network.tracking_rules,
    network.neighbours,
    network.kept_routes,
    network.kept_routes_time,
    tracing.dynamic_debug,
    tracing.dynamic_debug_boot,
    tracing.packet_log,
    tracing.packet_trace,
    tracing.kernel_packet_log,
    tracing.packet_sockets,
    tracing.link_programs,
    tracing.kernel_tracing,
    logs.journal_on_disk,
    logs.logged_endpoints,
    logs.syslog,
    logs.log_export,
    logs.flow_export,
    logs.kernel_audit,
    logs.statistics,
    memory.swap,
    memory.swap_at_boot,
    memory.hibernation,
    memory.core_dumps,
    memory.kdump,
    memory.kexec,
    files.wg_quick,
    files.wireguard_files,
    files.shell_history,
    files.readable_keys,
)


def audit(
    host: Host, name: str, *, accepted: Collection[str] = (), checks: Sequence[Check] = CHECKS, now: float | None = None
) -> Report:
    """Look at a host, which the report calls ``name``. Findings of the checks in ``accepted`` do not count. Raises
    InvalidValue if one of those does not exist.
    """
    known = {one.id for one in checks}
    for i, id_ in enumerate(accepted):
        if id_ not in known:
            raise InvalidValue(f"accept[{i}]", "is no check", f"take one of: {', '.join(sorted(known))}")
    findings = [finding for one in checks for finding in _findings(host, one, one.id in accepted)]
    findings.sort(key=lambda finding: -finding.severity)
    return Report(name, time.time() if now is None else now, tuple(checks), tuple(findings))


def _findings(host: Host, one: Check, accepted: bool) -> Iterator[Finding]:
    try:
        for leak in one.look(host):
            yield Finding(one.id, one.severity, leak.what, leak.evidence, leak.fix, accepted=accepted)
    except (LetheError, OSError, ValueError) as error:
        yield Finding(
            one.id,
            one.severity,
            f"could not be checked: whether {one.clean}",
            _reason(error),
            "run the audit as root, with the tools of the distribution",
            looked=False,
            accepted=accepted,
        )


def _reason(error: Exception) -> str:
    """Why a check could not look. Our own errors name nobody; others are told by what kind they are."""
    if isinstance(error, KernelRefused) and error.errno in (errno.EPERM, errno.EACCES):
        return "no permission to ask the kernel"
    if isinstance(error, LetheError):
        return str(error)
    return (error.strerror or "an error of the system") if isinstance(error, OSError) else type(error).__name__
