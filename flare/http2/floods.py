"""What a peer may not do to us by the thousand, though each single frame is in order.

Every guard is a number with a name; past it the connection ends with ENHANCE_YOUR_CALM. Those
that depend on the configuration are there: streams at a time, size and number of header fields,
settings in a frame, bytes that wait for a window, and how long they may.
"""

from __future__ import annotations

from typing import Final

from flare.http2.errors import Http2Error, Http2ErrorCode

__all__ = [
    "MAX_BLOCK_FRAMES",
    "MAX_CONTROL_REPLIES",
    "MAX_EMPTY_FRAMES",
    "MAX_IDLE_FRAMES",
    "MAX_INTERIM_RESPONSES",
    "MIN_PROGRESS_BYTES",
    "FloodGuard",
    "ResetBudget",
]

MAX_BLOCK_FRAMES: Final = 64
"""HEADERS and CONTINUATION frames of one block (VU#421644, CVE-2024-27316)."""
MAX_CONTROL_REPLIES: Final = 1000
"""Answers to PING and SETTINGS, and resets, that have not been sent (CVE-2019-9512, -9515)."""
MAX_EMPTY_FRAMES: Final = 100
"""DATA, HEADERS and CONTINUATION in a row that carry nothing and end nothing (CVE-2019-9518)."""
MAX_IDLE_FRAMES: Final = 10_000
"""WINDOW_UPDATE, PRIORITY and unknown frames without a message or DATA that they could be about
(CVE-2019-9511, -9513). Two more for each stream that is opened."""
IDLE_FRAMES_PER_STREAM: Final = 2
IDLE_FRAMES_PER_DATA: Final = 10
MAX_INTERIM_RESPONSES: Final = 32
"""1xx heads before a response; past it the stream ends, not the connection."""
MIN_PROGRESS_BYTES: Final = 1024
"""A body that waits must move so far, or to its end, within ``write_timeout_ms``: a window that
opens by a byte now and then holds memory as well as one that never does."""


def _calm(what: str) -> Http2Error:
    return Http2Error(Http2ErrorCode.ENHANCE_YOUR_CALM, debug=what)


class ResetBudget:
    """Resets by the peer, and by us for faults of the peer: a burst, filled again with time.

    Both kinds cost us a started request and the peer next to nothing (CVE-2023-44487,
    CVE-2025-8671), so both are paid from one purse.
    """

    __slots__ = ("_at_ms", "_burst", "_left", "_per_second")

    def __init__(self, burst: int, per_second: int) -> None:
        self._burst = burst * 1000
        self._per_second = per_second
        self._left = self._burst  # in thousandths, so that a millisecond's share is whole
        self._at_ms = 0

    def spend(self, now_ms: int) -> None:
        """One reset at *now_ms*. Raises ``Http2Error`` where the purse is empty."""
        if now_ms > self._at_ms:
            gained = (now_ms - self._at_ms) * self._per_second
            self._left = min(self._burst, self._left + gained)
            self._at_ms = now_ms
        self._left -= 1000
        if self._left < 0:
            raise _calm("too many streams were reset")


class FloodGuard:
    """The counters of one connection. Every method may raise ``Http2Error``."""

    __slots__ = ("_empty", "_idle", "_idle_allowed", "_replies", "resets")

    def __init__(self, resets: ResetBudget | None) -> None:
        self.resets = resets
        self._replies = 0
        self._empty = 0
        self._idle = 0
        self._idle_allowed = MAX_IDLE_FRAMES

    def reset(self, now_ms: int) -> None:
        """A stream was reset by the peer, or for its fault."""
        if self.resets is not None:
            self.resets.spend(now_ms)

    def reply(self) -> None:
        """The peer made us queue a frame that flow control does not hold back."""
        self._replies += 1
        if self._replies > MAX_CONTROL_REPLIES:
            raise _calm(f"more than {MAX_CONTROL_REPLIES} replies wait to be sent")

    def drained(self) -> None:
        """What was queued has been taken to be sent."""
        self._replies = 0

    def empty(self) -> None:
        """A frame carried nothing and ended nothing."""
        self._empty += 1
        if self._empty > MAX_EMPTY_FRAMES:
            raise _calm(f"more than {MAX_EMPTY_FRAMES} empty frames in a row")

    def filled(self) -> None:
        """A frame carried or ended something."""
        self._empty = 0

    def idle(self) -> None:
        """A frame asked for nothing that anybody waits for."""
        self._idle += 1
        if self._idle > self._idle_allowed:
            raise _calm(f"more than {self._idle_allowed} frames to no purpose")

    def opened(self) -> None:
        """A stream was opened."""
        self._idle_allowed += IDLE_FRAMES_PER_STREAM

    def moved(self) -> None:
        """DATA was sent, which the peer will have to make room for again."""
        if self._idle:
            self._idle = max(0, self._idle - IDLE_FRAMES_PER_DATA)

    def finished(self) -> None:
        """A whole message came."""
        self._idle = 0
        self._idle_allowed = MAX_IDLE_FRAMES

    @staticmethod
    def block_frames(count: int) -> None:
        """A header block has *count* frames so far."""
        if count > MAX_BLOCK_FRAMES:
            raise _calm(f"a header block of more than {MAX_BLOCK_FRAMES} frames")
