"""A connection of HTTP/2 as a machine without I/O (RFC 9113), either side of it.

Bytes or frames go in; streams and their messages come into being; what must be sent in reaction,
and what the program sends, waits in the outbox. Each type of frame has a method, found by its
number in a table, and each stream its state (``flare.http2.stream``); what a head means depends
on the side (``flare.http2.roles``). An ``Http2Error`` raised on the way with a stream's id resets
that stream; one without ends the connection: GOAWAY is queued, the error goes to the caller, and
no later byte is looked at.

The drivers in ``flare.http2.server`` and ``flare.http2.client`` are its two faces.
"""

from __future__ import annotations

import re
import struct
from typing import Final, TypeAlias

from flare.http.proto.ascii import BytesLike
from flare.http2.config import Http2ClientConfig, Http2Config, SettingId, settings_pairs
from flare.http2.core import ConnectionCore
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.frame import (
    FRAME_HEADER_SIZE,
    H2_PREFACE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    Frame,
    FrameFlags,
    build_ping,
    build_settings,
    remove_padding,
)
from flare.http2.header_blocks import HeaderBlock
from flare.http2.messages import RequestHead
from flare.http2.roles import ClientRole, Role, ServerRole
from flare.http2.settings import parse_settings
from flare.http2.stream import Stream, StreamEvent, StreamId, StreamState

__all__ = ["Connection", "Stream", "StreamId", "StreamSlab", "StreamState"]

StreamSlab: TypeAlias = dict[StreamId, Stream]
"""What ``Connection.streams`` is."""

_frame_header = struct.Struct(">HBBBI")
_END_STREAM: Final = int(FrameFlags.END_STREAM)
_ACK: Final = int(FrameFlags.ACK)
_END_HEADERS: Final = int(FrameFlags.END_HEADERS)
_PADDED: Final = int(FrameFlags.PADDED)
_PRIORITY: Final = int(FrameFlags.PRIORITY)
_CONTINUATION: Final = 9
_SETTINGS: Final = 4
_PRIORITY_SIZE: Final = 5

# As far as it goes before it differs from the preface, an HTTP/1 method.
_looks_like_http1 = re.compile(rb"[A-Z]+ ?").fullmatch


def _protocol_error(debug: str, stream_id: int = 0) -> Http2Error:
    return Http2Error(Http2ErrorCode.PROTOCOL_ERROR, stream_id, debug)


def _size_error(debug: str, stream_id: int = 0) -> Http2Error:
    return Http2Error(Http2ErrorCode.FRAME_SIZE_ERROR, stream_id, debug)


