"""One small pool of threads per process, for system calls that block and cannot be bounded.

Look-ups of host names and ``flare.runtime.block_in_pool`` share it. It has no queue: work either
starts at once on a thread of its own, or is refused (or waits, if asked to) while all
``MAX_POOL_SIZE`` threads are busy. So work given to it from inside it cannot deadlock, and a thread
lost in a slow call costs one place and no more.

Threads start when first needed, are reused, and stay; they are daemons. A forked child starts with
an empty pool.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from flare.errors import IoError

__all__ = ["MAX_POOL_SIZE", "in_pool_thread", "submit", "wait_unless"]

MAX_POOL_SIZE = 32

_CANCEL_POLL_SECONDS = 0.01

T = TypeVar("T")

_here = threading.local()


class _Pool:
    """The threads and the places on them. Safe to use from any thread."""

    def __init__(self) -> None:
        self._places = threading.Condition(threading.Lock())  # guards the two counts
        self._busy = 0
        self._threads = 0
        # One entry for each piece of work given a place and not yet taken up by a thread.
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def submit(self, work: Callable[[], T], wait: float | None) -> Future[T]:
        future: Future[T] = Future()
        with self._places:
            if not self._places.wait_for(lambda: self._busy < MAX_POOL_SIZE, wait):
                raise IoError(
                    "block_in_pool", 0, f"pool saturated ({MAX_POOL_SIZE} calls are running)"
                )
            if self._busy == self._threads:
                self._start_thread()
            self._busy += 1
        self._work.put((future, work))
        return future

    def _start_thread(self) -> None:
        """Add a thread; the lock is held."""
        number = self._threads + 1
        thread = threading.Thread(target=self._run, name=f"flare-blocking-{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            raise IoError("block_in_pool", 0, str(exc)) from exc
        self._threads = number

    def _run(self) -> None:
        _here.inside = True
        while True:
            future, work = self._work.get()
            if not future.set_running_or_notify_cancel():
                self._leave()
            else:
                try:
                    result = work()
                except BaseException as exc:
                    self._leave()
                    future.set_exception(exc)
                else:
                    self._leave()
                    future.set_result(result)
                    del result
            del future, work  # an idle thread keeps nothing alive

    def _leave(self) -> None:
        """Give the place up, before the result is out: who waits for it may submit again."""
        with self._places:
            self._busy -= 1
            self._places.notify()


_pool = _Pool()


def _start_empty() -> None:
    global _pool
    _pool = _Pool()
    _here.__dict__.clear()


os.register_at_fork(after_in_child=_start_empty)


def submit(work: Callable[[], T], *, wait: float | None = 0.0) -> Future[T]:
    """Run *work* on a pool thread; the future has what it returns or raises.

    Where all ``MAX_POOL_SIZE`` threads are busy it waits up to *wait* seconds for one (``None``:
    for ever), then raises ``IoError("block_in_pool", 0, "pool saturated ...")``.
    """
    return _pool.submit(work, wait)


def in_pool_thread() -> bool:
    """Whether the calling thread belongs to the pool."""
    return getattr(_here, "inside", False)


def wait_unless(future: Future[Any], cancelled: Callable[[], bool]) -> bool:
    """Wait until *future* is done, and return true; or false, soon after *cancelled()* is true.

    The work itself is not stopped, and keeps its place until it ends.
    """
    while not cancelled():
        try:
            future.exception(_CANCEL_POLL_SECONDS)
        except TimeoutError:
            if not future.done():
                continue
        return True
    return False
