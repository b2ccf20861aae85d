"""Deadlines for code that runs where no event loop can look at the clock."""

from __future__ import annotations

import os
import threading
import time
import weakref
from heapq import heapify, heappop, heappush
from typing import Any, Final, Protocol, Self

from flare.errors import ValidationError

__all__ = ["WATCHDOG_SLOTS", "DeadlineWatchdog"]

WATCHDOG_SLOTS: Final = 256

_TIMEOUT: Final = 2  # CancelReason.TIMEOUT


class Flippable(Protocol):
    """What is asked of a ``flare.http.CancelCell`` here."""

    def flip(self, reason: Any, /) -> object: ...


class DeadlineWatchdog:
    """Flips a cancel cell, with reason timeout, where its slot is not disarmed in time.

    Cooperative: it sets a flag that the code under watch must look at. One daemon thread,
    started by the first ``arm``, sleeps until the next deadline, and for good while nothing is
    armed. Deadlines are met to *poll_ms* (1): those that close together are served at once. All
    methods are safe from any thread. After a fork the child has none of its parent's deadlines;
    its first ``arm`` starts a thread anew.
    """

    def __init__(self, poll_ms: int = 1) -> None:
        if poll_ms < 1:
            raise ValidationError("poll_ms", f"must be above 0, got {poll_ms}")
        self._grain = poll_ms / 1000
        self._stopping = False
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())  # guards all below
        self._armed: dict[int, tuple[int, Flippable]] = {}  # slot -> serial, cell
        self._heap: list[tuple[float, int, int]] = []  # deadline, serial, slot
        self._serial = 0
        self._thread: threading.Thread | None = None

    def arm(self, slot: int, budget_ms: int, cancel: Flippable) -> None:
        """Flip *cancel* in *budget_ms* milliseconds, at once for 0 or less, unless disarmed.

        Arming a slot that is armed replaces its deadline. ``ValidationError`` for a slot outside
        0..255, ``RuntimeError`` after ``stop``.
        """
        if not 0 <= slot < WATCHDOG_SLOTS:
            raise ValidationError("slot", f"must be in 0..{WATCHDOG_SLOTS - 1}, got {slot}")
        deadline = time.monotonic() + budget_ms / 1000
        with self._changed:
            if self._stopping:
                raise RuntimeError("the watchdog has been stopped")
            self._serial += 1
            self._armed[slot] = (self._serial, cancel)
            if len(self._heap) > 2 * WATCHDOG_SLOTS:
                self._heap = [entry for entry in self._heap if self._is_live(entry)]
                heapify(self._heap)
            heappush(self._heap, (deadline, self._serial, slot))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="flare-watchdog", daemon=True
                )
                self._thread.start()
            elif self._heap[0][1] == self._serial:
                self._changed.notify()

    def disarm(self, slot: int) -> None:
        """Forget the slot's deadline, if it has one: it will not fire after this returns."""
        with self._changed:
            self._armed.pop(slot, None)

    def stop(self) -> None:
        """Forget all deadlines and end the thread; waits for it. Idempotent."""
        with self._changed:
            self._stopping = True
            self._armed.clear()
            self._heap.clear()
            thread, self._thread = self._thread, None
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _is_live(self, entry: tuple[float, int, int]) -> bool:
        armed = self._armed.get(entry[2])
        return armed is not None and armed[0] == entry[1]

    def _run(self) -> None:
        with self._changed:
            while not self._stopping:
                while self._heap and not self._is_live(self._heap[0]):
                    heappop(self._heap)
                if not self._heap:
                    self._changed.wait()
                    continue
                deadline, _, slot = self._heap[0]
                left = deadline - time.monotonic()
                if left > 0:
                    self._changed.wait(max(left, self._grain))
                    continue
                heappop(self._heap)
                # Under the lock, so that disarm can promise what it does. A cell's flip only
                # sets a flag.
                self._armed.pop(slot)[1].flip(_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"DeadlineWatchdog({len(self._armed)} armed)"


_all: weakref.WeakSet[DeadlineWatchdog] = weakref.WeakSet()


def _after_fork() -> None:
    for watchdog in list(_all):
        watchdog._reset()


os.register_at_fork(after_in_child=_after_fork)