class Connection(ConnectionCore):
    """One connection. Used by one thread at a time; nothing in it blocks or knows the time.

    ``streams`` are those that are open, and on a client those whose response nobody has taken.
    ``local`` is what we announced and the peer acknowledged, ``peer`` what it announced.
    ``active`` streams are open; ``lingering`` ones are gone while somebody still works on them.
    ``opened_streams``, ``completed_streams``, ``connect_streams`` and ``reset_streams`` collect
    the ids of streams with a head whose body is to come, with a whole message, with an extended
    CONNECT, and cut short by either side; who takes the ids out empties the list.
    """

    def __init__(
        self, config: Http2Config | Http2ClientConfig | None = None, *, is_client: bool = False
    ) -> None:
        super().__init__(config, is_client=is_client)
        self.preface_seen = is_client
        self._preface_at = 0
        self._settings_seen = False
        self._buffer = bytearray()
        config = self.config
        self._role: Role
        if isinstance(config, Http2Config):
            self._role = ServerRole(self, config)
        else:
            self._role = ClientRole(self, config)
        self._handlers = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_rst_stream,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
        )

    @property
    def has_begun(self) -> bool:
        """Whether the peer's preface is here, up to its SETTINGS."""
        return self._settings_seen

    @property
    def is_plain(self) -> bool:
        """Whether it is past its beginning and not near its end, and what comes next is a frame."""
        return (
            self._settings_seen
            and self.failure is None
            and self.blocks.open is None
            and not (self._buffer or self.goaway_sent or self._shutdown_ms is not None)
        )

    def admit_known(self, stream_id: int, head: RequestHead) -> Stream:
        """A stream whose request, whole and with *head*, was read past this machine."""
        stream = self.open_stream(stream_id)
        self.last_opened = max(self.last_opened, stream_id)
        stream.advance(StreamEvent.RECV_HEADERS)
        stream.headers_complete = True
        stream.request = head
        stream.fields = head.fields
        stream.method = head.method
        stream.taken = True
        self.remote_end(stream)
        return stream

    def receive(self, data: BytesLike, now_ms: int = 0) -> None:
        """Take bytes from the peer, at *now_ms* on any clock that does not go back.

        Raises ``Http2Error`` for the connection, and the same one ever after.
        """
        if self.failure is not None:
            raise self.failure
        self.set_time(now_ms)
        try:
            if not self.preface_seen:
                data = self._match_preface(bytes(data))
            if self._buffer:
                self._buffer += data
                used = self._read_frames(self._buffer)
                del self._buffer[:used]
            elif data:
                data = bytes(data)
                used = self._read_frames(data)
                if used < len(data):
                    self._buffer += data[used:]
        except Http2Error as error:
            self._buffer.clear()
            if self.failure is None:
                self.fail(error)
            raise

    def handle_frame(self, f: Frame) -> list[Frame]:
        """Take one frame; the frames to send in reaction. Raises as ``receive`` does."""
        if self.failure is not None:
            raise self.failure
        self.preface_seen = True
        try:
            if len(f.payload) > self.config.max_frame_size:
                raise _size_error(f"a frame of {len(f.payload)} bytes")
            header = f.header
            self._handle(int(header.type), int(header.flags), header.stream_id, bytes(f.payload))
        except Http2Error as error:
            self.fail(error)
            raise
        return self.take_frames()

    def _match_preface(self, data: bytes) -> bytes:
        """Compare with the client's preface; what is behind it."""
        wanted = H2_PREFACE[self._preface_at : self._preface_at + len(data)]
        if data[: len(wanted)] != wanted:
            same = next(i for i in range(len(wanted)) if data[i] != wanted[i])
            seen = H2_PREFACE[: self._preface_at + same] + data[same : same + 1]
            error = _protocol_error("not the preface of HTTP/2")
            self.fail(error, silently=_looks_like_http1(seen) is not None)
            raise error
        self._preface_at += len(wanted)
        self.preface_seen = self._preface_at == len(H2_PREFACE)
        return data[len(wanted) :]

    def _read_frames(self, data: bytes | bytearray) -> int:
        """Handle the whole frames in *data*; how many bytes they took."""
        start, end = 0, len(data)
        max_size = self.config.max_frame_size
        while end - start >= FRAME_HEADER_SIZE:
            high, low, kind, flags, stream_id = _frame_header.unpack_from(data, start)
            size = high << 8 | low
            if size > max_size:
                raise _size_error(f"a frame of {size} bytes, where {max_size} are allowed")
            after = start + FRAME_HEADER_SIZE + size
            if after > end:
                break
            payload = bytes(data[start + FRAME_HEADER_SIZE : after])
            start = after
            self._handle(kind, flags, stream_id & MAX_STREAM_ID, payload)
        return start

    def _handle(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        block = self.blocks.open
        if block is not None and (kind != _CONTINUATION or stream_id != block.stream_id):
            raise _protocol_error("another frame inside a header block")
        if not self._settings_seen:
            if kind != _SETTINGS or flags & _ACK:
                raise _protocol_error("the first frame is not SETTINGS")
            self._settings_seen = True
        try:
            if kind < len(self._handlers):
                self._handlers[kind](flags, stream_id, payload)
            else:
                self.floods.idle()
        except Http2Error as error:
            if not error.stream_id:
                raise
            self.blame(error.stream_id, error.code)

    # Frames, by type (RFC 9113 section 6).

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _protocol_error("DATA for the connection")
        size = len(payload)
        # Padding is counted too: the window is about bytes on the wire.
        self.recv_window -= size
        if self.recv_window < 0:
            raise Http2Error(
                Http2ErrorCode.FLOW_CONTROL_ERROR, debug="DATA past the connection's window"
            )
        if flags & _PADDED:
            payload = remove_padding(payload)
        end = flags & _END_STREAM
        if payload or end:
            self.floods.filled()
        else:
            self.floods.empty()
        stream = self.streams.get(stream_id)
        if stream is None or not stream.remote_open:
            if stream is None and self._role.is_idle(stream_id):
                raise _protocol_error("DATA on an idle stream")
            self.credit(size)
            if stream_id in self._grace:
                return
            raise Http2Error(Http2ErrorCode.STREAM_CLOSED, stream_id, "DATA after the end")
        stream.recv_window -= size
        if stream.recv_window < 0:
            self.credit(size)
            raise Http2Error(
                Http2ErrorCode.FLOW_CONTROL_ERROR, stream_id, "DATA past the stream's window"
            )
        # A held body is given back when it is read, or when its stream is closed.
        consumed = size - len(payload) if stream.held else size
        self.credit(consumed)
        stream.advance(StreamEvent.RECV_DATA)
        stream.data += payload
        stream.received += len(payload)
        if not stream.held:
            self.buffered += len(payload)
        self._role.data(stream)
        if stream.remote_open:
            if end:
                self.remote_end(stream)
                self._role.ended(stream)
            elif stream.held or self.may_grow(stream):
                self.credit_stream(stream, consumed)
            else:
                stream.unread += consumed

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _protocol_error("HEADERS for the connection")
        if flags & _PADDED:
            payload = remove_padding(payload)
        error = None
        if flags & _PRIORITY:
            if len(payload) < _PRIORITY_SIZE:
                raise _size_error("HEADERS without the priority it announces")
            if int.from_bytes(payload[:4], "big") & MAX_STREAM_ID == stream_id:
                error = _protocol_error("a stream that depends on itself", stream_id)
            payload = payload[_PRIORITY_SIZE:]
        if self._is_gone(stream_id) and stream_id not in self._grace:
            self._role.admit(stream_id)
        block = HeaderBlock(stream_id, bool(flags & _END_STREAM), error, self.now_ms)
        if self.blocks.add(block, payload, bool(flags & _END_HEADERS)):
            self._finish_block(block, payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self.blocks.open
        if block is None:
            raise _protocol_error("CONTINUATION without HEADERS")
        if self.blocks.add(block, payload, bool(flags & _END_HEADERS)):
            self._finish_block(block, bytes(block.data))

    def _finish_block(self, block: HeaderBlock, data: bytes) -> None:
        headers = self.blocks.decode(data)
        stream_id = block.stream_id
        if self._is_gone(stream_id) and stream_id in self._grace:
            return
        if block.error is not None:
            raise block.error
        self._role.head(self.streams.get(stream_id), stream_id, headers, block.end_stream)
        if block.frames > 1 and (stream := self.streams.get(stream_id)) is not None:
            stream.continuation_count += block.frames - 1

    def _is_gone(self, stream_id: int) -> bool:
        """Whether the stream is closed, or has never been."""
        stream = self.streams.get(stream_id)
        return stream is None or stream.closed

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _protocol_error("PRIORITY for the connection")
        self.floods.idle()
        if len(payload) != _PRIORITY_SIZE:
            # An idle stream cannot be reset.
            known = not (stream_id not in self.streams and self._role.is_idle(stream_id))
            raise _size_error(f"PRIORITY of {len(payload)} bytes", stream_id if known else 0)

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _size_error(f"RST_STREAM of {len(payload)} bytes")
        if not stream_id or (stream_id not in self.streams and self._role.is_idle(stream_id)):
            raise _protocol_error("RST_STREAM for no stream")
        self.floods.reset(self.now_ms)
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.closed:
            code = int.from_bytes(payload, "big")
            # A whole response, and no more of the request wanted, is no failure.
            if not (self.is_client and stream.data_complete and code == Http2ErrorCode.NO_ERROR):
                stream.error = code
                self.report_reset(stream)
            self.close(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _protocol_error("SETTINGS for a stream")
        if flags & _ACK:
            if payload:
                raise _size_error("an acknowledgement with settings in it")
            if not self.settings_acked:
                self.settings_acked = True
                self.apply_local_settings()
            return
        self.apply_peer_settings(payload)
        self.outbox.reply(build_settings(ack=True))

    def apply_local_settings(self) -> None:
        """What we announced is in force: the peer has said that it knows."""
        before = self.local.initial_window_size
        self.local.apply(settings_pairs(self.config).items())
        for stream in self.streams.values():
            stream.recv_window += self.local.initial_window_size - before
            # Of a smaller window what was consumed before may be more than half.
            self.credit_stream(stream, 0)
        self.hpack_decoder.set_limit(self.local.header_table_size)

    def apply_peer_settings(self, payload: bytes) -> None:
        """What *payload* announces is in force. Raises ``Http2Error``."""
        pairs = parse_settings(
            payload,
            self.peer,
            max_entries=self.config.max_settings_entries,
            from_server=self.is_client,
        )
        before = self.peer.initial_window_size
        self.peer.apply(pairs)
        for number, value in pairs:
            if number == SettingId.HEADER_TABLE_SIZE:
                self.hpack_encoder.set_limit(value)
        self.outbox.max_frame_size = self.peer.max_frame_size
        if change := self.peer.initial_window_size - before:
            for stream in self.streams.values():
                stream.send_window += change
                if stream.send_window > MAX_WINDOW:
                    raise Http2Error(
                        Http2ErrorCode.FLOW_CONTROL_ERROR, debug="a window above 2**31 - 1"
                    )
                self.outbox.wake(stream)

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise _protocol_error("PUSH_PROMISE, which nobody may send here")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _protocol_error("PING for a stream")
        if len(payload) != 8:
            raise _size_error(f"PING of {len(payload)} bytes")
        if flags & _ACK:
            self.ponged(payload)
        else:
            self.outbox.reply(build_ping(payload, ack=True))

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _protocol_error("GOAWAY for a stream")
        if len(payload) < 8:
            raise _size_error(f"GOAWAY of {len(payload)} bytes")
        last = int.from_bytes(payload[:4], "big") & MAX_STREAM_ID
        if self.goaway_last_id is not None and last > self.goaway_last_id:
            raise _protocol_error("GOAWAY with a higher stream than before")
        self.goaway_received = True
        self.goaway_last_id = last
        self._role.goaway(last)

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _size_error(f"WINDOW_UPDATE of {len(payload)} bytes")
        stream = self.streams.get(stream_id)
        if stream_id and stream is None and self._role.is_idle(stream_id):
            raise _protocol_error("WINDOW_UPDATE on an idle stream")
        self.floods.idle()
        increment = int.from_bytes(payload, "big") & MAX_WINDOW
        if not stream_id:
            if not increment:
                raise _protocol_error("WINDOW_UPDATE by nothing")
            self.outbox.widen(increment)
        elif stream is not None and not stream.closed:
            if not increment:
                raise _protocol_error("WINDOW_UPDATE by nothing", stream_id)
            if stream.send_window + increment > MAX_WINDOW:
                raise Http2Error(
                    Http2ErrorCode.FLOW_CONTROL_ERROR, stream_id, "a window above 2**31 - 1"
                )
            stream.send_window += increment
            self.outbox.wake(stream)
