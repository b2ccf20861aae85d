"""The sending half of a connection: what is queued, in which order, and when it may go.

Frames that flow control does not hold back are encoded when they are queued, heads among them, so
that HPACK runs in the order of the wire. Bodies wait on their streams; ``pump`` turns as much of
them into DATA as the peer's windows let through, a frame of each stream in turn (RFC 9113
section 5.2). A stream whose own window is closed stands outside that round until it opens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from flare.http.proto.ascii import BytesLike
from flare.http.proto.hpack_fields import HpackHeader
from flare.http2.config import DEFAULT_WINDOW
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.floods import MIN_PROGRESS_BYTES, FloodGuard
from flare.http2.frame import (
    H2_DEFAULT_FRAME_SIZE,
    MAX_WINDOW,
    FrameFlags,
    FrameType,
    build_frame,
    split_headers,
)
from flare.http2.hpack import HpackEncoder
from flare.http2.stream import Stream, StreamEvent

__all__ = ["Fields", "Outbox"]

Fields = Sequence[tuple[str, str] | HpackHeader]

# Small bodies go out right behind their head, while no more than this is queued already.
_EAGER_BYTES: Final = 64 * 1024
_END = int(FrameFlags.END_STREAM)
_DATA = int(FrameType.DATA)
_NO_LIMIT = 1 << 62


class Outbox:
    """Queues frames and bodies, and hands out bytes. Used by the connection alone.

    ``send_window`` is the connection's, ``max_frame_size`` the peer's, ``queued_bytes`` what
    waits of bodies. ``closed_streams`` are those whose last frame was queued since it was last
    emptied.
    """

    __slots__ = (
        "_buffer",
        "_floods",
        "_ready",
        "closed_streams",
        "encoder",
        "max_frame_size",
        "now_ms",
        "queued_bytes",
        "send_window",
    )

    def __init__(self, encoder: HpackEncoder, floods: FloodGuard) -> None:
        self.encoder = encoder
        self._floods = floods
        self._buffer = bytearray()
        self._ready: deque[Stream] = deque()
        self.send_window = DEFAULT_WINDOW
        self.max_frame_size = H2_DEFAULT_FRAME_SIZE
        self.queued_bytes = 0
        self.now_ms = 0
        self.closed_streams: list[Stream] = []

    def __len__(self) -> int:
        """Bytes that are encoded; bodies that wait are not counted."""
        return len(self._buffer)

    @property
    def wants_to_send(self) -> bool:
        """Whether anything is encoded or could be."""
        return bool(self._buffer) or any(map(self._can_go, self._ready))

    def _can_go(self, stream: Stream) -> bool:
        return self.send_window > 0 or not stream.outgoing_bytes

    def raw(self, data: bytes) -> None:
        """Queue encoded frames."""
        self._buffer += data

    def reply(self, data: bytes) -> None:
        """Queue an encoded frame that the peer made us send. Raises ``Http2Error`` past 1000."""
        self._floods.reply()
        self._buffer += data

    def guarded(self) -> None:
        """What is queued next is the peer's doing. Raises ``Http2Error`` past 1000."""
        self._floods.reply()

    def headers(self, stream: Stream, fields: Fields, end_stream: bool) -> None:
        """Queue a head, or trailers. Raises ``ValueError`` for text that is not Latin-1."""
        block = self.encoder.encode(fields)
        stream.advance(StreamEvent.SEND_HEADERS)
        self._buffer += split_headers(stream.id, block, self.max_frame_size, end_stream)
        if end_stream:
            stream.end_queued = True
            self._ended(stream)

    def body(
        self, stream: Stream, data: BytesLike, end: bool, trailers: Fields | None = None
    ) -> None:
        """Queue *data*, and with *end* the end of the stream: *trailers*, or END_STREAM."""
        size = len(data)
        if end:
            stream.end_queued = True
            stream.outgoing_trailers = trailers
            if (
                not stream.outgoing_bytes
                and not trailers
                and 0 < size <= stream.send_window
                and size <= self.send_window
                and size <= self.max_frame_size
                and len(self._buffer) <= _EAGER_BYTES
            ):
                self._frame(stream, data, True)
                return
        if size:
            if not stream.outgoing_bytes:
                stream.progress_ms = self.now_ms
                stream.progress_bytes = 0
            # What the caller may still change is copied.
            stream.outgoing.append(memoryview(data if type(data) is bytes else bytes(data)))
            stream.outgoing_bytes += size
            self.queued_bytes += size
        self.wake(stream)

    def wake(self, stream: Stream) -> None:
        """*stream* may have become able to send."""
        if stream.scheduled or not (stream.outgoing_bytes or stream.end_queued):
            return
        if not stream.sendable:
            return
        if stream.outgoing_bytes and stream.send_window <= 0:
            return
        stream.scheduled = True
        self._ready.append(stream)

    def drop(self, stream: Stream) -> None:
        """Forget what waits on *stream*: it is closed."""
        self.queued_bytes -= stream.outgoing_bytes
        stream.outgoing.clear()
        stream.outgoing_bytes = 0
        stream.outgoing_trailers = None
        if stream.scheduled:
            self._ready.remove(stream)
            stream.scheduled = False

    def widen(self, increment: int) -> None:
        """The peer opened the connection's window. ``Http2Error`` where it grows too large."""
        if self.send_window + increment > MAX_WINDOW:
            raise Http2Error(
                Http2ErrorCode.FLOW_CONTROL_ERROR, debug="a connection window above 2**31 - 1"
            )
        self.send_window += increment

    def pump(self, limit: int | None = None) -> None:
        """Encode what the windows let through; with *limit* until about so many bytes wait."""
        if self._ready:
            self._pump(_NO_LIMIT if limit is None else limit)

    def take(self) -> bytes:
        """Everything that is encoded, which is then the caller's."""
        self._floods.drained()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def stop(self, *, forget: bool = False) -> None:
        """No body goes out any more; with *forget* nothing at all does."""
        self._ready.clear()
        if forget:
            self._buffer.clear()

    def _pump(self, limit: int) -> None:
        ready = self._ready
        waiting = 0
        while waiting < len(ready) and len(self._buffer) < limit:
            stream = ready.popleft()
            if not stream.outgoing_bytes:
                stream.scheduled = False
                self._finish(stream)
            elif stream.send_window <= 0:
                stream.scheduled = False
            elif self.send_window <= 0:
                ready.append(stream)
                waiting += 1
            else:
                self._send_some(stream)
                waiting = 0
                if stream.outgoing_bytes:
                    ready.append(stream)
                else:
                    stream.scheduled = False
                    if stream.outgoing_trailers:
                        self._finish(stream)

    def _send_some(self, stream: Stream) -> None:
        chunk = stream.outgoing[0]
        size = min(len(chunk), stream.send_window, self.send_window, self.max_frame_size)
        if size < len(chunk):
            stream.outgoing[0] = chunk[size:]
        else:
            stream.outgoing.popleft()
        stream.outgoing_bytes -= size
        self.queued_bytes -= size
        stream.progress_bytes += size
        if stream.progress_bytes >= MIN_PROGRESS_BYTES:
            stream.progress_ms = self.now_ms
            stream.progress_bytes = 0
        last = stream.end_queued and not stream.outgoing_bytes and not stream.outgoing_trailers
        self._frame(stream, chunk[:size], last)

    def _frame(self, stream: Stream, data: BytesLike, last: bool) -> None:
        stream.advance(StreamEvent.SEND_DATA)
        size = len(data)
        stream.send_window -= size
        self.send_window -= size
        self._floods.moved()
        self._buffer += build_frame(_DATA, _END if last else 0, stream.id, data)
        if last:
            self._ended(stream)

    def _finish(self, stream: Stream) -> None:
        """Everything of the body is out: send what ends the stream, if it has an end."""
        if not (stream.end_queued and stream.sendable):
            return
        trailers = stream.outgoing_trailers
        if trailers:
            stream.outgoing_trailers = None
            self.headers(stream, trailers, True)
        else:
            self._frame(stream, b"", True)

    def _ended(self, stream: Stream) -> None:
        stream.advance(StreamEvent.SEND_END)
        self.closed_streams.append(stream)
