"""Draws a run: ``python -m benchmarks.plot results.json picture.png``.

A panel for each workload, a bar for each peer, as long as the median of the first figure; a line
across its end from the least to the most of the rounds. Needs matplotlib, which is in the
environment of the benchmarks.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib  # type: ignore[import-not-found,unused-ignore]

matplotlib.use("Agg")

from matplotlib import pyplot

_COLUMNS = 3
_MINE, _OTHERS = "#d9480f", "#9aa5b1"


def draw(data: dict[str, Any], picture: Path) -> None:
    """Write *picture*, a PNG."""
    panels = [workload for workload in data["workloads"] if _bars(workload)]
    rows = max(1, math.ceil(len(panels) / _COLUMNS))
    figure, grid = pyplot.subplots(
        rows, _COLUMNS, figsize=(5.2 * _COLUMNS, 2.5 * rows + 0.6), squeeze=False
    )
    axes = [axis for row in grid for axis in row]
    for axis, workload in zip(axes, panels, strict=False):
        _panel(axis, workload)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    facts = data["facts"]
    figure.suptitle(
        f"flare {facts['commit']} and its peers, {facts['python']}, {facts['machine']}", fontsize=11
    )
    figure.tight_layout(rect=(0, 0, 1, 0.99))
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)


def _bars(workload: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """The peers that were measured, with the values of the rounds."""
    metric = workload["metrics"][0]["name"]
    found = [
        (peer["title"], [round_[metric] for round_ in peer["rounds"] if metric in round_])
        for peer in workload["peers"]
    ]
    return [(title, values) for title, values in found if values]


def _panel(axis: Any, workload: dict[str, Any]) -> None:
    metric = workload["metrics"][0]
    bars = _bars(workload)[::-1]  # the first at the top
    medians = [statistics.median(values) for _, values in bars]
    below = [median - min(values) for median, (_, values) in zip(medians, bars, strict=True)]
    above = [max(values) - median for median, (_, values) in zip(medians, bars, strict=True)]
    titles = [title for title, _ in bars]
    colours = [_MINE if title == "flare" else _OTHERS for title in titles]
    axis.barh(titles, medians, xerr=(below, above), color=colours, ecolor="#333333", capsize=2)
    axis.set_ylim(-0.6, max(len(bars), 4) - 0.4)  # one bar alone would fill its panel
    better = "" if metric["more_is_better"] else ", less is better"
    axis.set_title(workload["title"], fontsize=8)
    axis.set_xlabel(f"{metric['title']}{better}", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.margins(x=0.12)
    axis.locator_params(axis="x", nbins=5)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def main() -> None:
    source, picture = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text("utf-8")), picture)


if __name__ == "__main__":
    main()
