"""Timers for one event loop: schedule, cancel, and ask what is due.

The wheel has no clock. Its owner passes the time in, in milliseconds of a monotonic clock, so a
test can run an hour in no time. Not thread-safe.

Behind the name stands a binary heap with lazy deletion rather than slots of one millisecond:
the heap knows the soonest deadline exactly and costs nothing while time passes, where a wheel
has to walk. A cancelled timer stays in the heap until its time comes or until the dead outnumber
the living, when the heap is rebuilt; so cancelling and arming anew for every request takes
constant time and bounded memory.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

__all__ = ["TimerWheel"]

# Below this many dead timers a rebuild is not worth its while.
_FEW = 64


class TimerWheel:
    """Pending timers, each with a token the owner knows it by.

    *now_ms* is the first tick. Times are counted from the wheel's own tick, which only
    ``advance`` moves.
    """

    __slots__ = ("_heap", "_last_id", "_now", "_pending")

    def __init__(self, now_ms: int = 0) -> None:
        self._now = now_ms
        self._last_id = 0
        self._pending: set[int] = set()
        self._heap: list[tuple[int, int, int]] = []  # due, id, token

    def schedule(self, after_ms: int, token: int) -> int:
        """Arm a timer *after_ms* from the current tick, at least 1. Returns its id, 1 upwards."""
        self._last_id = timer = self._last_id + 1
        self._pending.add(timer)
        heappush(self._heap, (self._now + (after_ms if after_ms > 1 else 1), timer, token))
        return timer

    def cancel(self, id: int) -> bool:
        """Disarm a timer. False where it has fired, was cancelled before, or never was."""
        pending = self._pending
        if id not in pending:
            return False
        pending.remove(id)
        heap = self._heap
        dead = len(heap) - len(pending)
        if dead > _FEW and dead > len(pending):
            self._heap = [timer for timer in heap if timer[1] in pending]
            heapify(self._heap)
        return True

    def advance(self, now_ms: int, fired: list[int] | None = None) -> list[int]:
        """Move to *now_ms* and append the tokens due by then to *fired*, or to a new list.

        They come in the order of their deadlines, those of one millisecond in the order of
        their scheduling, and never early. A time before the current tick changes nothing.
        """
        if fired is None:
            fired = []
        if now_ms > self._now:
            self._now = now_ms
            heap, pending = self._heap, self._pending
            while heap and heap[0][0] <= now_ms:
                _, timer, token = heappop(heap)
                if timer in pending:
                    pending.remove(timer)
                    fired.append(token)
        return fired

    def now_ms(self) -> int:
        """The current tick."""
        return self._now

    def active_count(self) -> int:
        """How many timers are pending."""
        return len(self._pending)

    def next_fire_ms(self) -> int | None:
        """When the soonest pending timer is due, exactly; ``None`` where there is none."""
        heap, pending = self._heap, self._pending
        while heap:
            due, timer, _ = heap[0]
            if timer in pending:
                return due
            heappop(heap)
        return None

    __len__ = active_count

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"TimerWheel(now_ms={self._now}, {len(self._pending)} pending)"
