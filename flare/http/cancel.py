"""Telling a running handler that its answer is no longer wanted.

The server flips a connection's ``CancelCell``; a handler looks at its ``Cancel``. Nothing is
interrupted by force: a handler that never looks runs to its end.
"""

from __future__ import annotations

import threading
from enum import IntEnum

from flare.errors import NetworkError

__all__ = ["Cancel", "CancelCell", "CancelReason", "Cancelled"]


class CancelReason(IntEnum):
    """Why a cell was flipped. ``NONE`` while it was not."""

    NONE = 0
    PEER_CLOSED = 1
    TIMEOUT = 2
    SHUTDOWN = 3


_TEXT = {
    CancelReason.PEER_CLOSED: "peer closed",
    CancelReason.TIMEOUT: "timeout",
    CancelReason.SHUTDOWN: "shutdown",
}


class Cancelled(NetworkError):
    """Raised by ``Cancel.raise_if_cancelled``. ``reason`` is a ``CancelReason``."""

    def __init__(self, reason: int) -> None:
        super().__init__(f"cancelled: {_TEXT.get(CancelReason(reason), 'not cancelled')}")
        self.reason = CancelReason(reason)

    def _arguments(self) -> tuple[int]:
        return (self.reason,)


class _State:
    """What a cell and its handle have in common. Neither refers to the other: there is a cell for
    nearly every streamed response, and it is to go with it, not with the garbage."""

    __slots__ = ("_event", "_lock", "reason")

    def __init__(self) -> None:
        self.reason = CancelReason.NONE
        self._lock = threading.Lock()
        self._event: threading.Event | None = None

    def flip(self, reason: int) -> None:
        with self._lock:
            if self.reason is CancelReason.NONE:
                self.reason = CancelReason(reason)
                if self._event is not None:
                    self._event.set()

    def reset(self) -> None:
        if self.reason is not CancelReason.NONE or self._event is not None:
            with self._lock:
                self.reason = CancelReason.NONE
                self._event = None

    def wait(self, timeout: float | None) -> bool:
        with self._lock:
            if self.reason is not CancelReason.NONE:
                return True
            if self._event is None:
                self._event = threading.Event()
            event = self._event
        return event.wait(timeout)


class CancelCell:
    """The server's end: flipped from any thread, at most once until ``reset``."""

    __slots__ = ("_handle", "_state")

    def __init__(self) -> None:
        self._state = _State()
        self._handle = Cancel(self._state)

    def flip(self, reason: int) -> None:
        """Cancel for *reason*; the first reason stays. Safe from any thread."""
        self._state.flip(reason)

    def reset(self) -> None:
        """Make the cell fresh for the next request. Not while a handler still looks at it."""
        self._state.reset()

    def handle(self) -> Cancel:
        """The handler's end; every call gives the same one."""
        return self._handle


class Cancel:
    """The handler's end of a ``CancelCell``. Safe from any thread."""

    __slots__ = ("_state",)

    def __init__(self, state: _State | None = None) -> None:
        self._state = state

    @staticmethod
    def never() -> Cancel:
        """A token that is never cancelled."""
        return _NEVER

    def cancelled(self) -> bool:
        """Whether the answer is no longer wanted."""
        return self._state is not None and self._state.reason is not CancelReason.NONE

    def reason(self) -> int:
        """Why: a ``CancelReason``."""
        return CancelReason.NONE if self._state is None else self._state.reason

    def raise_if_cancelled(self) -> None:
        """Raise ``Cancelled`` once the answer is no longer wanted."""
        if self.cancelled():
            raise Cancelled(self.reason())

    def wait(self, timeout: float | None = None) -> bool:
        """Block until cancelled or for *timeout* seconds; whether it is cancelled.

        ``None`` waits for ever, but for ``Cancel.never()``, where it returns false at once:
        nothing could end that wait.
        """
        if self._state is not None:
            return self._state.wait(timeout)
        if timeout is not None and timeout > 0:
            threading.Event().wait(timeout)
        return False

    def __repr__(self) -> str:
        return f"<Cancel {CancelReason(self.reason()).name}>"


_NEVER = Cancel()
