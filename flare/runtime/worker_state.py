"""What a scheduler and one of its workers tell each other: a flag to end, and a few numbers."""

from __future__ import annotations

import os
import select
from typing import Final

__all__ = ["CLEAN", "CRASHED", "RUNNING", "StopFlag", "WorkerStats"]

RUNNING: Final = 0
CLEAN: Final = 1
CRASHED: Final = 2

_SERVE, _DRAIN, _STOP = range(3)

CELLS: Final = 8  # of eight bytes, for each worker: a line of the processor's cache
_STATE, _LIVE, _STATUS = range(3)


class StopFlag:
    """Tells a worker when to end.

    A worker watches ``fileno()`` beside its listener. When that is readable it calls
    ``acknowledge()`` and looks: ``draining()`` asks it to accept no more, finish what it has
    begun, and return; ``stopping()`` to return now. A worker process drains also at a SIGTERM, and
    when its parent is gone (Linux).
    """

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def draining(self) -> bool:
        """Whether the worker is to finish what it has begun, or to stop."""
        return self._cells[_STATE] != _SERVE

    def stopping(self) -> bool:
        """Whether the worker is to return now."""
        return self._cells[_STATE] == _STOP

    def fileno(self) -> int:
        """A descriptor that is readable when there is something new, until ``acknowledge``."""
        return self._reader

    def acknowledge(self) -> None:
        """What is new has been noticed."""
        try:
            while len(os.read(self._reader, 64)) == 64:
                pass
        except BlockingIOError:
            pass

    def wait(self, timeout_ms: int = -1) -> bool:
        """Block until there is something new, or for *timeout_ms*; whether there is. For workers
        that watch nothing else; -1 waits for ever."""
        if self._cells[_STATE] == _STOP:
            return True
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not poll.poll(None if timeout_ms < 0 else timeout_ms):
            return False
        self.acknowledge()
        return True

    # -- the scheduler's --------------------------------------------------------------------

    def _tell(self, state: int) -> None:
        if self._cells[_STATE] < state:
            self._cells[_STATE] = state
        try:
            os.write(self._writer, b"!")
        except OSError:  # it is full, and so noticed; or the worker is gone
            pass

    def _close(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
            os.close(self._writer)
            self._reader = self._writer = -1


class WorkerStats:
    """The numbers of one worker. The worker writes, the scheduler reads."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    @property
    def live(self) -> int:
        """How many connections are open. The worker sets it; ``drain`` reports by it."""
        return self._cells[_LIVE]

    @live.setter
    def live(self, count: int) -> None:
        self._cells[_LIVE] = count

    @property
    def status(self) -> int:
        """0 while the worker runs, 1 once it has returned, 2 once it has crashed."""
        return self._cells[_STATUS]

    def _end(self, status: int) -> None:
        if self._cells[_STATUS] == RUNNING:
            self._cells[_STATUS] = status
