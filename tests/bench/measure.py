#!/usr/bin/env python3
# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure every contender at every case and size; runs as root where there is WireGuard and nothing else:
in the machine that `uml` starts.

    measure.py RESULTS WORKLOAD... [--rounds N]

Writes one JSON object per measurement to the file RESULTS, and progress to standard error. Contenders
take turns (A B C, B C A, ...), so that a slow minute of a shared machine hits all of them. After every
operation `wg` is asked what the kernel holds now, and a wrong answer ends the run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from kernel import Interface, encode_endpoint, encode_peer, encode_removal
from machine import PYTHON
from workload import IDLE_SHARE, BenchPeer, Workload, read_records

HERE = Path(__file__).resolve().parent

Result = dict[str, Any]  # at least "seconds"


# --- running things -----------------------------------------------------------------------------------


def timed_process(*command: str | Path) -> Result:
    """Wall-clock time of a process from start to end, output thrown away."""
    path = shutil.which(command[0])
    assert path is not None, command[0]
    discard = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    started = time.perf_counter()
    pid = os.posix_spawn(path, list(map(str, command)), os.environ, file_actions=discard)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"measure: {' '.join(map(str, command))} failed")
    return {"seconds": seconds}


def python_process(script: str, *arguments: str | Path) -> Result:
    """A contender written in Python: it times itself, without its start-up, which is reported beside."""
    started = time.perf_counter()
    command = [PYTHON, HERE / script, *arguments]
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}  # of this one: pyroute2 is there
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    process = time.perf_counter() - started
    result: Result = json.loads(output)
    return {**result, "process": process}


def sampled_shell(script: str, *arguments: str | Path, sample: int, of: int) -> Result:
    """A shell loop, measured without any peer and with a sample of them; the difference is scaled to all."""
    fixed = timed_process("bash", HERE / "shell" / script, *arguments, "0")["seconds"]
    if not sample:
        return {"seconds": fixed, "made": 0, "of": of}
    with_sample = timed_process("bash", HERE / "shell" / script, *arguments, str(sample))["seconds"]
    return {"seconds": fixed + (with_sample - fixed) * of / sample, "made": sample, "of": of}


# --- the state before an operation --------------------------------------------------------------------


class Bench:
    """An interface and the workload on it."""

    def __init__(self, interface: Interface, workload: Workload) -> None:
        self.interface = interface
        self.name = interface.name
        self.workload = workload

    def records(self, name: str = "before") -> Iterator[BenchPeer]:
        return read_records(self.workload.file(f"{name}.raw"))

    def idle(self) -> Iterator[BenchPeer]:
        return (peer for at, peer in enumerate(self.records()) if at % IDLE_SHARE == 0)

    def changed(self) -> Iterator[tuple[BenchPeer, BenchPeer]]:
        return (pair for pair in zip(self.records(), self.records("after"), strict=True) if pair[0] != pair[1])

    def empty(self) -> None:
        self.interface.flush()

    def before(self) -> None:
        """Bring back what a load, a purge or a change, even half of one, has left."""
        if self.interface.state().peers < self.workload.peers // 2:
            self.interface.flush()
            self.interface.send_peers(map(encode_peer, self.records()))
            return
        for old, new in self.changed():
            self.interface.send_peers([encode_removal(old), encode_removal(new), encode_peer(old)])

    def with_idle(self) -> None:
        """One peer in ten has an endpoint and no handshake: what an answered initiation leaves."""
        self.interface.send_peers(map(encode_endpoint, self.idle()))

    def without_idle(self) -> None:
        self.interface.send_peers(map(encode_removal, self.idle()))


# --- cases and contenders -----------------------------------------------------------------------------

Run = Callable[[Bench], Result]


class Contender(NamedTuple):
    name: str
    run: Run
    most_peers: int = 1 << 20  # at larger sizes it is left out
    slow: bool = False  # so far from the others that no more rounds than asked for are needed
    prepare: Callable[[Bench], None] | None = None  # instead of the case's


class Case(NamedTuple):
    name: str
    prepare: Callable[[Bench], None]  # untimed
    ends: str  # which set of the workload the kernel must hold afterwards
    endpoints: bool  # whether the idle peers still have theirs
    contenders: list[Contender]


def lethe(case: str, file: str = "", name: str = "lethe") -> Contender:
    def run(bench: Bench) -> Result:
        files = [bench.workload.file(file)] if file else []
        return python_process("lethe_contender.py", case, bench.name, *files)

    return Contender(name, run)


def wg(*command: str, file: str = "") -> Contender:
    def run(bench: Bench) -> Result:
        files = [bench.workload.file(file)] if file else []
        verb, *rest = command
        return timed_process("wg", verb, bench.name, *rest, *files)

    return Contender(" ".join(("wg", *command)), run)


def pyroute2(case: str, file: str = "", sample: int = 1000) -> Contender:
    def run(bench: Bench) -> Result:
        files = [bench.workload.file(file)] if file else []
        return python_process("pyroute2_contender.py", case, bench.name, *files, "--sample", str(sample))

    return Contender("pyroute2", run, most_peers=100_000, slow=True)


def shell(script: str, of: Callable[[Bench], int], file: str = "", sample: int = 50) -> Contender:
    def run(bench: Bench) -> Result:
        files = [bench.workload.file(file)] if file else []
        return sampled_shell(script, bench.name, *files, sample=min(sample, of(bench)), of=of(bench))

    return Contender("shell loop", run, most_peers=100_000, slow=True)


