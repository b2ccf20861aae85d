"""What worker processes and their parent tell each other without a message: numbers, in memory
that they share.

Each process writes one line of its own, and only that; the parent writes the sum of those that are
gone, and everybody may read all. A line outlives its writer, so what a killed worker last wrote can
still be read.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import MutableSequence
from typing import Final

from flare.http.server.stats import ERROR_STATUSES, Counts, ServerStats
from flare.runtime.report import ShutdownReport

__all__ = ["CLEAN", "DRAINING", "SERVING", "STARTING", "Line", "Scoreboard"]

STARTING: Final = 0
SERVING: Final = 1
DRAINING: Final = 2
CLEAN: Final = 3
"""It has said good-bye: whatever ends the process now, it is no crash."""

_COUNTS: Final = len(Counts._fields)
# A line, in cells of eight bytes: the state, the report of its drain, the counts, the errors.
_STATE, _DRAINED, _TIMED_OUT, _IN_FLIGHT, _FIRST_COUNT = range(5)
_FIRST_ERROR: Final = _FIRST_COUNT + _COUNTS
_FIELDS: Final = -(-(_FIRST_ERROR + len(ERROR_STATUSES)) // 8) * 8  # whole lines of the cache
_PUBLISH: Final = struct.Struct(f"@{_COUNTS}q").pack_into
_MOST_READS: Final = 100


class Scoreboard:
    """*count* lines of anonymous shared memory. Made before the fork; ``close`` frees it."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, (count + 2) * _FIELDS * 8)
        self._cells = memoryview(self._memory).cast("q")
        # The first cell changes before and after a line is moved to the sum of those gone.
        self._gone = Line(self._memory, self._cells, _FIELDS)
        self.lines = [
            Line(self._memory, self._cells, number * _FIELDS) for number in range(2, count + 2)
        ]

    def settle(self, line: Line) -> None:
        """The process of *line* is gone: add its counts to those of the past. The parent's
        call."""
        self._cells[0] += 1
        self._gone.publish(self._gone.counts.plus(line.counts.of_the_past()))
        for status, number in enumerate(line.errors):
            if number:
                self._gone.errors[status] += number
        line.clear_counts()
        self._cells[0] += 1

    def stats(self) -> ServerStats:
        """All lines together. Safe from any process, at any time before ``close``."""
        for _ in range(_MOST_READS):
            before = self._cells[0]
            lines = [self._gone, *self.lines]
            stats = ServerStats.of(
                [line.counts for line in lines], [list(line.errors) for line in lines]
            )
            if before % 2 == 0 and before == self._cells[0]:
                break
        return stats

    def close(self) -> None:
        """Free the memory. No line may be used any more, and ``stats`` raises ``ValueError``."""
        self._cells.release()
        try:
            self._memory.close()
        except BufferError:  # somebody reads just now; it goes when nobody does
            pass


class Line:
    """The numbers of one process. Each is written whole, so a reader never sees half of one."""

    __slots__ = ("_at", "_cells", "_memory")

    def __init__(self, memory: mmap.mmap, cells: memoryview, at: int) -> None:
        self._memory = memory
        self._cells = cells
        self._at = at

    def clear(self) -> None:
        """Be ready for the next process. The parent's call, before the fork."""
        for field in range(_FIELDS):
            self._cells[self._at + field] = 0

    def clear_counts(self) -> None:
        """Forget the counts; state and report stay."""
        for field in range(_FIRST_COUNT, _FIELDS):
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
        """Connections that were open when it last published."""
        return int(self._cells[self._at + _FIRST_COUNT])

    def publish(self, counts: Counts) -> None:
        """The process's own call, once a turn of its loop."""
        _PUBLISH(self._memory, (self._at + _FIRST_COUNT) * 8, *counts)

    @property
    def counts(self) -> Counts:
        """What was published last."""
        first = self._at + _FIRST_COUNT
        return Counts(*self._cells[first : first + _COUNTS])

    @property
    def errors(self) -> MutableSequence[int]:
        """A number for each of ``ERROR_STATUSES``, to be read and written in place."""
        first = self._at + _FIRST_ERROR
        return self._cells[first : first + len(ERROR_STATUSES)]  # type: ignore[return-value]

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
