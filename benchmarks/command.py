"""What the subcommands have in common: their arguments, and the files a run is told in."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from benchmarks.report import Run, as_markdown, draw, write

__all__ = ["add_arguments", "positive", "publish", "some_of", "times"]

_RESULTS = Path(__file__).resolve().parent / "results"


def add_arguments(
    parser: argparse.ArgumentParser,
    workloads: Mapping[str, object],
    peers: Mapping[str, object],
    name: str,
    *,
    rounds: int = 5,
    seconds: int | None = 5,
    quick: str = "one round of one second",
) -> None:
    """The arguments of the command *name*. With *seconds* of ``None`` measurements have a length
    of their own; *quick* says what ``--quick`` does."""
    parser.add_argument(
        "--rounds", type=positive, default=rounds, metavar="N", help=f"default: {rounds}"
    )
    if seconds is not None:
        parser.add_argument(
            "--seconds",
            type=positive,
            default=seconds,
            metavar="S",
            help=f"of one measurement; default: {seconds}",
        )
    parser.add_argument(
        "--only", type=some_of(workloads), metavar="WORKLOAD,...", help=", ".join(workloads)
    )
    parser.add_argument("--peers", type=some_of(peers), metavar="PEER,...", help=", ".join(peers))
    parser.add_argument("--quick", action="store_true", help=quick)
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


def times(count: int, what: str) -> str:
    """How many of what, in words that agree."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def publish(finished: Run, python: Path, title: str, began: datetime, name: str | None) -> None:
    """Print the tables of a run, write its files, and have *python* draw it. The files are called
    *name*, or else *title* and the time."""
    print("\n" + as_markdown(finished))
    written = write(finished, _RESULTS / (name or f"{title}-{began:%Y%m%d-%H%M%S}"))
    try:
        written.append(draw(python, written[0]))
    except RuntimeError as error:
        print(error)
    print(f"written to {_RESULTS}: {', '.join(path.name for path in written)}")
