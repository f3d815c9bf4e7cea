# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _jobs import Counts, Job, Outcome, Runner


def outcome(tmp_path: Path, log: str, fault: str | None = None) -> Outcome:
    path = tmp_path / "layer.log"
    path.write_text(log)
    return Outcome("layer", fault, 1.0, path)


def run(tmp_path: Path, *jobs: Job) -> list[Outcome]:
    return Runner(tmp_path).run([jobs], 1, lambda _outcome: None)


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("===== 12 passed in 0.52s =====", Counts(12, 0, 0)),
        ("===== 1 failed, 11 passed, 2 skipped, 3 warnings in 65.20s (0:01:05) =====", Counts(11, 1, 2)),
        ("===== 3 passed, 2 errors in 0.1s =====", Counts(3, 2, 0)),
        ("5 passed in 0.1s", Counts(5, 0, 0)),
        ("9 passed, 0 failed", Counts(9, 0, 0)),
    ],
)
def test_counts_are_read_from_summary_lines(tmp_path: Path, line: str, counts: Counts) -> None:
    assert outcome(tmp_path, f"collecting\n{line}\n").counts() == counts


def test_counts_of_several_runs_add_up(tmp_path: Path) -> None:
    assert outcome(tmp_path, "2 passed in 1s\n3 passed, 1 skipped in 1s\n").counts() == Counts(5, 0, 1)


def test_other_lines_with_numbers_are_not_counted(tmp_path: Path) -> None:
    assert outcome(tmp_path, "the 7 passed trains\n1 passed in 1s\n").counts() == Counts(1, 0, 0)


def test_a_layer_that_tested_nothing_has_failed(tmp_path: Path) -> None:
    assert outcome(tmp_path, "4 skipped in 0.1s\n").counts() == Counts(0, 1, 4)


def test_a_layer_that_broke_after_its_tests_passed_has_failed(tmp_path: Path) -> None:
    assert outcome(tmp_path, "4 passed in 0.1s\n", fault="exit status 1").counts() == Counts(4, 1, 0)


def test_a_job_that_fails_says_with_which_status(tmp_path: Path) -> None:
    (done,) = run(tmp_path, Job("job", ["sh", "-c", "echo hello; exit 7"], 30))

    assert done.fault == "exit status 7"
    assert done.text() == "    hello"


def test_a_job_is_ended_when_its_time_is_over(tmp_path: Path) -> None:
    (done,) = run(tmp_path, Job("job", ["sleep", "60"], 0.2))

    assert done.fault == "still running after 0 s, ended"
    assert done.seconds < 50


def test_nothing_that_a_job_started_outlives_it(tmp_path: Path) -> None:
    (done,) = run(tmp_path, Job("job", ["sh", "-c", "sleep 60 & echo $!"], 30))

    assert done.fault is None
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.log.read_text()), 0)


def test_an_interrupted_run_ends_its_jobs_first(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from _jobs import Job, Runner
job = Job("job", ["sh", "-c", "echo $$; trap 'echo cleaned up; exit' TERM; sleep 60 & wait"], 60)
Runner(Path(sys.argv[1])).run([[job], [job]], 1, lambda outcome: None)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "scripts")}
    runner = subprocess.Popen([sys.executable, "-c", program, tmp_path], env=environment, stderr=subprocess.PIPE)
    log = tmp_path / "job.log"
    deadline = time.monotonic() + 20
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    runner.terminate()
    _, said = runner.communicate(timeout=30)

    assert runner.returncode == 128 + signal.SIGTERM
    assert b"SIGTERM: ending what is running" in said
    assert "cleaned up" in log.read_text()
