"""``python -m benchmarks client``: HTTP/1.1 clients, round by round, one after the other."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.client_peers import CLIENTS, ClientPeer
from benchmarks.client_workloads import (
    CLIENT_GOALS,
    CLIENT_WORKLOADS,
    ClientBench,
    ClientWorkload,
    WorkerError,
    client_workers,
)
from benchmarks.command import add_arguments as add_common_arguments
from benchmarks.command import publish, times
from benchmarks.environment import client_versions, describe, make_environment, require_programs
from benchmarks.launcher import LaunchError
from benchmarks.processes import choose_cores
from benchmarks.report import Run
from benchmarks.results import Results

__all__ = ["add_arguments", "run"]

_QUICK_ROUNDS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(
        parser,
        CLIENT_WORKLOADS,
        CLIENTS,
        "client",
        rounds=21,
        seconds=None,
        quick="two rounds of everything",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write. 0 whatever the figures are."""
    began = datetime.now(UTC)
    rounds = _QUICK_ROUNDS if arguments.quick else arguments.rounds
    peers = [CLIENTS[name] for name in arguments.peers or CLIENTS]
    workloads = [CLIENT_WORKLOADS[name] for name in arguments.only or CLIENT_WORKLOADS]
    require_programs(["nginx"], load="")
    python = make_environment()
    cores = choose_cores(os.sched_getaffinity(0))
    facts = {"date": f"{began:%Y-%m-%d %H:%M} UTC", **describe(python, cores)}
    facts["cores"] = f"client on {_numbers(cores.server)}, its server on {_numbers(cores.load)}"
    packages = [name for peer in peers for name in peer.packages]
    facts["versions"] = ", ".join(
        f"{name} {version}" for name, version in client_versions(python, packages).items()
    )
    facts["settings"] = f"{times(rounds, 'round')}, fewer of what is slow; medians (least - most)"
    with tempfile.TemporaryDirectory(prefix="flare-benchmark-") as directory:
        bench = ClientBench(python, cores, Path(directory))
        results = measure_all(workloads, peers, rounds, bench)
    titles = {peer.name: peer.title for peer in CLIENTS.values()}
    finished = Run(facts, workloads, results, titles, CLIENT_GOALS)
    publish(finished, python, "client", began, arguments.name)
    return 0


def _numbers(cores: frozenset[int]) -> str:
    return " and ".join(map(str, sorted(cores)))


def measure_all(
    workloads: Sequence[ClientWorkload],
    peers: Sequence[ClientPeer],
    rounds: int,
    bench: ClientBench,
) -> Results:
    """All clients once, then all again, each workload with a fresh server and fresh clients."""
    results = Results()
    for workload in workloads:
        count = max(2, round(rounds * workload.share))
        print(f"{workload.name}: {times(count, 'round')}", flush=True)
        taking_part = [peer for peer in peers if peer.name in workload.peers]
        try:
            _measure(workload, taking_part, count, bench, results)
        except LaunchError as error:
            for peer in taking_part:
                results.note(workload.name, peer.name, f"not measured: {error}")
            print(f"{workload.name}: {error}", flush=True)
    return results


def _measure(
    workload: ClientWorkload,
    peers: Sequence[ClientPeer],
    rounds: int,
    bench: ClientBench,
    results: Results,
) -> None:
    with client_workers(peers, workload.sink, bench) as workers:
        for name, worker in list(workers.items()):
            try:
                workload.warm_up(worker, bench)
            except WorkerError as error:
                results.note(workload.name, name, f"not measured: {error}")
                print(f"{workload.name} {error}", flush=True)
                del workers[name]
        for number in range(1, rounds + 1):
            for name, worker in workers.items():
                try:
                    figures = workload.measure(worker, bench)
                except WorkerError as error:
                    results.note(workload.name, name, f"a round does not count: {error}")
                    print(f"{workload.name} {number}/{rounds} {error}", flush=True)
                else:
                    results.add(workload.name, name, number, figures)
