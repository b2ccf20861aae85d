"""``python -m benchmarks server``: HTTP/1.1 servers, round by round, one peer after the other."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.command import add_arguments as add_common_arguments
from benchmarks.command import publish, times
from benchmarks.environment import describe, make_environment, require_programs, versions
from benchmarks.goals import GOALS, Goal
from benchmarks.launcher import LaunchError, NotAvailable
from benchmarks.load import LoadError
from benchmarks.measures import Bench, Workload
from benchmarks.peers import PEERS, Peer
from benchmarks.processes import choose_cores, raise_descriptor_limit
from benchmarks.report import Run
from benchmarks.results import Results
from benchmarks.workloads import WORKLOADS

__all__ = ["add_arguments", "compare", "run"]

_START_SECONDS = 1
_IDLE_CONNECTIONS = 10_000
_QUICK_IDLE_CONNECTIONS = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    quick = "one round of one second, 1,000 idle connections"
    add_common_arguments(parser, WORKLOADS, PEERS, "server", quick=quick)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write. 0 whatever the figures are."""
    return compare(arguments, WORKLOADS, PEERS, GOALS, "server")


def compare(
    arguments: argparse.Namespace,
    all_workloads: Mapping[str, Workload],
    all_peers: Mapping[str, Peer],
    goals: Sequence[Goal],
    title: str,
    load: str = "wrk",
) -> int:
    """``run``, for these workloads, peers and goals; *title* is what files are called, *load* the
    program that makes the load."""
    began = datetime.now(UTC)
    rounds = 1 if arguments.quick else arguments.rounds
    seconds = 1 if arguments.quick else arguments.seconds
    peers = [all_peers[name] for name in arguments.peers or all_peers]
    workloads = [all_workloads[name] for name in arguments.only or all_workloads]
    require_programs([peer.name for peer in peers], load=load)
    python = make_environment()
    cores = choose_cores(os.sched_getaffinity(0))
    descriptors = raise_descriptor_limit()
    facts = {"date": f"{began:%Y-%m-%d %H:%M} UTC", **describe(python, cores)}
    facts["versions"] = ", ".join(
        f"{name} {version}" for name, version in versions(python, peers, load).items()
    )
    facts["settings"] = f"{times(rounds, 'round')} of {seconds} s, medians (least - most)"
    with tempfile.TemporaryDirectory(prefix="flare-benchmark-") as scripts:
        idle = _QUICK_IDLE_CONNECTIONS if arguments.quick else _IDLE_CONNECTIONS
        bench = Bench(python, cores, seconds, Path(scripts), descriptors, idle)
        _announce(workloads, peers, rounds, bench)
        results = measure_all(workloads, peers, rounds, bench)
    titles = {peer.name: peer.title for peer in all_peers.values()}
    finished = Run(facts, workloads, results, titles, goals)
    publish(finished, python, title, began, arguments.name)
    return 0


def _announce(
    workloads: Sequence[Workload], peers: Sequence[Peer], rounds: int, bench: Bench
) -> None:
    total = rounds * sum(
        (workload.seconds(bench) + _START_SECONDS)
        * sum(peer.name in workload.peers for peer in peers)
        for workload in workloads
    )
    print(
        f"{times(len(workloads), 'workload')}, {times(rounds, 'round')}:"
        f" about {total // 60 + 1} min",
        flush=True,
    )


def measure_all(
    workloads: Sequence[Workload], peers: Sequence[Peer], rounds: int, bench: Bench
) -> Results:
    """All peers once, then all again: what the machine does meanwhile meets everybody alike."""
    results = Results()
    for workload in workloads:
        missing: set[str] = set()
        for number in range(1, rounds + 1):
            for peer in peers:
                if peer.name not in workload.peers or peer.name in missing:
                    continue
                said = f"{workload.name} {number}/{rounds} {peer.name}:"
                try:
                    figures = workload.measure(bench, peer)
                except NotAvailable as error:
                    missing.add(peer.name)
                    results.note(workload.name, peer.name, f"not available: {error}")
                    print(said, "not available", flush=True)
                except (LoadError, LaunchError) as error:
                    results.note(workload.name, peer.name, f"a round does not count: {error}")
                    print(said, error, flush=True)
                else:
                    results.add(workload.name, peer.name, number, figures)
                    main = workload.metrics[0]
                    print(said, f"{figures[main.name]:,.2f} {main.title}", flush=True)
    return results
