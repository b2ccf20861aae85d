"""What worker processes and their parent tell each other without a message: numbers, in memory
that they share.

Each process writes one line of its own, and only that; the parent reads them all. A line outlives
its writer, so what a killed worker last wrote can still be read.
"""

from __future__ import annotations

import mmap
from typing import Final

from flare.runtime.report import ShutdownReport

__all__ = ["CLEAN", "DRAINING", "SERVING", "STARTING", "Line", "Scoreboard"]

STARTING: Final = 0
SERVING: Final = 1
DRAINING: Final = 2
CLEAN: Final = 3
"""It has said good-bye: whatever ends the process now, it is no crash."""

_FIELDS: Final = 8  # eight bytes each: a line of the scoreboard is a line of the cache
_STATE, _LIVE, _REQUESTS, _DRAINED, _TIMED_OUT, _IN_FLIGHT = range(6)


class Scoreboard:
    """*count* lines of anonymous shared memory. Made before the fork; ``close`` frees it."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * _FIELDS * 8)
        self._cells = memoryview(self._memory).cast("q")
        self.lines = [Line(self._cells, number * _FIELDS) for number in range(count)]

    def close(self) -> None:
        """Free the memory. No line may be used any more."""
        self._cells.release()
        self._memory.close()


class Line:
    """The numbers of one process. Each is written whole, so a reader never sees half of one."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: memoryview, at: int) -> None:
        self._cells = cells
        self._at = at

    def clear(self) -> None:
        """Be ready for the next process. The parent's call, before the fork."""
        for field in range(_FIELDS):
            self._cells[self._at + field] = 0

    @property
    def state(self) -> int:
        """``STARTING``, ``SERVING``, ``DRAINING`` or ``CLEAN``."""
        return int(self._cells[self._at + _STATE])

    @state.setter
    def state(self, state: int) -> None:
        self._cells[self._at + _STATE] = state

    @property
    def live(self) -> int:
        """Connections that are open."""
        return int(self._cells[self._at + _LIVE])

    @property
    def requests(self) -> int:
        """Requests whose handler was called."""
        return int(self._cells[self._at + _REQUESTS])

    def publish(self, live: int, requests: int) -> None:
        """The process's own call, once a turn of its loop."""
        self._cells[self._at + _LIVE] = live
        self._cells[self._at + _REQUESTS] = requests

    @property
    def report(self) -> ShutdownReport:
        """How its drain ended; all zeros before that."""
        cells, at = self._cells, self._at
        return ShutdownReport(
            drained=int(cells[at + _DRAINED]),
            timed_out=int(cells[at + _TIMED_OUT]),
            in_flight_at_deadline=int(cells[at + _IN_FLIGHT]),
        )

    @report.setter
    def report(self, report: ShutdownReport) -> None:
        self._cells[self._at + _DRAINED] = report.drained
        self._cells[self._at + _TIMED_OUT] = report.timed_out
        self._cells[self._at + _IN_FLIGHT] = report.in_flight_at_deadline
