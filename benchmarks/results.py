"""What was measured: by workload, peer and figure, one value a round. Medians, spreads, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
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


def summarise(values: Iterable[float]) -> Summary | None:
    """None for no values."""
    values = list(values)
    if not values:
        return None
    return Summary(statistics.median(values), min(values), max(values))


@dataclass
class Results:
    """Filled round by round. What failed has a note instead of values."""

    values: dict[tuple[str, str], dict[int, dict[str, float]]] = field(default_factory=dict)
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, workload: str, peer: str, round_: int, figures: dict[str, float]) -> None:
        self.values.setdefault((workload, peer), {})[round_] = figures

    def note(self, workload: str, peer: str, text: str) -> None:
        notes = self.notes.setdefault((workload, peer), [])
        if text not in notes:
            notes.append(text)

    def rounds(self, workload: str, peer: str, metric: str) -> dict[int, float]:
        """The values of *metric* by round; a round that failed has none."""
        found = self.values.get((workload, peer), {})
        return {round_: figures[metric] for round_, figures in found.items() if metric in figures}

    def summary(self, workload: str, peer: str, metric: str) -> Summary | None:
        return summarise(self.rounds(workload, peer, metric).values())

    def ratio(self, workload: str, metric: str, peer: str, other: str) -> Summary | None:
        """*peer* over *other*: of their medians, with the spread of the rounds' own ratios.

        The spread is of the rounds in which both were measured. None where one never was, or
        where *other* reached nothing.
        """
        mine = self.rounds(workload, peer, metric)
        theirs = self.rounds(workload, other, metric)
        whole, part = summarise(theirs.values()), summarise(mine.values())
        if whole is None or part is None or not whole.median:
            return None
        ratio = part.median / whole.median
        paired = [mine[n] / theirs[n] for n in mine if theirs.get(n)] or [ratio]
        return Summary(ratio, min(paired), max(paired))
