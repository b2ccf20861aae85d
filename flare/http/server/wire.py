"""What a connection asks of the protocol spoken on it.

A ``Wire`` is fed the peer's bytes and hands out complete requests as ``Exchange``s; it is given
the response of each and leaves bytes in ``out``. It knows no socket and no clock. A connection
knows no HTTP: it reads, feeds, dispatches, flushes and minds the deadlines that ``phase`` calls
for. HTTP/1.1 is ``flare.http.server.h1``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flare.http.request import Request

__all__ = ["BODY", "BUSY", "DONE", "HEAD", "IDLE", "BodyAborted", "BodyWriter", "Exchange", "Wire"]

# What a wire waits for. Plain integers: compared for every request.
IDLE = 0  # the first byte of a request
HEAD = 1  # the rest of a head
BODY = 2  # the rest of a body
BUSY = 3  # the response
DONE = 4  # nothing: the connection ends when ``out`` is flushed


class Exchange:
    """One request on its way to its response."""

    __slots__ = ("keep_alive", "minor", "request", "started_ns")

    def __init__(self, request: Request, minor: int, keep_alive: bool) -> None:
        self.request = request
        self.minor = minor
        self.keep_alive = keep_alive
        self.started_ns = 0


class BodyAborted(Exception):
    """A response body could not be made to its end: the connection must be cut off, so that the
    peer sees it is not whole. The reason is logged already."""


class BodyWriter(Protocol):
    """Makes a streamed body, one framed piece at a time. ``sent`` counts its bytes unframed."""

    sent: int

    def next_piece(self) -> bytes | None:
        """The next bytes to send, ``b""`` where there is nothing just now, ``None`` at the end.
        May block as long as the source does. Raises ``BodyAborted``."""

    def close(self, reason: int = 0) -> None:
        """Be done with the source, read to its end or not. *reason* is a ``CancelReason``."""

    def cancel(self, reason: int) -> None:
        """Tell the source that its chunks are no longer wanted; it may end by itself."""


class Wire(Protocol):
    """One protocol on one connection; used by the worker's thread alone."""

    phase: int
    out: deque[bytes | memoryview]
    out_bytes: int
    status: int
    """The status of the last response, and ``sent`` the bytes of its body, for the log."""
    sent: int
    linger: bool
    """Whether the peer may still be sending when the connection ends."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""

    def receive_eof(self) -> None:
        """The peer will send no more."""

    def next_exchange(self) -> Exchange | None:
        """The next complete request; ``None`` until more bytes come. A request that must be
        refused is answered into ``out`` and sets ``phase`` to DONE."""

    def respond(self, exchange: Exchange, result: object) -> BodyWriter | None:
        """Answer *exchange*. What is returned makes the rest of the body."""

    def body_sent(self) -> None:
        """The streamed body of the last response is complete."""

    def expire(self) -> None:
        """The deadline of the present phase has passed: answer so, and end."""

    def drain(self) -> None:
        """The next response is the last."""
