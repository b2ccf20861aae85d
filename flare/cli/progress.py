"""A line on a terminal that says how far a download is."""

from __future__ import annotations

import shutil
from time import monotonic
from typing import TextIO

__all__ = ["ProgressBar", "progress_line"]

_REDRAW_SECONDS = 0.1
_LEAST_BAR = 10


class ProgressBar:
    """Draws *name*'s progress on *terminal*, at most ten times a second.

    Call it with the bytes done and the size of the whole, ``None`` if that is unknown; ``finish``
    draws the end.
    """

    def __init__(self, terminal: TextIO, name: str) -> None:
        self._terminal = terminal
        self._name = name
        self._began = monotonic()
        self._first: int | None = None  # what was there before this run
        self._drawn = 0.0
        self._last: tuple[int, int | None] | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self._first is None:
            self._first = done
        self._last = done, total
        moment = monotonic()
        if moment - self._drawn >= _REDRAW_SECONDS:
            self._drawn = moment
            self._draw(done, total)

    def finish(self) -> None:
        """Draw the last state, and leave the line. Nothing where there never was one."""
        if self._last is not None:
            self._draw(*self._last)
            self._terminal.write("\n")
            self._terminal.flush()
            self._last = None

    def _draw(self, done: int, total: int | None) -> None:
        seconds = monotonic() - self._began
        width = shutil.get_terminal_size().columns
        line = progress_line(self._name, done, total, done - (self._first or 0), seconds, width - 1)
        self._terminal.write(f"\r{line}\x1b[K")
        self._terminal.flush()


def progress_line(
    name: str, done: int, total: int | None, received: int, seconds: float, width: int
) -> str:
    """The line: how much is *done* of *total*, at which rate *received* came in *seconds*; cut to
    *width* characters."""
    rate = received / seconds if seconds > 0 else 0.0
    speed = f"{_size(rate)}/s"
    shown = "".join(c if c.isprintable() else "?" for c in name)
    if total is None:
        return f"{shown}  {_size(done)}  {speed}"[:width]
    share = min(1.0, done / total) if total else 1.0
    left = (total - done) / rate if rate and done < total else 0.0
    text = f"{_size(done)} of {_size(total)}  {share:4.0%}  {speed}  {_time(left)} left"
    room = width - len(shown) - len(text) - 6
    if room < _LEAST_BAR:
        return f"{shown}  {text}"[:width]
    room = min(room, 40)
    full = int(share * room)
    return f"{shown}  [{'#' * full}{'.' * (room - full)}]  {text}"


def _size(count: float) -> str:
    """*count* bytes in units of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _time(seconds: float) -> str:
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
