"""What a connection asks of the protocol spoken on it.

A ``Wire`` is fed the peer's bytes and hands out complete requests as ``Exchange``s; it is given
the response of each and leaves bytes in ``out``. It knows no socket and no clock. A connection
knows no HTTP: it reads, feeds, dispatches, flushes and minds the deadlines that ``phase`` calls
for. HTTP/1.1 is ``flare.http.server.h1``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from flare.http.body import close_source
from flare.http.cancel import CancelCell
from flare.http.server.failures import error_response
from flare.http.server.lease import NO_LANE
from flare.http.server.logs import log_handler_error

if TYPE_CHECKING:
    from flare.http.body import FileBody
    from flare.http.proto.heads import RequestHead
    from flare.http.request import Request
    from flare.http.request_stream import BodyQueue, StreamedRequest
    from flare.http.server.dispatch import Fate
    from flare.http.server.socket_connection import SocketConnection

__all__ = [
    "BODY",
    "BUSY",
    "DONE",
    "HEAD",
    "IDLE",
    "OPENING",
    "SKIPPING",
    "SWITCH",
    "ABORTED",
    "BodyAborted",
    "BodyWriter",
    "Closing",
    "Exchange",
    "OpeningWire",
    "Switch",
    "StreamedExchange",
    "Wire",
]

# What a wire waits for. Plain integers: compared for every request.
IDLE = 0  # the first byte of a request
HEAD = 1  # the rest of a head
BODY = 2  # the rest of a body
BUSY = 3  # the response
DONE = 4  # nothing: the connection ends when ``out`` is flushed
SWITCH = 5  # nothing: another protocol goes on when ``out`` is flushed
OPENING = 6  # the rest of what comes before any request, until the wire's ``deadline``
SKIPPING = 7  # the rest of a body that its handler did not read


class Switch(NamedTuple):
    """How a connection goes on whose wire has found that another one is spoken.

    ``data`` was read already and belongs to it. HTTP/1.1 where ``h2`` is false. An upgrade has a
    ``request``, whole, and the ``settings`` of its ``HTTP2-Settings``.
    """

    h2: bool
    data: bytes
    request: Request | None = None
    settings: bytes = b""


class Exchange:
    """One request on its way to its response: a ``Task`` that calls the handler."""

    __slots__ = (
        "abandoned",
        "cell",
        "connection",
        "fate",
        "function",
        "head",
        "lane",
        "request",
        "started_ns",
    )

    connection: SocketConnection
    fate: Fate
    function: Callable[[Request], object]

    def __init__(self, request: Request, head: RequestHead) -> None:
        self.request = request
        self.head = head
        self.started_ns = 0
        self.cell: CancelCell | None = None
        self.abandoned = False
        self.lane = NO_LANE

    @classmethod
    def spare(cls) -> Exchange:
        """One without a request yet: ``request``, ``head``, ``connection`` and ``fate`` are to be
        set, and set again, for as long as nobody else has it."""
        self = cls.__new__(cls)
        self.started_ns = 0
        self.cell = None
        self.abandoned = False
        self.lane = NO_LANE
        return self

    def forget(self) -> None:
        """Hold nothing of the request that is over, which may be large, or a secret."""
        nothing: Any = None
        self.request = self.head = self.connection = nothing

    def call(self) -> object:
        """Call the handler; an ``Exception`` becomes its response."""
        try:
            return self.function(self.request)
        except Exception as error:
            return error_response(self.request, error)

    def cancel(self, reason: int) -> None:
        """Tell the handler that its answer is no longer wanted, if it has asked to be told."""
        if self.cell is not None:
            self.cell.flip(reason)

    def dispose(self, result: object) -> None:
        """Free what a result holds that nobody waits for."""
        stream = getattr(result, "body_stream", None)
        try:
            close_source(getattr(result, "body", None) if stream is None else stream)
        except Exception as error:
            log_handler_error(self.request, error, answered=False)


class StreamedExchange(Exchange):
    """One whose handler reads the body from *queue* while it arrives."""

    __slots__ = ("queue",)

    def __init__(self, request: StreamedRequest, head: RequestHead, queue: BodyQueue) -> None:
        super().__init__(request, head)
        self.queue = queue


class BodyAborted(Exception):
    """A response body could not be made to its end: the connection must be cut off, so that the
    peer sees it is not whole. The reason is logged already."""


ABORTED: Final = BodyAborted()


class BodyWriter(ABC):
    """Makes a streamed body, one framed piece at a time: a ``Task`` whose result is a piece.

    A call in progress on another thread has the writer to itself. ``sent`` counts the bytes
    unframed.
    """

    __slots__ = ("abandoned", "connection", "fate", "file", "lane")

    connection: SocketConnection
    fate: Fate
    sent: int

    def __init__(self) -> None:
        self.abandoned = False
        self.file: FileBody | None = None
        """A plain file whose bytes go out as they are; see ``send_file.py``."""
        self.lane = NO_LANE

    def call(self) -> object:
        """The next piece, or ``ABORTED``."""
        try:
            return self.next_piece()
        except BodyAborted:
            return ABORTED

    @abstractmethod
    def next_piece(self) -> bytes | None:
        """The next bytes to send, ``b""`` where there is nothing just now, ``None`` at the end.
        May block as long as the source does. Raises ``BodyAborted``."""

    @abstractmethod
    def close(self, reason: int = 0) -> None:
        """Be done with the source, read to its end or not. *reason* is a ``CancelReason``."""

    def dispose(self, result: object) -> None:
        """A call is over that nobody waited for."""
        self.close()

    @abstractmethod
    def cancel(self, reason: int) -> None:
        """Tell the source that its chunks are no longer wanted; it may end by itself. Safe while
        a call is in progress."""


class _Nobody:
    """The connection of what no connection waits for."""

    def await_task(self, task: object) -> None:
        """It runs on another thread."""

    def on_result(self, task: Closing, result: object) -> None:
        """It is over, or will not be called any more."""
        task.call()

    def fail(self, error: Exception) -> None:
        """There is nothing to let go of."""


class Closing:
    """A ``Task`` that frees what a response held which nobody waits for any more.

    To close a source is to call user code, a generator's ``finally`` among it, so it may take its
    time like any other.
    """

    __slots__ = ("_close", "abandoned", "connection", "fate", "lane")

    connection: SocketConnection
    fate: Fate

    def __init__(self, close: Callable[[], None]) -> None:
        """*close* raises nothing."""
        self._close: Callable[[], None] | None = close
        self.connection = cast("SocketConnection", _NOBODY)
        self.abandoned = False
        self.lane = NO_LANE

    def call(self) -> None:
        """Close it, once."""
        close, self._close = self._close, None
        if close is not None:
            close()


_NOBODY: Final = _Nobody()


class Wire(Protocol):
    """One protocol on one connection; used by the worker's thread alone."""

    phase: int
    clean: bool
    """Whether nothing is pending, and what is read next is where a request begins."""
    out: list[bytes | memoryview]
    out_bytes: int
    status: int
    """The status of the last response, and ``sent`` the bytes of its body, for the log."""
    sent: int
    served: int
    """How many requests of the connection have been answered."""
    refused: int
    """The status of the request that was refused without an exchange, the last one; else 0."""
    linger: bool
    """Whether the peer may still be sending when the connection ends."""
    switch: Switch | None
    """Set with ``phase`` SWITCH."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""

    def take(self, data: bytes) -> Exchange | None:
        """``receive`` and ``next_exchange``."""

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


class OpeningWire(Wire, Protocol):
    """What a connection has before its first request can come: it makes the connection go on with
    another wire (``Connection.take_over``). Until then its ``phase`` is OPENING."""

    connection: SocketConnection | None
    """The one it is on; set there."""
    deadline: int
    """When that must be over, in milliseconds of the worker's clock."""
