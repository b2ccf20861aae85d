"""Tables, JSON and the plot of a run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.goals import GOALS, Goal, judge
from benchmarks.peers import PEERS
from benchmarks.results import Metric, Results, Summary

__all__ = ["Run", "as_json", "as_markdown", "draw", "table", "write"]

_PLOT_SECONDS = 120


class Told(Protocol):
    """What a report needs to know of a workload."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def peers(self) -> tuple[str, ...]: ...
    @property
    def metrics(self) -> tuple[Metric, ...]: ...


def _server_titles() -> dict[str, str]:
    return {peer.name: peer.title for peer in PEERS.values()}


@dataclass(frozen=True)
class Run:
    """A run to tell about: *facts* are the machine, the versions, the settings, by title;
    *titles* are those of the peers."""

    facts: dict[str, str]
    workloads: Sequence[Told]
    results: Results
    titles: Mapping[str, str] = field(default_factory=_server_titles)
    goals: Sequence[Goal] = GOALS


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]

    def render(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([render(lines[0]), render(rule), *map(render, lines[1:])])


def number(value: float) -> str:
    """Three digits that count, or the whole number."""
    if abs(value) >= 99.95:  # as rounded, or 99.96 were 100.0
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def spread(found: Summary | None, unit: str = "") -> str:
    """The median, and the least and most where they differ from it as printed."""
    if found is None:
        return "-"
    median, least, most = number(found.median), number(found.least), number(found.most)
    text = f"{median}{' ' if unit[:1].isalpha() and unit != 'x' else ''}{unit}"
    return text if median == least == most else f"{text} ({least} - {most})"


def workload_table(workload: Told, results: Results, titles: Mapping[str, str]) -> str:
    """A row for each peer: its figures, and how flare compares by the first of them."""
    metrics = workload.metrics
    main = metrics[0]
    rows: list[list[str]] = []
    notes: list[str] = []
    for name in workload.peers:
        key = (workload.name, name)
        if key not in results.values and key not in results.notes:
            continue
        cells = [spread(results.summary(*key, metric.name), metric.unit) for metric in metrics]
        rows.append([titles[name], *cells, _compared(workload, main, name, results)])
        notes += [f"- {titles[name]}: {_one_line(text)}" for text in results.notes.get(key, [])]
    text = table(["", *(metric.title for metric in metrics), "flare is"], rows)
    return "\n".join([text, "", *notes, ""]) if notes else text + "\n"


def _compared(workload: Told, main: Metric, name: str, results: Results) -> str:
    if name == "flare":
        return ""
    ratio = results.ratio(workload.name, main.name, "flare", name)
    return "-" if ratio is None else spread(ratio, "x")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def goals_table(results: Results, workloads: set[str], goals: Sequence[Goal]) -> str:
    rows = [
        [
            goal.text,
            f"{'at least' if goal.floor else 'at most'} {spread(_exactly(goal.limit), goal.unit)}",
            spread(found, goal.unit),
            verdict,
        ]
        for goal, found, verdict in judge(results, workloads, goals)
    ]
    return table(["must reach", "limit", "measured", "verdict"], rows) + "\n"


def _exactly(value: float) -> Summary:
    return Summary(value, value, value)


def as_markdown(run: Run) -> str:
    """The whole run: facts, a table for each workload, the goals."""
    parts = ["\n".join(f"- {title}: {value}" for title, value in run.facts.items()), ""]
    for workload in run.workloads:
        parts += [f"### {workload.title}", "", workload_table(workload, run.results, run.titles)]
    parts += ["### Must reach", "", goals_table(run.results, _names(run), run.goals)]
    return "\n".join(parts)


def _names(run: Run) -> set[str]:
    return {workload.name for workload in run.workloads}


def as_json(run: Run) -> dict[str, Any]:
    """The whole run, every value of every round included, for programs."""
    return {
        "facts": run.facts,
        "workloads": [
            {
                "name": workload.name,
                "title": workload.title,
                "metrics": [
                    {
                        "name": metric.name,
                        "title": metric.title,
                        "unit": metric.unit,
                        "more_is_better": metric.more_is_better,
                    }
                    for metric in workload.metrics
                ],
                "peers": [
                    {
                        "name": name,
                        "title": run.titles[name],
                        "rounds": [
                            {"round": round_, **figures}
                            for round_, figures in run.results.values.get(
                                (workload.name, name), {}
                            ).items()
                        ],
                        "notes": run.results.notes.get((workload.name, name), []),
                    }
                    for name in workload.peers
                ],
            }
            for workload in run.workloads
        ],
        "goals": [
            {
                "workload": goal.workload,
                "text": goal.text,
                "limit": goal.limit,
                "at_least": goal.floor,
                "measured": None if found is None else found.median,
                "verdict": verdict,
            }
            for goal, found, verdict in judge(run.results, _names(run), run.goals)
        ],
    }


def write(run: Run, stem: Path) -> list[Path]:
    """Write *stem*.json and *stem*.md; what was written."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    data, text = stem.with_suffix(".json"), stem.with_suffix(".md")
    data.write_text(json.dumps(as_json(run), indent=1) + "\n", "utf-8")
    text.write_text(as_markdown(run), "utf-8")
    return [data, text]


def draw(python: Path, data: Path) -> Path:
    """Have *python*, which has what draws, make a PNG of *data* beside it.

    Raises ``RuntimeError`` with its last words where that fails or takes two minutes.
    """
    picture = data.with_suffix(".png")
    command = [str(python), "-m", "benchmarks.plot", str(data), str(picture)]
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=_PLOT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the plot was not done after {_PLOT_SECONDS} s") from None
    if done.returncode:
        raise RuntimeError(f"the plot failed: {done.stderr[-1000:].strip()}")
    return picture
