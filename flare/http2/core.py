"""What both directions of a connection share: its streams, their ends, windows, time.

``flare.http2.state`` adds what comes in, frame by frame. Here are the things that several frames,
or the program, bring about: bytes given back to the peer's windows, a stream that ends or is
reset, a message that is sent, the connection's farewell (RFC 9113 sections 5, 6.8 and 6.9).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flare.http.proto.ascii import BytesLike
from flare.http2.config import DEFAULT_WINDOW, Http2ClientConfig, Http2Config, settings_pairs
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.floods import FloodGuard, ResetBudget
from flare.http2.frame import (
    FRAME_HEADER_SIZE,
    H2_PREFACE,
    MAX_STREAM_ID,
    Frame,
    build_goaway,
    build_ping,
    build_rst,
    build_settings,
    build_window_update,
    encode_frame,
    parse_frame,
)
from flare.http2.header_blocks import HeaderBlocks
from flare.http2.hpack import HpackDecoder, HpackEncoder
from flare.http2.messages import FieldSource, outgoing_fields
from flare.http2.outbox import Fields, Outbox
from flare.http2.settings import Settings
from flare.http2.stream import Stream, StreamEvent, StreamId

__all__ = ["GRACE_STREAMS", "SHUTDOWN_WAIT_MS", "ConnectionCore"]

GRACE_STREAMS: Final = 256
"""Streams that we reset and whose frames, sent before the peer knew, are passed over."""
SHUTDOWN_WAIT_MS: Final = 1000
"""How long the answer to a farewell's PING is waited for."""
_SHUTDOWN_PING: Final = b"flare-go"


