"""Threads that wait under one lock, each for something of its own.

What ``threading.Condition`` does for one condition, for many: whoever changes what others wait for
asks each whether it has it, and wakes those. They all want the lock next, so they are woken one
after the other, the next one when the one before has had the lock: woken at once they would only
wait again, for the lock and for the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Sleepers"]


class Sleepers:
    """Those who sleep until something is so. *lock* is held in every call, and by ``sleep`` given
    up for as long as that takes."""

    __slots__ = ("_asleep", "_due", "_lock", "_rising")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        # By the lock that each of them waits for.
        self._asleep: dict[threading.Lock, Callable[[], bool]] = {}
        self._due: dict[threading.Lock, None] = {}  # to be woken, in this order
        self._rising = 0  # woken, and without the lock as yet

    def __len__(self) -> int:
        """How many there are, those included that have been woken and not come round."""
        return len(self._asleep) + len(self._due) + self._rising

    def sleep(self, ready: Callable[[], bool], seconds: float) -> None:
        """Sleep until woken, *seconds* at most; without end where they are -1. *ready* is what
        ``wake_ready`` asks, on any thread."""
        gate = threading.Lock()
        gate.acquire()
        self._asleep[gate] = ready
        self._lock.release()
        try:
            gate.acquire(True, seconds)
        finally:
            self._lock.acquire()
            # Its time may have been over a moment before it was woken.
            if self._asleep.pop(gate, None) is None and self._due.pop(gate, self) is self:
                self._rising -= 1
            self._rouse()

    def wake_ready(self) -> None:
        """Wake those who have what they wait for."""
        for gate in [gate for gate, ready in self._asleep.items() if ready()]:
            self._put_off(gate)
        self._rouse()

    def wake_all(self) -> None:
        """Have all of them look round."""
        for gate in list(self._asleep):
            self._put_off(gate)
        self._rouse()

    def wake_one(self) -> bool:
        """See that somebody looks round, be it one who is about to; false where nobody sleeps."""
        if not (self._rising or self._due):
            if not self._asleep:
                return False
            self._put_off(next(iter(self._asleep)))
            self._rouse()
        return True

    def _put_off(self, gate: threading.Lock) -> None:
        del self._asleep[gate]
        self._due[gate] = None

    def _rouse(self) -> None:
        if self._due and not self._rising:
            gate = next(iter(self._due))
            del self._due[gate]
            self._rising += 1
            gate.release()
