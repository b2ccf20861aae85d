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
from flare.http.server.watch import computes

__all__ = ["ComputeLane", "Outcome", "Threads", "compute_lane"]


class Outcome:
    """What became of a task that ran off the leader. ``computed`` tells a handler that used the
    processor for most of its time from one that waited; ``failure`` is what must end the server."""

    __slots__ = ("computed", "failure", "result", "task")

    def __init__(
        self, task: Task, result: object, computed: bool, failure: BaseException | None = None
    ) -> None:
        self.task = task
        self.result = result
        self.computed = computed
        self.failure = failure


# Below this a share of processor time says nothing.
_SHORTEST_NS = 1_000_000


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

    def promote(self) -> None:
        """Have a thread that stands by lead. Safe from the watchdog's thread."""
        self._jobs.put(self._lead)

    def submit(self, task: Task) -> None:
        """Have *task* called by the next free thread; after ``end`` it comes back uncalled."""
        with self._lock:
            if not self._ended:
                self._jobs.put(lambda: self._call(task))
                return
        self._deliver(Outcome(task, None, computed=False))

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
            while (job := self._jobs.get()) is not None:
                try:
                    job()
                except Overtaken:
                    continue
        finally:
            self.idents.discard(ident)  # the system gives it to another thread

    def _call(self, task: Task) -> None:
        if task.abandoned:
            self._deliver(Outcome(task, None, computed=False))
            return
        wall, cpu = time.monotonic_ns(), time.thread_time_ns()
        try:
            result = task.call()
        except BaseException as failure:
            self._deliver(Outcome(task, None, False, failure))
            return
        spent, passed = time.thread_time_ns() - cpu, time.monotonic_ns() - wall
        self._deliver(Outcome(task, result, passed > _SHORTEST_NS and computes(spent, passed)))


class ComputeLane:
    """Lets at most *width* computing tasks of all workers run at once; the rest wait in order."""

    def __init__(self, width: int) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._free = width
        self._waiting: deque[Callable[[], None]] = deque()

    def enter(self, start: Callable[[], None]) -> None:
        """Call *start* now, or when its turn comes, from the thread that leaves then."""
        with self._lock:
            if not self._free:
                self._waiting.append(start)
                return
            self._free -= 1
        start()

    def leave(self) -> None:
        """A task that was started is over."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            start = self._waiting.popleft()
        start()


def _width() -> int:
    """One where threads share an interpreter lock, a processor each where they do not."""
    has_lock: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return 1 if has_lock() else max(1, os.cpu_count() or 1)


_lane: ComputeLane | None = None


def compute_lane() -> ComputeLane:
    """The lane of this process."""
    global _lane
    if _lane is None:
        _lane = ComputeLane(_width())
    return _lane


def _after_fork() -> None:
    global _lane
    _lane = None


os.register_at_fork(after_in_child=_after_fork)
