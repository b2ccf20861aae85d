"""One stream of a connection and its life (RFC 9113 section 5.1).

::

                      headers, sent or received
          IDLE ------------------------------------> OPEN
                                                    |    |
                              we end our side       |    |      the peer ends its side
                       +----------------------------+    +----------------------------+
                       v                                                              v
               HALF_CLOSED_LOCAL                                            HALF_CLOSED_REMOTE
          (we may still receive)                                            (we may still send)
                       |                                                              |
                       +------------------------> CLOSED <----------------------------+
                         the other side ends too, or a reset at any time

``TRANSITIONS`` is that picture. What is not in it is an error. There is no push here, so there
are no reserved states.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from flare.http2.errors import Http2Error, Http2ErrorCode

if TYPE_CHECKING:
    from flare.http.proto.fields import FieldBlock
    from flare.http.proto.hpack_fields import HpackHeader
    from flare.http2.messages import RequestHead, ResponseHead

__all__ = ["TRANSITIONS", "Stream", "StreamEvent", "StreamId", "StreamState"]

StreamId: TypeAlias = int


class StreamState(IntEnum):
    """Where a stream is in its life."""

    IDLE = 0
    OPEN = 1
    HALF_CLOSED_LOCAL = 2
    HALF_CLOSED_REMOTE = 3
    CLOSED = 4


class StreamEvent(IntEnum):
    """What moves a stream on. A frame with END_STREAM is two: itself, and the end."""

    SEND_HEADERS = 0
    RECV_HEADERS = 1
    SEND_DATA = 2
    RECV_DATA = 3
    SEND_END = 4
    RECV_END = 5
    RESET = 6


_S, _E = StreamState, StreamEvent
TRANSITIONS: Final[dict[tuple[StreamState, StreamEvent], StreamState]] = {
    (_S.IDLE, _E.SEND_HEADERS): _S.OPEN,
    (_S.IDLE, _E.RECV_HEADERS): _S.OPEN,
    (_S.OPEN, _E.SEND_HEADERS): _S.OPEN,
    (_S.OPEN, _E.RECV_HEADERS): _S.OPEN,
    (_S.OPEN, _E.SEND_DATA): _S.OPEN,
    (_S.OPEN, _E.RECV_DATA): _S.OPEN,
    (_S.OPEN, _E.SEND_END): _S.HALF_CLOSED_LOCAL,
    (_S.OPEN, _E.RECV_END): _S.HALF_CLOSED_REMOTE,
    (_S.OPEN, _E.RESET): _S.CLOSED,
    (_S.HALF_CLOSED_LOCAL, _E.RECV_HEADERS): _S.HALF_CLOSED_LOCAL,
    (_S.HALF_CLOSED_LOCAL, _E.RECV_DATA): _S.HALF_CLOSED_LOCAL,
    (_S.HALF_CLOSED_LOCAL, _E.RECV_END): _S.CLOSED,
    (_S.HALF_CLOSED_LOCAL, _E.RESET): _S.CLOSED,
    (_S.HALF_CLOSED_REMOTE, _E.SEND_HEADERS): _S.HALF_CLOSED_REMOTE,
    (_S.HALF_CLOSED_REMOTE, _E.SEND_DATA): _S.HALF_CLOSED_REMOTE,
    (_S.HALF_CLOSED_REMOTE, _E.SEND_END): _S.CLOSED,
    (_S.HALF_CLOSED_REMOTE, _E.RESET): _S.CLOSED,
}


class Stream:
    """What a connection knows of one stream. Changed by the connection alone.

    ``headers`` is the request's or the final response's head as it came, ``data`` what is here
    of the body and nobody has taken yet, ``trailers`` the fields behind it. ``send_window`` is
    what the peer lets us send, ``recv_window`` what we let it send; the first may be negative.
    ``headers_complete`` and ``data_complete`` tell whether the peer's head, and its whole
    message, are here. ``error`` is the code of a reset by either side, ``None`` without one.
    """

    __slots__ = (
        "content_length",
        "continuation_count",
        "credited",
        "data",
        "data_complete",
        "end_queued",
        "error",
        "extended_connect_protocol",
        "fields",
        "header_list_bytes",
        "headers",
        "headers_complete",
        "held",
        "id",
        "interim",
        "method",
        "no_body",
        "outgoing",
        "outgoing_bytes",
        "outgoing_trailers",
        "progress_bytes",
        "progress_ms",
        "received",
        "recv_window",
        "request",
        "response",
        "scheduled",
        "send_window",
        "state",
        "taken",
        "trailers",
        "tunnel",
        "unread",
    )

    def __init__(self, id: int, send_window: int, recv_window: int) -> None:
        self.id = id
        self.state = StreamState.IDLE
        self.send_window = send_window
        self.recv_window = recv_window
        self.method = ""
        self.headers: list[HpackHeader] = []
        self.fields: FieldBlock | None = None
        self.request: RequestHead | None = None
        self.response: ResponseHead | None = None
        self.data = bytearray()
        self.trailers: FieldBlock | None = None
        self.headers_complete = False
        self.data_complete = False
        self.extended_connect_protocol = ""
        self.header_list_bytes = 0
        self.continuation_count = 0
        self.content_length = -1
        self.no_body = False  # a body would be an error, whatever the head says
        self.received = 0  # of the body, padding not counted
        self.unread = 0  # consumed, and not yet given back to the peer's window
        self.interim = 0  # 1xx heads before the final one
        self.credited = 0  # of what is here, when the stream was first held
        self.held = False  # the window opens as the body is taken, not as it comes
        self.taken = False  # somebody works on it
        self.tunnel = False  # a CONNECT that succeeded: bytes both ways, until each way ends
        self.error: int | None = None
        # Body that waits for the window; at its end the trailers, or END_STREAM.
        self.outgoing: deque[memoryview] = deque()
        self.outgoing_bytes = 0
        self.outgoing_trailers: Sequence[tuple[str, str] | HpackHeader] | None = None
        self.end_queued = False
        self.scheduled = False  # in the queue of streams that may send
        self.progress_ms = 0
        self.progress_bytes = 0

    def advance(self, event: StreamEvent) -> None:
        """Go where *event* leads. Raises ``Http2Error`` (STREAM_CLOSED) where it leads nowhere."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise Http2Error(
                Http2ErrorCode.STREAM_CLOSED, self.id, f"{event.name} while {self.state.name}"
            )
        self.state = state

    @property
    def closed(self) -> bool:
        """Whether neither side may send any more."""
        return self.state is StreamState.CLOSED

    @property
    def remote_open(self) -> bool:
        """Whether the peer may still send its message."""
        return self.state is StreamState.OPEN or self.state is StreamState.HALF_CLOSED_LOCAL

    @property
    def sendable(self) -> bool:
        """Whether our end has not been sent."""
        return self.state is StreamState.OPEN or self.state is StreamState.HALF_CLOSED_REMOTE

    @property
    def local_open(self) -> bool:
        """Whether our end has not even been queued: more may be added to our message."""
        return self.sendable and not self.end_queued

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.state.name}>"
