"""``python -m benchmarks server``: HTTP/1.1 servers, round by round, one peer after the other."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environment import describe, make_environment, require_programs, versions
from benchmarks.goals import GOALS, Goal
from benchmarks.launcher import LaunchError, NotAvailable
from benchmarks.load import LoadError
from benchmarks.measures import Bench, Workload
from benchmarks.peers import PEERS, Peer
from benchmarks.processes import choose_cores, raise_descriptor_limit
from benchmarks.report import Run, as_markdown, draw, write
from benchmarks.results import Results
from benchmarks.workloads import WORKLOADS

__all__ = ["RESULTS", "add_arguments", "compare", "positive", "run", "some_of", "times"]

RESULTS = Path(__file__).resolve().parent / "results"
_START_SECONDS = 1
_IDLE_CONNECTIONS = 10_000
_QUICK_IDLE_CONNECTIONS = 1_000


def add_arguments(
    parser: argparse.ArgumentParser,
    workloads: Mapping[str, Workload] = WORKLOADS,
    peers: Mapping[str, Peer] = PEERS,
    name: str = "server",
) -> None:
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--seconds", type=positive, default=5, metavar="S", help="of one measurement; default: 5"
    )
    parser.add_argument(
        "--only", type=some_of(workloads), metavar="WORKLOAD,...", help=", ".join(workloads)
    )
    parser.add_argument("--peers", type=some_of(peers), metavar="PEER,...", help=", ".join(peers))
    parser.add_argument(
        "--quick", action="store_true", help="one round of one second, 1,000 idle connections"
    )
    parser.add_argument(
        "--name", help=f"of the files in benchmarks/results; default: {name} and the time"
    )


def positive(text: str) -> int:
    """An argument that is a number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def some_of(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    """An argument that lists some of *known*, in the order of that."""

    def parse(text: str) -> list[str]:
        wanted = text.split(",")
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return [name for name in known if name in wanted]

    return parse


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write. 0 whatever the figures are."""
    return compare(arguments, WORKLOADS, PEERS, GOALS, "server")


def compare(
    arguments: argparse.Namespace,
    all_workloads: Mapping[str, Workload],
    all_peers: Mapping[str, Peer],
    goals: Sequence[Goal],
    title: str,
) -> int:
    """``run``, for these workloads, peers and goals; *title* is what files are called."""
    began = datetime.now(UTC)
    rounds = 1 if arguments.quick else arguments.rounds
    seconds = 1 if arguments.quick else arguments.seconds
    peers = [all_peers[name] for name in arguments.peers or all_peers]
    workloads = [all_workloads[name] for name in arguments.only or all_workloads]
    require_programs([peer.name for peer in peers])
    python = make_environment()
    cores = choose_cores(os.sched_getaffinity(0))
    descriptors = raise_descriptor_limit()
    facts = {"date": f"{began:%Y-%m-%d %H:%M} UTC", **describe(python, cores)}
    facts["versions"] = ", ".join(
        f"{name} {version}" for name, version in versions(python, peers).items()
    )
    facts["settings"] = f"{times(rounds, 'round')} of {seconds} s, medians (least - most)"
    with tempfile.TemporaryDirectory(prefix="flare-benchmark-") as scripts:
        idle = _QUICK_IDLE_CONNECTIONS if arguments.quick else _IDLE_CONNECTIONS
        bench = Bench(python, cores, seconds, Path(scripts), descriptors, idle)
        _announce(workloads, peers, rounds, bench)
        results = measure_all(workloads, peers, rounds, bench)
    finished = Run(facts, workloads, results, goals=goals)
    print("\n" + as_markdown(finished))
    name = arguments.name or f"{title}-{began:%Y%m%d-%H%M%S}"
    written = write(finished, RESULTS / name)
    try:
        written.append(draw(python, written[0]))
    except RuntimeError as error:
        print(error)
    print(f"written to {RESULTS}: {', '.join(path.name for path in written)}")
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


def times(count: int, what: str) -> str:
    """How many of what, in words that agree."""
    return f"{count} {what}{'' if count == 1 else 's'}"


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
