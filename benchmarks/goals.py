"""What flare must reach. Ratios of medians in one run, so that they hold on any machine.

They are printed, never enforced: a busy machine is no bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.results import Results, Summary

__all__ = ["GOALS", "Goal", "Verdict", "judge"]

Verdict = Literal["reached", "not reached", "not measured"]

_IDEAL_SLEEPERS = 64 / 0.1


@dataclass(frozen=True)
class Goal:
    """A limit for a figure of flare's, or for its ratio to that of *peer*.

    *floor*: at least that much, else at most.
    """

    workload: str
    text: str
    metric: str
    limit: float
    unit: str = "x"
    peer: str | None = None
    floor: bool = True

    def measured(self, results: Results) -> Summary | None:
        if self.peer is not None:
            return results.ratio(self.workload, self.metric, "flare", self.peer)
        return results.summary(self.workload, "flare", self.metric)

    def verdict(self, results: Results) -> Verdict:
        found = self.measured(results)
        if found is None:
            return "not measured"
        kept = found.median >= self.limit if self.floor else found.median <= self.limit
        return "reached" if kept else "not reached"


def _faster(workload: str, peer: str, factor: float) -> Goal:
    return Goal(workload, f"{workload}: of {peer}", "rate", factor, peer=peer)


GOALS: tuple[Goal, ...] = (
    _faster("plaintext", "granian", 1.5),
    _faster("plaintext", "uvicorn", 2.5),
    _faster("plaintext", "gunicorn", 8.0),
    _faster("plaintext", "waitress", 8.0),
    _faster("plaintext", "nginx", 0.7),
    _faster("static", "nginx", 0.95),
    Goal("sleep", "sleep: 90 % of the ideal 640/s", "rate", 0.9 * _IDEAL_SLEEPERS, "/s"),
    Goal("beside-sleep", "beside sleepers: speed, of alone", "share", 0.4),
    Goal("beside-sleep", "beside sleepers: p99", "p99_ms", 50, "ms", floor=False),
    Goal("beside-compute", "beside computers: speed, of alone", "share", 0.2),
    Goal("beside-compute", "beside computers: p99", "p99_ms", 50, "ms", floor=False),
    Goal("connections", "1024 connections, of 64", "kept", 0.85),
    Goal("idle", "idle: memory a connection", "bytes", 2048, "B", floor=False),
    # No timer nor poll may go round by itself; half a per cent is what the clock cannot tell.
    Goal("idle", "idle: processor, of a core", "cpu", 0.5, "%", floor=False),
    Goal("workers", "two workers: requests per CPU second, of one", "efficiency", 0.9),
    Goal("workers", "two workers: the busier one's requests", "busier", 60, "%", floor=False),
)


def judge(
    results: Results, workloads: set[str], goals: Sequence[Goal] = GOALS
) -> list[tuple[Goal, Summary | None, Verdict]]:
    """Those of *goals* that are of *workloads*, with what was measured."""
    return [
        (goal, goal.measured(results), goal.verdict(results))
        for goal in goals
        if goal.workload in workloads
    ]
