"""Waiting for a socket, and for other threads."""

from __future__ import annotations

import select
from time import monotonic
from typing import Final

from flare.runtime._pollers import Waker

__all__ = ["GONE", "SocketPoll"]

GONE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL


class SocketPoll:
    """Waits until a socket is ready. One thread at a time may ``wait``; any may ``ring``."""

    __slots__ = ("_events", "_fd", "_poll", "_waker")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._events = 0
        self._waker: Waker | None = Waker()
        self._poll = select.poll()
        self._poll.register(fd, 0)
        self._poll.register(self._waker.fd, select.POLLIN)

    def wait(self, events: int, end: float | None) -> int:
        """Which of *events*, or of ``GONE``, there are; 0 at *end*, of ``monotonic``, and when
        rung, now or since the last wait."""
        if events != self._events:
            self._poll.modify(self._fd, events)
            self._events = events
        found = 0
        left = None if end is None else max(0.0, (end - monotonic()) * 1000)
        for fd, event in self._poll.poll(left):
            if fd == self._fd:
                found = event
            elif self._waker is not None:
                self._waker.drain()
        return found

    def ring(self) -> None:
        """End the wait, or else the next one."""
        waker = self._waker
        if waker is not None:
            waker.wake()

    def close(self) -> None:
        """Free what this has; nobody waits, or will. Idempotent."""
        self._waker = None
