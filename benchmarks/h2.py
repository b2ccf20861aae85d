"""``python -m benchmarks h2``: HTTP/2 servers and decoders, round by round."""

from __future__ import annotations

import argparse
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environment import describe, make_environment, require_programs, versions
from benchmarks.h2_workloads import H2_GOALS, H2_PEERS, H2_WORKLOADS
from benchmarks.measures import Bench
from benchmarks.processes import choose_cores, raise_descriptor_limit
from benchmarks.report import Run, as_markdown, draw, write
from benchmarks.server import RESULTS, measure_all, positive, some_of, times

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--seconds", type=positive, default=5, metavar="S", help="of one measurement; default: 5"
    )
    parser.add_argument(
        "--only", type=some_of(H2_WORKLOADS), metavar="WORKLOAD,...", help=", ".join(H2_WORKLOADS)
    )
    parser.add_argument(
        "--peers", type=some_of(H2_PEERS), metavar="PEER,...", help=", ".join(H2_PEERS)
    )
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument(
        "--name", help="of the files in benchmarks/results; default: h2 and the time"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write. 0 whatever the figures are."""
    began = datetime.now(UTC)
    rounds = 1 if arguments.quick else arguments.rounds
    seconds = 1 if arguments.quick else arguments.seconds
    peers = [H2_PEERS[name] for name in arguments.peers or H2_PEERS]
    workloads = [H2_WORKLOADS[name] for name in arguments.only or H2_WORKLOADS]
    require_programs([peer.name for peer in peers], load="h2load")
    python = make_environment()
    cores = choose_cores(os.sched_getaffinity(0))
    facts = {"date": f"{began:%Y-%m-%d %H:%M} UTC", **describe(python, cores)}
    facts["versions"] = ", ".join(
        f"{name} {version}" for name, version in versions(python, peers, "h2load").items()
    )
    facts["settings"] = f"{times(rounds, 'round')} of {seconds} s, medians (least - most)"
    with tempfile.TemporaryDirectory(prefix="flare-benchmark-") as scripts:
        bench = Bench(python, cores, seconds, Path(scripts), raise_descriptor_limit(), 0)
        results = measure_all(workloads, peers, rounds, bench)
    titles = {peer.name: peer.title for peer in H2_PEERS.values()}
    finished = Run(facts, workloads, results, titles, H2_GOALS)
    print("\n" + as_markdown(finished))
    written = write(finished, RESULTS / (arguments.name or f"h2-{began:%Y%m%d-%H%M%S}"))
    try:
        written.append(draw(python, written[0]))
    except RuntimeError as error:
        print(error)
    print(f"written to {RESULTS}: {', '.join(path.name for path in written)}")
    return 0
