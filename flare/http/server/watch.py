"""The watchdog that finds handlers which keep a worker's loop waiting.

One thread a process. Every few milliseconds it looks at the serial of each worker's lease; one
seen twice in a row belongs to a handler that has run at least that long, and its worker is told
to go on without it. While nothing flows it parks, looks up four times a second only, and is woken
by the first batch of events that comes.
"""

from __future__ import annotations

import os
import threading
import time
from typing import NamedTuple, Protocol

__all__ = [
    "COMPUTING_SHARE",
    "Sample",
    "Watchdog",
    "computes",
    "cpu_ns",
    "own_cpu_clock",
    "watchdog",
]

COMPUTING_SHARE = 0.3
"""A handler that has the processor for more of its time computes; else it waits."""

_TICK_SECONDS = 0.005
_PARKED_SECONDS = 0.25
_IDLE_TICKS = 200  # a second


class Sample(NamedTuple):
    """What a leader is at: the serial of its lease, the time its thread has computed for, and
    when that was (all in nanoseconds)."""

    serial: int
    cpu_ns: int
    wall_ns: int


def computes(spent_ns: int, passed_ns: int) -> bool:
    """Whether so much processor time in so much time is a handler that computes, not waits."""
    return spent_ns > passed_ns * COMPUTING_SHARE


class Watched(Protocol):
    """What the watchdog asks of a worker."""

    waiting: bool
    """Whether its leader waits for events, or has not begun to. Once it does so no more it looks
    at ``Watchdog.parked``."""

    def sample(self) -> Sample:
        """What its leader is at."""

    def overtake(self, serial: int, computing: bool) -> bool:
        """Seize the lease of *serial*, if it still runs; whether it did."""


class Watchdog:
    """Watches any number of workers. All methods are safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _watched and the start and end of the thread
        self._watched: tuple[Watched, ...] = ()
        self._thread: threading.Thread | None = None
        self._stir = threading.Event()
        self.parked = False
        """Looked at by a leader once a batch; it calls ``unpark`` where it is true."""

    def watch(self, worker: Watched) -> None:
        """Look at *worker* from now on. Raises ``RuntimeError`` where the system has no thread to
        give."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="flare-watchdog", daemon=True
                )
                try:
                    self._thread.start()
                except BaseException:
                    self._thread = None
                    raise
            self._watched += (worker,)
        self.unpark()

    def forget(self, worker: Watched) -> None:
        """Look at *worker* no more. The thread ends with the last one."""
        with self._lock:
            self._watched = tuple(w for w in self._watched if w is not worker)
            if not self._watched:
                self._thread = None
        self._stir.set()

    def unpark(self) -> None:
        """Requests flow again."""
        self.parked = False
        self._stir.set()

    def _run(self) -> None:
        me = threading.current_thread()
        seen: dict[Watched, Sample] = {}
        idle = 0
        while self._thread is me:
            watched = self._watched
            moved = [self._look(worker, seen) for worker in watched]
            if len(seen) > len(watched):
                seen = {worker: seen[worker] for worker in watched}
            idle = 0 if any(moved) else idle + 1
            self.parked = idle >= _IDLE_TICKS
            if self.parked and not all(worker.waiting for worker in watched):
                self.parked = False  # it may have looked a moment too early
            # The event ends a parked sleep at once; while requests flow nobody sets it. Cleared
            # only once it is seen set, so that none is missed.
            self._stir.wait(_PARKED_SECONDS if self.parked else _TICK_SECONDS)
            if self._stir.is_set():
                self._stir.clear()
                idle = 0

    @staticmethod
    def _look(worker: Watched, seen: dict[Watched, Sample]) -> bool:
        """Whether *worker* has moved since the last look, or was made to."""
        now = worker.sample()
        before = seen.get(worker)
        seen[worker] = now
        if before is None or before.serial != now.serial:
            return True
        spent = computes(now.cpu_ns - before.cpu_ns, now.wall_ns - before.wall_ns)
        return worker.overtake(now.serial, spent)


def own_cpu_clock() -> int | None:
    """The clock of the processor time of the calling thread, for ``cpu_ns`` on any thread.

    Asked for by the thread itself: to ask for that of a thread that may have ended is undefined.
    """
    try:
        return time.pthread_getcpuclockid(threading.get_ident())
    except (AttributeError, OSError):
        return None


def cpu_ns(clock: int | None) -> int:
    """The processor time on *clock*; 0 where its thread is gone or it cannot be told."""
    try:
        return 0 if clock is None else time.clock_gettime_ns(clock)
    except OSError:
        return 0


_watchdog = Watchdog()


def watchdog() -> Watchdog:
    """The watchdog of this process."""
    return _watchdog


def _after_fork() -> None:
    global _watchdog
    _watchdog = Watchdog()


os.register_at_fork(after_in_child=_after_fork)