def kernel_alone(peers: Callable[[Bench], Iterator[BenchPeer]], prepare: Callable[[Bench], None]) -> Contender:
    """What the kernel itself needs to add these peers: messages made beforehand, only their sending is timed."""

    def run(bench: Bench) -> Result:
        messages = list(bench.interface.messages(map(encode_peer, peers(bench))))
        started = time.perf_counter()
        for message in messages:
            bench.interface.send(message)
        return {"seconds": time.perf_counter() - started}

    return Contender("kernel alone", run, prepare=prepare)


def kernel_purge(bench: Bench) -> Result:
    """What the kernel itself needs to list all peers, and to remove and add the idle ones."""
    pairs = (encode_removal(peer) + encode_peer(peer) for peer in bench.idle())
    messages = list(bench.interface.messages(pairs))
    started = time.perf_counter()
    bench.interface.drain_dump()
    for message in messages:
        bench.interface.send(message)
    return {"seconds": time.perf_counter() - started}


def changed_count(bench: Bench) -> int:
    return sum(1 for _ in bench.changed())


CASES = [
    Case("load", Bench.empty, "before", False, [
        lethe("load", "before.packed"),
        lethe("load", "before.jsonl", "lethe, JSON"),
        wg("setconf", file="before.conf"),
        pyroute2("load", "before.jsonl"),
        shell("load", lambda bench: bench.workload.peers, "before.tsv"),
        kernel_alone(Bench.records, Bench.empty),
    ]),
    Case("no-op", lambda bench: None, "before", False, [
        lethe("no-op", "before.packed"),
        lethe("no-op", "before.jsonl", "lethe, JSON"),
        wg("syncconf", file="before.conf"),
        pyroute2("no-op", "before.jsonl"),
        shell("reconcile", lambda bench: 0, "before.tsv"),
    ]),
    Case("change 1 %", Bench.before, "after", False, [
        lethe("change 1 %", "after.packed"),
        lethe("change 1 %", "after.jsonl", "lethe, JSON"),
        wg("syncconf", file="after.conf"),
        pyroute2("change 1 %", "after.jsonl"),
        shell("reconcile", changed_count, "after.tsv"),
    ]),
    Case("dump", Bench.with_idle, "before", True, [
        lethe("dump"),
        wg("show", "dump"),
        pyroute2("dump"),
    ]),
    Case("purge 10 %", Bench.with_idle, "before", False, [
        lethe("purge 10 %"),
        kernel_alone(Bench.idle, Bench.without_idle),
        Contender("kernel alone, purge", kernel_purge),
        pyroute2("purge 10 %"),
        shell("purge", lambda bench: bench.workload.idle),
    ]),
]  # fmt: skip


# --- the run ------------------------------------------------------------------------------------------


def check(bench: Bench, case: Case, contender: Contender, result: Result) -> None:
    """A contender that was quick because it did nothing, or something else, must not win."""
    state = bench.interface.state()
    if "made" in result and result["made"] < result["of"]:
        return  # a sample: the state is half-way, and brought back before the next operation
    problem = ""
    if state.peers != bench.workload.peers:
        problem = f"{state.peers} peers, not {bench.workload.peers}"
    elif state.digest != bench.workload.digests[case.ends]:
        problem = f"the keys or allowed IPs are not those of the set '{case.ends}'"
    elif state.endpoints != (bench.workload.idle if case.endpoints else 0):
        problem = f"{state.endpoints} endpoints"
    if problem:
        raise SystemExit(f"measure: after {case.name} by {contender.name} the kernel is wrong: {problem}")


def measure(bench: Bench, rounds: int, cases: list[Case], out: TextIO) -> None:
    # Where a round takes seconds there are more of them: what else the machine does hits some, not most.
    turns = rounds * (3 if bench.workload.peers <= 10_000 else 1)
    for turn in range(turns):
        for case in cases:
            contenders = [
                c for c in case.contenders if bench.workload.peers <= c.most_peers and not (c.slow and turn >= rounds)
            ]
            first = turn % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
                (contender.prepare or case.prepare)(bench)
                result = contender.run(bench)
                check(bench, case, contender, result)
                key = {"case": case.name, "peers": bench.workload.peers, "contender": contender.name, "round": turn}
                print(json.dumps({**key, **result}), file=out, flush=True)
                units = bench.workload.idle if case.name.startswith("purge") else bench.workload.peers
                made, of = result.get("made", 0), result.get("of", 0)
                scaled = f"  ({made} of {of} calls made)" if made < of else ""
                print(
                    f"{bench.workload.peers:>9,} peers  round {turn + 1}/{turns}  {case.name:<10}  {contender.name:<12}"
                    f" {result['seconds'] / units * 1e6:>11,.2f} µs per peer{scaled}",
                    file=sys.stderr,
                    flush=True,
                )
            if case.name in ("load", "change 1 %", "purge 10 %"):
                bench.before()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("workloads", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="only this one")
    parser.add_argument("--without", action="append", default=[], metavar="CONTENDER", help="leave it out")
    options = parser.parse_args()
    cases = [
        case._replace(contenders=[c for c in case.contenders if c.name not in options.without])
        for case in CASES
        if not options.case or case.name in options.case
    ]
    interface = Interface("wg0")
    with options.results.open("w") as out:
        for directory in options.workloads:
            bench = Bench(interface, Workload(directory))
            bench.before()  # also warms the kernel's memory up: no contender is the first to touch it
            measure(bench, options.rounds, cases, out)
            bench.empty()


if __name__ == "__main__":
    main()
