# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands side by side, each with its log, its time limit and one line when it is done.

Used by ``scripts/lint`` and ``scripts/test``. A job is a command in a session of its own, so that everything it
started ends with it: when it is done, when its time is over, and when this program is interrupted.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BEAT = 60.0
"""Seconds between two signs of life of a job."""
GRACE = 30.0
"""Seconds a job has to clean up after it was asked to end."""

_SUMMARY = re.compile(
    r"^=* ?((?:\d+ (?:passed|failed|errors?|skipped|deselected|xfailed|xpassed|warnings?)(?:, )?)+)(?: in .*)?$"
)
_COUNT = re.compile(r"(\d+) (passed|failed|error|skipped)")


@dataclass(frozen=True, slots=True)
class Job:
    """A command to run."""

    name: str
    command: Sequence[str]
    timeout: float
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many checks passed, failed and were skipped, as a job's own summary lines say."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add up two jobs."""
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job."""

    name: str
    fault: str | None
    """Why the command did not succeed, if it did not."""
    seconds: float
    log: Path

    def counts(self) -> Counts:
        """Add up the summary lines in the log: those of pytest, and plain ``N passed, N failed`` ones.

        A job that did not succeed has at least one failure, whatever it printed. One that succeeded without a
        single passed check has tested nothing, which is a failure too.
        """
        total = Counts()
        for line in self.log.read_text(errors="replace").splitlines():
            if match := _SUMMARY.match(line.strip().rstrip("=").rstrip()):
                numbers = {"passed": 0, "failed": 0, "error": 0, "skipped": 0}
                for number, word in _COUNT.findall(match[1]):
                    numbers[word] += int(number)
                total += Counts(numbers["passed"], numbers["failed"] + numbers["error"], numbers["skipped"])
        if not total.failed and (self.fault or not total.passed):
            total += Counts(failed=1)
        return total

    def text(self, lines: int | None = None) -> str:
        """Return the log, or the last so many lines of it, indented."""
        whole = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in (whole if lines is None else whole[-lines:]))


class Runner:
    """Runs jobs side by side, and ends all that are running when it is told to stop."""

    def __init__(self, logs: Path, alive: Callable[[str, float, str], None] | None = None) -> None:
        """Log into that directory; call ``alive(name, seconds, last line)`` once a minute for each running job."""
        self._logs = logs
        self._alive = alive
        self._stopped = threading.Event()
        logs.mkdir(parents=True, exist_ok=True)

    def run(self, lanes: Sequence[Sequence[Job]], at_once: int, done: Callable[[Outcome], None]) -> list[Outcome]:
        """Run the jobs of a lane one after the other, and several lanes at once; report each job as it ends."""
        reporting = threading.Lock()

        def work(lane: Sequence[Job]) -> list[Outcome]:
            outcomes = []
            for job in lane:
                if self._stopped.is_set():
                    break
                outcome = self._run(job)
                outcomes.append(outcome)
                with reporting:
                    done(outcome)
            return outcomes

        with ThreadPoolExecutor(at_once) as pool, self._ended_by_signals():
            return [outcome for outcomes in pool.map(work, lanes) for outcome in outcomes]

    def _run(self, job: Job) -> Outcome:
        log = self._logs / f"{job.name}.log"
        started = time.monotonic()
        next_beat = started + BEAT
        with log.open("wb") as output:
            process = subprocess.Popen(
                job.command,
                cwd=CHECKOUT,
                env={**os.environ, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            while process.poll() is None and not self._stopped.is_set() and time.monotonic() < started + job.timeout:
                time.sleep(0.05)
                if self._alive and time.monotonic() > next_beat:
                    self._alive(job.name, time.monotonic() - started, _last_line(log))
                    next_beat += BEAT
            ended_by_itself = process.returncode is not None
            _end(process)
        seconds = time.monotonic() - started
        if ended_by_itself:
            fault = None if process.returncode == 0 else f"exit status {process.returncode}"
        elif self._stopped.is_set():
            fault = "interrupted"
        else:
            fault = f"still running after {job.timeout:.0f} s, ended"
        return Outcome(job.name, fault, seconds, log)

    @contextmanager
    def _ended_by_signals(self) -> Iterator[None]:
        """End all jobs when this program is asked to end, and only then let it."""
        received: list[int] = []

        def stop(number: int, _frame: object) -> None:
            print(f"{signal.Signals(number).name}: ending what is running", file=sys.stderr, flush=True)
            received.append(number)
            self._stopped.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if received:
                sys.exit(128 + received[0])


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """See to it that nothing a job started is left: ask first, then insist."""
    deadline = time.monotonic() + GRACE
    number = signal.SIGTERM
    try:
        while True:
            os.killpg(process.pid, number)
            number = signal.SIGCONT if time.monotonic() < deadline else signal.SIGKILL
            time.sleep(0.05)
            process.poll()
    except ProcessLookupError:
        process.wait()
