"""A worker's threads: one leads the loop, the others call handlers or stand by.

All are alike and take turns: a thread that stands by may be made the leader, and a leader whose
handler takes too long becomes one that has a handler to finish. They start when first needed and
stay until the worker ends.

Handlers that compute, rather than wait, share the interpreter lock with the loop: many of them at
once would leave it next to nothing. They go through a ``ComputeLane``, one at a time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from flare.http.server.lease import Overtaken, Task

__all__ = ["ComputeLane", "Outcome", "Threads", "compute_lane"]


class Outcome:
    """What became of a task that ran off the leader.

    ``share`` is how much of its time it had the processor for, ``None`` where that was not
    measured or says nothing; ``failure`` is what it raised all the same.
    """

    __slots__ = ("failure", "result", "share", "task")

    def __init__(
        self,
        task: Task,
        result: object = None,
        share: float | None = None,
        failure: BaseException | None = None,
    ) -> None:
        self.task = task
        self.result = result
        self.share = share
        self.failure = failure


# Below this a share of processor time says nothing.
_SHORTEST_NS = 1_000_000

# Seconds, a tenth of the usual. Measured beside one that computes: a leader answers twice as many
# requests, and the one that computes loses an eighth.
_COMPUTING_INTERVAL = 0.0005


class Threads:
    """The threads of one worker.

    *lead* runs the loop until it has lost the lease or the worker has ended; *deliver* takes an
    ``Outcome``, from any of the threads. The other methods are the leader's.
    """

    def __init__(
        self, name: str, lead: Callable[[], None], deliver: Callable[[Outcome], None]
    ) -> None:
        self._name = name
        self._lead = lead
        self._deliver = deliver
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards _ended against a submit of another worker's thread
        self._ended = False
        self.all: list[threading.Thread] = []
        self.free = -1
        """How many stand by, besides the leader and those that calls take; less than 0 where
        calls wait. The dispatcher counts."""
        self.idents: set[int] = set()

    def start(self) -> None:
        """Start the first thread and make it the leader."""
        self.add()
        self.promote()

    def add(self) -> None:
        """Start one more, to stand by. Raises ``RuntimeError`` where the system has none to
        give."""
        thread = threading.Thread(
            target=self._run, name=f"{self._name}-{len(self.all)}", daemon=True
        )
        thread.start()
        self.all.append(thread)
        self.free += 1

    def promote(self) -> None:
        """Have a thread that stands by lead. Safe from the watchdog's thread."""
        self._jobs.put(self._lead)

    def submit(self, task: Task) -> None:
        """Have *task* called by the next free thread; after ``end`` it comes back uncalled."""
        with self._lock:
            if not self._ended:
                self._jobs.put(lambda: self._call(task))
                return
        self._deliver(Outcome(task))

    def end(self) -> None:
        """Let every thread go once it is free. What is submitted already comes first."""
        with self._lock:
            self._ended = True
            for _ in self.all:
                self._jobs.put(None)

    def join(self, deadline: float) -> list[threading.Thread]:
        """Wait for the threads until *deadline* (monotonic seconds); those still busy then."""
        me = threading.current_thread()
        for thread in self.all:
            if thread is not me:
                thread.join(max(0.0, deadline - time.monotonic()))
        return [thread for thread in self.all if thread.is_alive() and thread is not me]

    def _run(self) -> None:
        ident = threading.get_ident()
        self.idents.add(ident)
        try:
            # Nothing here refers to a job any longer than it takes: it holds a request.
            while self._do(self._jobs.get()):
                pass
        finally:
            self.idents.discard(ident)  # the system gives it to another thread

    @staticmethod
    def _do(job: Callable[[], None] | None) -> bool:
        """Do *job*; whether there will be another."""
        if job is None:
            return False
        try:
            job()
        except Overtaken:
            pass
        return True

    def _call(self, task: Task) -> None:
        if task.abandoned:
            self._deliver(Outcome(task))
            return
        wall, cpu = time.monotonic_ns(), time.thread_time_ns()
        try:
            result = task.call()
        except BaseException as failure:
            self._deliver(Outcome(task, failure=failure))
            return
        spent, passed = time.thread_time_ns() - cpu, time.monotonic_ns() - wall
        self._deliver(Outcome(task, result, spent / passed if passed > _SHORTEST_NS else None))


class ComputeLane:
    """Lets at most *width* computing tasks of all workers run at once; the rest wait in order.

    While any runs, threads hand the interpreter lock on after half a millisecond, where
    ``sys.getswitchinterval`` says more, as it does by itself (5 ms): each leader gets that much
    more of the time, and the lock that much sooner. What it said before holds again afterwards.

    All methods are safe from any thread.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._lock = threading.Lock()  # guards what follows
        self._free = width
        self._waiting: deque[Callable[[], None]] = deque()
        self._admitting = False
        self._interval = 0.0  # seconds, that will hold again; 0 for no change

    def enter(self, start: Callable[[], None]) -> None:
        """Call *start* now, or when its turn comes, from the thread that leaves then."""
        with self._lock:
            self._waiting.append(start)
        self._admit()

    def join(self) -> None:
        """One that could not be asked to wait is running: the others wait for it too."""
        with self._lock:
            self._take()

    def leave(self) -> None:
        """One that was started, or has joined, is over."""
        with self._lock:
            self._free += 1
            if self._free == self.width:
                self.restore_interval()
        self._admit()

    def _take(self) -> None:
        self._free -= 1
        if not self._interval and has_interpreter_lock():
            before = sys.getswitchinterval()
            if before > _COMPUTING_INTERVAL:
                self._interval = before
                sys.setswitchinterval(_COMPUTING_INTERVAL)

    def restore_interval(self) -> None:
        """Nothing computes any more."""
        before = self._interval
        if before and sys.getswitchinterval() == _COMPUTING_INTERVAL:  # nobody else has set it
            sys.setswitchinterval(before)
        self._interval = 0.0

    def _admit(self) -> None:
        while True:
            with self._lock:
                # A start may leave at once, where its worker has ended: one thread at a time
                # goes through them, in a loop and not ever deeper.
                if self._admitting or self._free < 1 or not self._waiting:
                    return
                self._admitting = True
                self._take()
                start = self._waiting.popleft()
            try:
                start()
            finally:
                with self._lock:
                    self._admitting = False


def has_interpreter_lock() -> bool:
    """Whether one thread at a time runs Python code."""
    check: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return check()


def _width() -> int:
    """One where threads share an interpreter lock, a processor each where they do not."""
    return 1 if has_interpreter_lock() else max(1, os.cpu_count() or 1)


_lane = ComputeLane(_width())


def compute_lane() -> ComputeLane:
    """The lane of this process."""
    return _lane


def _after_fork() -> None:
    global _lane
    _lane.restore_interval()  # what ran is not here
    _lane = ComputeLane(_width())


os.register_at_fork(after_in_child=_after_fork)
