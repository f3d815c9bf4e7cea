# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``lethe audit`` command."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..wireguard.errors import InvalidValue

EXIT_FINDINGS = 3
_FORMATS = ("table", "json", "junit", "prometheus")
_SEVERITIES = ("low", "medium", "high")
_READABLE = 0o644


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``audit`` to the commands of ``lethe``."""
    parser = commands.add_parser(
        "audit",
        help="look for whatever on this host still knows a client",
        description="Look at the kernel, the logs, the disk and the services of this host for whatever knows, or would "
        "come to know, where a client is or was. Changes nothing, and needs root. The report has numbers and places, "
        "and never an address, a key or a name of a client.",
        epilog="Exit status: 0 nothing was found that counts; 1 the audit failed, with the reason on standard error; "
        "2 wrong usage; 3 there are findings at or above --fail-on. A check that could not look is a finding.",
    )
    parser.add_argument(
        "--interface",
        action="append",
        metavar="NAME",
        help="a WireGuard interface to look at; repeat it for more (default: all)",
    )
    parser.add_argument("--format", choices=_FORMATS, default="table", help="of the report (default: table)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the report there instead of printing it; the file is replaced whole",
    )
    parser.add_argument(
        "--fail-on",
        choices=(*_SEVERITIES, "never"),
        default="low",
        help="the least severity that makes the exit status 3 (default: low)",
    )
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="CHECK",
        help="a check whose findings are known and do not count; repeat it for more",
    )
    parser.add_argument("--list", action="store_true", help="print what is checked, and end")
    parser.set_defaults(run=_audit)


def _audit(options: argparse.Namespace) -> int:
    from ..wireguard.whole_files import write_whole
    from .finding import Severity
    from .host import Host
    from .report import FORMATS
    from .run import CHECKS, audit

    if options.list:
        for one in CHECKS:
            print(f"{one.id:<20} {one.severity.text:<7} {one.clean}")
        return 0
    report = audit(Host(interfaces=options.interface), os.uname().nodename, accepted=options.accept)
    text = FORMATS[options.format](report)
    if options.output is None:
        sys.stdout.write(text)
    else:
        try:
            write_whole(options.output, text.encode(), mode=_READABLE)
        except OSError as error:
            raise InvalidValue(
                "--output", f"cannot be written: {error.strerror}", "give a path in a directory that is there"
            ) from None
    if options.fail_on != "never" and report.counting(Severity.from_text(options.fail_on)):
        return EXIT_FINDINGS
    return 0
