"""``python -m benchmarks h2``: HTTP/2 servers, decoders and clients, round by round."""

from __future__ import annotations

import argparse

from benchmarks.command import add_arguments as add_common_arguments
from benchmarks.environment import require_programs
from benchmarks.h2_workloads import H2_GOALS, H2_PEERS, H2_WORKLOADS
from benchmarks.server import compare

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, H2_WORKLOADS, H2_PEERS, "h2")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write. 0 whatever the figures are."""
    if "h2-client" in (arguments.only or H2_WORKLOADS):
        require_programs(["nginx"], load="h2load")
    return compare(arguments, H2_WORKLOADS, H2_PEERS, H2_GOALS, "h2", "h2load")
