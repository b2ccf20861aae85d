"""``python -m benchmarks tls``: HTTPS servers, all with the same kind of key (ECDSA P-256).

The load is wrk's. It would resume sessions, so where each request is to cost a full handshake, by
``Connection: close``, servers issue no tickets. A handshake costs wrk more than the server, so the
figure to compare there is the one for each second of processor time.
"""

from __future__ import annotations

import argparse
import shutil

from benchmarks.apps.common import BLOB_SIZES, blob
from benchmarks.command import add_arguments as add_common_arguments
from benchmarks.environment import SetupError
from benchmarks.goals import Goal
from benchmarks.measures import Ask, Throughput, Workload
from benchmarks.peers import PEERS, Deployment
from benchmarks.server import compare

__all__ = ["TLS_GOALS", "TLS_PEERS", "TLS_WORKLOADS", "add_arguments", "run"]

TLS_PEERS = {name: PEERS[name] for name in ("flare", "granian", "nginx")}
_ALL = tuple(TLS_PEERS)
_TLS = Deployment(tls=True)

TLS_WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Throughput("https", "plaintext over kept-alive HTTPS", Ask(), _ALL, deployment=_TLS),
        Throughput(
            "https-64k",
            "download 64 KB over HTTPS",
            Ask(f"/blob/{BLOB_SIZES[0]}", blob(BLOB_SIZES[0])),
            _ALL,
            deployment=_TLS,
        ),
        Throughput(
            "handshakes",
            "a connection, and a full handshake, for each request",
            Ask(headers=(("Connection", "close"),)),
            ("flare", "nginx"),  # granian has no way to do without tickets
            deployment=Deployment(tls=True, resumption=False),
        ),
    )
}

TLS_GOALS: tuple[Goal, ...] = (
    Goal("https", "https: of granian", "rate", 1.3, peer="granian"),
    Goal("handshakes", "handshakes: of nginx, per CPU second", "per_cpu", 0.5, peer="nginx"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, TLS_WORKLOADS, TLS_PEERS, "tls")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write. 0 whatever the figures are."""
    if shutil.which("openssl") is None:
        raise SetupError("openssl not found: install with the system's package manager")
    return compare(arguments, TLS_WORKLOADS, TLS_PEERS, TLS_GOALS, "tls")