class ConnectionCore:
    """The ground of ``Connection``; see there."""

    def __init__(
        self, config: Http2Config | Http2ClientConfig | None = None, *, is_client: bool = False
    ) -> None:
        if config is None:
            config = Http2ClientConfig() if is_client else Http2Config()
        config.validate()
        self.config = config
        self.is_client = is_client
        self.local = Settings()
        self.peer = Settings()
        self.streams: dict[StreamId, Stream] = {}
        budget = None
        if isinstance(config, Http2Config):
            budget = ResetBudget(config.rst_burst, config.rst_per_second)
        self.floods = FloodGuard(budget)
        self.hpack_decoder = HpackDecoder(
            allow_huffman=config.allow_huffman_decode,
            max_header_list_size=config.max_header_list_size,
            max_fields=config.max_header_fields,
        )
        self.hpack_encoder = HpackEncoder(config.allow_huffman_encode)
        self.blocks = HeaderBlocks(self.hpack_decoder, self.floods)
        self.outbox = Outbox(self.hpack_encoder, self.floods)
        self.recv_window = DEFAULT_WINDOW
        self.buffered = 0  # bytes of bodies that are kept for who takes them whole
        self._max_buffered = config.max_buffered_bytes if isinstance(config, Http2Config) else None
        self._starving = False
        self.says_continue = True  # to requests that wait for leave to send their body
        self.settings_acked = False
        self.failure: Http2Error | None = None
        self.now_ms = 0
        self.active = 0
        self.last_opened = 0
        self.lingering: set[int] = set()
        self.opened_streams: list[int] = []
        self.completed_streams: list[int] = []
        self.connect_streams: list[int] = []
        self.reset_streams: list[int] = []
        self.pings: set[bytes] = set()
        self.goaway_received = False
        self.goaway_last_id: int | None = None
        self.goaway_sent = False
        self.last_admitted = MAX_STREAM_ID
        self._started_ms: int | None = None
        self._shutdown_ms: int | None = None
        self._unread = 0
        self._grace: dict[int, None] = {}

    @property
    def send_window(self) -> int:
        """What the peer lets us send on all streams together."""
        return self.outbox.send_window

    @property
    def peer_enable_connect_protocol(self) -> bool:
        """Whether the peer takes extended CONNECT."""
        return bool(self.peer.enable_connect_protocol)

    # Beginning, time, output.

    def initial_settings(self) -> Frame:
        """The SETTINGS frame that announces our configuration; ``start`` sends it."""
        frame = parse_frame(build_settings(settings_pairs(self.config)))
        assert frame is not None
        return frame

    def start(self) -> None:
        """Queue what a side sends first: a client's preface, SETTINGS, a larger window."""
        if self.is_client:
            self.outbox.raw(H2_PREFACE)
        self.outbox.raw(encode_frame(self.initial_settings()))
        if more := self.config.connection_window_size - DEFAULT_WINDOW:
            self.recv_window += more
            self.outbox.raw(build_window_update(0, more))

    def drain(self, limit: int | None = None) -> bytes:
        """What is to be sent now, and no longer ours to send; with *limit* about so much of it."""
        if self.failure is None:
            self.outbox.pump(limit)
            self._settle()
        return self.outbox.take()

    def take_frames(self) -> list[Frame]:
        """What ``drain`` would hand out, as frames; a client's preface has to be drained before."""
        frames: list[Frame] = []
        rest = memoryview(self.drain())
        while (frame := parse_frame(rest)) is not None:
            frames.append(frame)
            rest = rest[FRAME_HEADER_SIZE + frame.header.length :]
        return frames

    def set_time(self, now_ms: int) -> None:
        """It is *now_ms*, on any clock that does not go back."""
        self.now_ms = self.outbox.now_ms = now_ms
        if self._started_ms is None:
            self._started_ms = now_ms

    def tick(self, now_ms: int) -> None:
        """Do what is due: end a connection whose peer is silent where it may not be, cancel
        bodies that do not move on. Raises ``Http2Error`` for the connection."""
        if self.failure is not None:
            return
        self.set_time(now_ms)
        config = self.config
        for due_ms, code, what in self._deadlines():
            if now_ms >= due_ms:
                error = Http2Error(code, debug=what)
                self.fail(error)
                raise error
        if config.write_timeout_ms:
            for stream in self._waiting():
                if now_ms - stream.progress_ms >= config.write_timeout_ms:
                    self.report_reset(stream)
                    self.reset_stream(stream.id, Http2ErrorCode.CANCEL)
        if self._shutdown_ms is not None and now_ms - self._shutdown_ms >= SHUTDOWN_WAIT_MS:
            self.goaway()

    def next_deadline_ms(self) -> int | None:
        """When ``tick`` has to be called next; ``None`` while nothing is waited for."""
        if self.failure is not None:
            return None
        times = [due_ms for due_ms, _, _ in self._deadlines()]
        if self.config.write_timeout_ms:
            timeout_ms = self.config.write_timeout_ms
            times += [stream.progress_ms + timeout_ms for stream in self._waiting()]
        if self._shutdown_ms is not None:
            times.append(self._shutdown_ms + SHUTDOWN_WAIT_MS)
        return min(times, default=None)

    def _waiting(self) -> list[Stream]:
        return [stream for stream in self.streams.values() if stream.outgoing_bytes]

    def _deadlines(self) -> list[tuple[int, Http2ErrorCode, str]]:
        """What the peer must have done by when, or else the connection ends so."""
        found: list[tuple[int, Http2ErrorCode, str]] = []
        config = self.config
        wait_ms = config.settings_ack_timeout_ms
        if wait_ms and not self.settings_acked and self._started_ms is not None:
            what = "our settings were not acknowledged"
            found.append((self._started_ms + wait_ms, Http2ErrorCode.SETTINGS_TIMEOUT, what))
        block = self.blocks.open
        if block is not None and config.header_timeout_ms:
            due_ms = block.started_ms + config.header_timeout_ms
            found.append((due_ms, Http2ErrorCode.PROTOCOL_ERROR, "a header block without end"))
        return found

    # Windows.

    def credit(self, size: int) -> None:
        """*size* bytes of DATA are done with, as far as the connection's window goes."""
        self._unread += size
        if self._unread and 2 * self._unread >= self.config.connection_window_size:
            self.recv_window += self._unread
            self.outbox.raw(build_window_update(0, self._unread))
            self._unread = 0

    def credit_stream(self, stream: Stream, size: int) -> None:
        """*size* bytes are done with, as far as the stream's window goes."""
        stream.unread += size
        if (
            stream.unread
            and 2 * stream.unread >= self.local.initial_window_size
            and not stream.data_complete
            and stream.remote_open
        ):
            stream.recv_window += stream.unread
            self.outbox.raw(build_window_update(stream.id, stream.unread))
            stream.unread = 0

    def may_grow(self, stream: Stream) -> bool:
        """Whether the window of *stream*, whose body is kept here, may open."""
        if self._max_buffered is None or self.buffered <= self._max_buffered:
            return True
        if stream is self._oldest():
            return True
        self._starving = True
        return False

    def _oldest(self) -> Stream | None:
        """The stream that was opened first of those whose bodies are kept and not whole."""
        for stream in self.streams.values():
            if not (stream.held or stream.data_complete):
                return stream
        return None

    def _feed_starving(self) -> None:
        """There may be room, or another is the oldest: open the windows that stayed shut."""
        assert self._max_buffered is not None
        if self.buffered <= self._max_buffered:
            self._starving = False
            for stream in self.streams.values():
                if not stream.held:
                    self.credit_stream(stream, 0)
        elif (oldest := self._oldest()) is not None:
            self.credit_stream(oldest, 0)

    def hold(self, stream: Stream) -> None:
        """From now on the peer's windows open as ``read`` takes the body, not as it comes."""
        if not stream.held:
            stream.held = True
            self.buffered -= len(stream.data)
            stream.credited = len(stream.data)

    def read(self, stream: Stream) -> bytes:
        """Take what is here of the body, and let the peer send as much again."""
        data = bytes(stream.data)
        stream.data.clear()
        if stream.held:
            consumed = len(data) - stream.credited
            stream.credited = 0
            self.credit(consumed)
            self.credit_stream(stream, consumed)
            if stream.tunnel and stream.closed and not self.is_client:
                self.let_go(stream)
        else:
            self.buffered -= len(data)
            if self._starving:
                self._feed_starving()
        return data

    # How streams begin and end.

    def open_stream(self, stream_id: int) -> Stream:
        """A new stream, still idle."""
        stream = Stream(stream_id, self.peer.initial_window_size, self.local.initial_window_size)
        self.streams[stream_id] = stream
        self.active += 1
        self.floods.opened()
        return stream

    def adopt_request(self, method: str) -> Stream:
        """Stream 1 is a request that went over HTTP/1.1, and is whole (RFC 7540 section 3.2)."""
        stream = self.open_stream(1)
        self.last_opened = 1
        stream.method = method
        if self.is_client:
            stream.advance(StreamEvent.SEND_HEADERS)
            stream.advance(StreamEvent.SEND_END)
            stream.end_queued = True
        else:
            stream.advance(StreamEvent.RECV_HEADERS)
            stream.advance(StreamEvent.RECV_END)
            stream.headers_complete = stream.data_complete = True
            self.completed_streams.append(1)
        return stream

    def remote_end(self, stream: Stream) -> None:
        """The peer's message is whole. Raises ``Http2Error`` where it is shorter than it said."""
        if stream.content_length >= 0 and stream.received != stream.content_length:
            raise Http2Error(
                Http2ErrorCode.PROTOCOL_ERROR, stream.id, "content-length is not what came"
            )
        stream.advance(StreamEvent.RECV_END)
        stream.data_complete = True
        self.floods.finished()
        if stream.closed:
            self._forget(stream)
        elif self._starving:
            self._feed_starving()

    def blame(self, stream_id: int, code: int) -> None:
        """Reset a stream for a fault of the peer, at its expense."""
        self.floods.reset(self.now_ms)
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.closed:
            self.report_reset(stream)
        self.reset_stream(stream_id, code, reply=True)

    def reset_stream(self, stream_id: int, code: int, *, reply: bool = False) -> None:
        """End a stream at once. Nothing is sent for one that is closed on both sides."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.closed:
            return
        frame = build_rst(stream_id, code)
        if reply:
            self.outbox.reply(frame)
        else:
            self.outbox.raw(frame)
        if len(self._grace) >= GRACE_STREAMS:
            del self._grace[next(iter(self._grace))]
        self._grace[stream_id] = None
        if stream is not None:
            stream.error = code
            self.close(stream)

    def report_reset(self, stream: Stream) -> None:
        """Let whoever works on *stream*, if anybody does, know that it is cut short."""
        if self.is_client or stream.taken:
            self.reset_streams.append(stream.id)

    def close(self, stream: Stream) -> None:
        """*stream* was reset by either side."""
        stream.advance(StreamEvent.RESET)
        if stream.error is not None:
            self.discard(stream)
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        """*stream* has become closed."""
        self.active -= 1
        self.outbox.drop(stream)
        if self.is_client:
            return  # until its response is taken
        if stream.tunnel and stream.data:
            self.lingering.add(stream.id)  # until it is read
            return
        for ids in (self.opened_streams, self.completed_streams, self.connect_streams):
            if stream.id in ids:
                ids.remove(stream.id)
        self.discard(stream)
        del self.streams[stream.id]
        if self._starving:
            self._feed_starving()
        if stream.taken and stream.error is not None:
            self.lingering.add(stream.id)

    def let_go(self, stream: Stream) -> None:
        """Nobody reads any more from a tunnel that is closed on both sides."""
        self.discard(stream)
        self.lingering.discard(stream.id)
        self.streams.pop(stream.id, None)

    def discard(self, stream: Stream) -> None:
        """Nobody will read what is here of the body."""
        if stream.held:
            self.credit(len(stream.data) - stream.credited)
            stream.credited = 0
        else:
            self.buffered -= len(stream.data)
        stream.data.clear()

    def _settle(self) -> None:
        """See to the streams whose last frame has been queued."""
        ended = self.outbox.closed_streams
        while ended:
            stream = ended.pop()
            if stream.closed:
                self._forget(stream)
            elif not (self.is_client or stream.tunnel) and stream.error is None:
                # The answer is whole: what the peer still sends, nobody wants (section 8.1).
                self.reset_stream(stream.id, Http2ErrorCode.NO_ERROR)

    # Sending.

    def send_headers(self, stream: Stream, fields: Fields, end_stream: bool) -> None:
        """Queue a head, or trailers that nothing waits in front of."""
        self.outbox.headers(stream, fields, end_stream)
        self._settle()

    def send_body(
        self, stream: Stream, data: BytesLike, end: bool, trailers: Fields | None = None
    ) -> None:
        """Queue body bytes; with *end* they are the last, and *trailers* follow."""
        self.outbox.body(stream, data, end, trailers)
        self._settle()

    def make_response(
        self, sid: StreamId, status: int, headers: FieldSource, body: BytesLike = b""
    ) -> list[Frame]:
        """A whole response, as the frames that may go now; the rest of the body is queued."""
        self._send_response(sid, status, headers, body, None)
        return self.take_frames()

    def make_response_with_trailers(
        self,
        sid: StreamId,
        status: int,
        headers: FieldSource,
        body: BytesLike,
        trailers: FieldSource,
    ) -> list[Frame]:
        """As ``make_response``, with fields behind the body."""
        self._send_response(sid, status, headers, body, outgoing_fields(trailers))
        return self.take_frames()

    def make_stream_headers(self, sid: StreamId, status: int, headers: FieldSource) -> list[Frame]:
        """A response's head alone; its body follows."""
        stream = self.stream_for_sending(sid)
        self.send_headers(stream, [(":status", str(status)), *outgoing_fields(headers)], False)
        return self.take_frames()

    def make_stream_trailers(self, sid: StreamId, trailers: FieldSource) -> list[Frame]:
        """The fields that end a stream, behind what waits of its body."""
        self.send_body(self.stream_for_sending(sid), b"", True, outgoing_fields(trailers))
        return self.take_frames()

    def _send_response(
        self,
        sid: StreamId,
        status: int,
        headers: FieldSource,
        body: BytesLike,
        trailers: Fields | None,
    ) -> None:
        stream = self.stream_for_sending(sid)
        fields: Fields = [(":status", str(status)), *outgoing_fields(headers)]
        self.send_headers(stream, fields, not body and not trailers)
        if body or trailers:
            self.send_body(stream, body, True, trailers)

    def stream_for_sending(self, sid: StreamId) -> Stream:
        """The stream. ``Http2Error`` (INTERNAL_ERROR) where there is none to send on."""
        stream = self.streams.get(sid)
        if stream is None or not stream.local_open:
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "no stream to send on")
        return stream

    def ping(self, data: bytes) -> None:
        """Queue a PING; *data* stays in ``pings`` until it is answered."""
        self.outbox.raw(build_ping(data))
        self.pings.add(data)

    # The end of the connection.

    def shutdown(self) -> None:
        """Say that it will end, and after a PING's way to the peer and back, with which stream.

        So no request that is under way meets a closed door (section 6.8).
        """
        if self.goaway_sent or self._shutdown_ms is not None:
            return
        self._shutdown_ms = self.now_ms
        self.outbox.raw(build_goaway(MAX_STREAM_ID, Http2ErrorCode.NO_ERROR))
        self.ping(_SHUTDOWN_PING)

    def ponged(self, data: bytes) -> None:
        """The peer answered a PING."""
        if data in self.pings:
            self.pings.discard(data)
            if data == _SHUTDOWN_PING and self._shutdown_ms is not None:
                self.goaway()

    def goaway(self, code: int = Http2ErrorCode.NO_ERROR, last: int | None = None) -> None:
        """Say that streams up to *last*, by default all of the peer's so far, are the last."""
        self._shutdown_ms = None
        if self.failure is not None or (self.goaway_sent and last is None and not code):
            return
        if last is None:
            last = 0 if self.is_client else self.last_opened
        self.last_admitted = min(self.last_admitted, last)
        self.goaway_sent = True
        self.outbox.raw(build_goaway(self.last_admitted, code))

    def fail(self, error: Http2Error, *, silently: bool = False) -> None:
        """The connection is over: nothing but a GOAWAY goes out, or with *silently* nothing."""
        self.failure = error
        self.outbox.stop(forget=silently)
        self._shutdown_ms = None
        if not silently:
            last = 0 if self.is_client else min(self.last_admitted, self.last_opened)
            self.outbox.raw(build_goaway(last, error.code, error.debug.encode()))
        self.goaway_sent = True

    @property
    def can_close(self) -> bool:
        """Whether nothing is left to do: an end was announced, and no stream is open, nor is
        anything queued."""
        if self.failure is not None:
            return not len(self.outbox)
        ending = self.goaway_sent or self.goaway_received
        return ending and not self.active and not self.outbox.wants_to_send

    def stream_ids(self) -> Iterable[int]:
        """The ids of the streams that are open."""
        return [sid for sid, stream in self.streams.items() if not stream.closed]
