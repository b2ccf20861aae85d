"""What was measured: by workload, peer and figure, one value a round. Medians, spreads, ratios."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

__all__ = ["Metric", "Results", "Summary", "summarise"]


@dataclass(frozen=True)
class Metric:
    """A figure that a workload yields, and whether more of it is better."""

    name: str
    title: str
    unit: str
    more_is_better: bool = True


@dataclass(frozen=True)
class Summary:
    """The median of some rounds, the least and the most of them."""

    median: float
    least: float
    most: float


def summarise(values: list[float]) -> Summary | None:
    """None for no values."""
    if not values:
        return None
    return Summary(statistics.median(values), min(values), max(values))


@dataclass
class Results:
    """Filled round by round. What failed has a note instead of a value."""

    values: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=dict)
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, workload: str, peer: str, figures: dict[str, float]) -> None:
        self.values.setdefault((workload, peer), []).append(figures)

    def note(self, workload: str, peer: str, text: str) -> None:
        self.notes.setdefault((workload, peer), []).append(text)

    def rounds(self, workload: str, peer: str, metric: str) -> list[float]:
        """The values of *metric*, round by round; a round that failed has none."""
        found = self.values.get((workload, peer), [])
        return [figures[metric] for figures in found if metric in figures]

    def summary(self, workload: str, peer: str, metric: str) -> Summary | None:
        return summarise(self.rounds(workload, peer, metric))

    def median(self, workload: str, peer: str, metric: str) -> float | None:
        found = self.summary(workload, peer, metric)
        return None if found is None else found.median

    def ratio(self, workload: str, metric: str, peer: str, other: str) -> Summary | None:
        """*peer* over *other*: of their medians, with the spread of the rounds' own ratios.

        The spread is of rounds in which both were measured. Where there is none, or *other*
        reached nothing, there is no ratio.
        """
        mine = self.rounds(workload, peer, metric)
        theirs = self.rounds(workload, other, metric)
        if not mine or not theirs or not statistics.median(theirs):
            return None
        ratio = statistics.median(mine) / statistics.median(theirs)
        paired = [ratio]
        if len(mine) == len(theirs):  # no round failed, so they pair up
            paired = [m / t for m, t in zip(mine, theirs, strict=True) if t] or paired
        return Summary(ratio, min(paired), max(paired))
