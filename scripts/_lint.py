# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every linter of the checkout, side by side: one line each, and the output of those that found something."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from _jobs import CHECKOUT, Counts, Job, Outcome, Runner

LOGS = CHECKOUT / ".cache/lint"
NEWEST = CHECKOUT / ".venv-newest"
NO_NEWER_PYTHON = 3
"""The exit status of ``scripts/setup --newest`` where no Python is new enough."""


def sources() -> Iterator[Path]:
    """Yield the files of the checkout: what git tracks, and what it would."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            yield Path(name)


def is_shell(path: Path) -> bool:
    """Tell a shell script by its first line."""
    with (CHECKOUT / path).open("rb") as file:
        first = file.readline(100)
    return first.startswith(b"#!") and first.split(b"/")[-1].split()[-1].removeprefix(b"env ") in {
        b"sh",
        b"bash",
        b"dash",
    }


def has_newest() -> bool:
    """Prepare the environment with the newest ansible-core; whether there is a Python for it."""
    status = subprocess.run([CHECKOUT / "scripts/setup", "--quiet", "--newest"], check=False).returncode
    if status not in {0, NO_NEWER_PYTHON}:
        sys.exit(status)
    return status == 0


def linters(files: list[Path], *, newest: bool) -> Iterator[Job]:
    """Yield the linters, the slow ones first."""
    modules = [
        f"lethe.wireguard.{path.stem}" for path in files if path.match("plugins/modules/*.py") and path.stem[0] != "_"
    ]
    roles = [f"lethe.wireguard.{path.parts[1]}" for path in files if path.match("roles/*/meta/argument_specs.yml")]
    shell = [str(path) for path in files if path.name == "env" or is_shell(path)]
    with_newest = {"VIRTUAL_ENV": str(NEWEST), "PATH": f"{NEWEST}/bin{os.pathsep}{os.environ['PATH']}"}

    if newest:
        yield Job("sanity-newest", ["scripts/sanity", "--newest"], 1200)
    yield Job("sanity", ["scripts/sanity"], 1200)
    yield Job("ansible-lint", ["ansible-lint", "--offline", "--profile=production"], 600)
    if newest:
        yield Job("ansible-lint-newest", ["ansible-lint", "--offline", "--profile=production"], 600, with_newest)
    yield Job("mypy", ["mypy"], 300)
    yield Job("yamllint", ["yamllint", "--strict", "."], 300)
    if modules:
        yield Job("module-docs", ["ansible-doc", "--type=module", *modules], 300)
    if roles:
        yield Job("role-docs", ["ansible-doc", "--type=role", *roles], 300)
    # Leaves a log in the home directory.
    home = {"HOME": str(LOGS)}
    yield Job("docs", ["antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", "."], 300, home)
    yield Job("changelog", ["antsibull-changelog", "lint"], 300)
    yield Job("shellcheck", ["shellcheck", *shell], 300)
    yield Job("ruff-check", ["ruff", "check", "."], 300)
    yield Job("ruff-format", ["ruff", "format", "--check", "--diff", "."], 300)


def report(outcome: Outcome) -> None:
    """Print one line, and all that a linter said if it found something."""
    print(f"{'FAILED' if outcome.fault else 'ok':<7} {outcome.name:<20} {outcome.seconds:6.1f} s", flush=True)
    if outcome.fault:
        print(f"{outcome.text()}\n    -- {outcome.name}: {outcome.fault}", flush=True)


def main(names: list[str]) -> int:
    """Run the linters of those names, or all."""
    newest = has_newest()
    jobs = [job for job in linters(list(sources()), newest=newest) if not names or job.name in names]
    if not jobs:
        sys.exit(f"no such linter: {', '.join(names)}")
    at_once = max(2, len(os.sched_getaffinity(0)))
    outcomes = Runner(LOGS).run([[job] for job in jobs], at_once, report)
    failed = sum(outcome.fault is not None for outcome in outcomes)
    if not newest:
        print("skipped the newest ansible-core: neither python3.13 nor python3.12 was found (also not under pyenv)")
    print(Counts(len(outcomes) - failed, failed, 0 if newest else 2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
