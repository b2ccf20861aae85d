"""The client's face of an HTTP/2 connection: requests in, responses out, bytes both ways.

Whoever holds it feeds what is read, writes what ``drain`` hands out, and asks for the responses of
its streams. Nothing here blocks, and one thread at a time may call; a client that shares it among
threads brings the lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flare.http.proto.ascii import BytesLike
from flare.http.proto.hpack_fields import HpackHeader
from flare.http2.config import Http2ClientConfig
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.frame import MAX_STREAM_ID
from flare.http2.messages import CONNECTION_FIELDS, FieldSource, is_protocol, outgoing_fields
from flare.http2.state import Connection
from flare.http2.stream import Stream

__all__ = ["Http2ClientConnection", "Http2Response"]

# ``host`` has become ``:authority``.
_DROPPED = CONNECTION_FIELDS | {"host"}


@dataclass(slots=True)
class Http2Response:
    """A whole response; fields in the order they came in, repeated ones included."""

    status: int
    headers: list[HpackHeader]
    body: bytes
    trailers: list[HpackHeader] = field(default_factory=list)


class Http2ClientConnection:
    """One connection of a client.

    The preface and SETTINGS are there to be drained at once. Methods raise ``Http2Error`` with
    the stream's id: for one that was reset with the code that says why, for an id that is not
    known with INTERNAL_ERROR. REFUSED_STREAM means that the server has not looked at the request,
    also where its GOAWAY said so: it may be sent again on another connection.
    """

    def __init__(self, config: Http2ClientConfig | None = None) -> None:
        self._conn = Connection(config or Http2ClientConfig(), is_client=True)
        self._next_id = 1
        self._conn.start()

    @classmethod
    def with_config(cls, config: Http2ClientConfig) -> Http2ClientConnection:
        """A connection with these limits. Raises ``ValidationError``."""
        return cls(config)

    @classmethod
    def from_h2c_upgrade(
        cls, config: Http2ClientConfig | None = None, method: str = "GET"
    ) -> Http2ClientConnection:
        """Go on from HTTP/1.1 after the 101: the request with *method* is stream 1.

        The settings that ``HTTP2-Settings`` carried must be ``build_h2c_settings_payload`` of the
        same *config*.
        """
        self = cls(config)
        # The server has had them since the request: nothing of stream 1 is older.
        self._conn.settings_acked = True
        self._conn.apply_local_settings()
        self._conn.adopt_request(method)
        self._next_id = 3
        return self

    @property
    def connection(self) -> Connection:
        """The state machine beneath."""
        return self._conn

    # Bytes and time.

    def feed(self, data: BytesLike, now_ms: int = 0) -> None:
        """Take bytes from the server. Raises ``Http2Error`` for the connection."""
        self._conn.receive(data, now_ms)

    def drain(self, limit: int | None = None) -> bytes:
        """What is to be written now; with *limit*, in bytes, about so much, and more waits."""
        return self._conn.drain(limit)

    def tick(self, now_ms: int) -> None:
        """Do what time asks for. Raises ``Http2Error`` for the connection."""
        self._conn.tick(now_ms)

    def next_deadline_ms(self) -> int | None:
        """When ``tick`` must be called next, on the clock of ``feed``; ``None``: not at all."""
        return self._conn.next_deadline_ms()

    @property
    def wants_write(self) -> bool:
        """Whether ``drain`` has something."""
        return self._conn.outbox.wants_to_send

    # Requests.

    def available_streams(self) -> int:
        """How many requests may be sent now, by the server's MAX_CONCURRENT_STREAMS; 0 when the
        connection ends."""
        conn = self._conn
        if conn.failure is not None or conn.goaway_received or conn.goaway_sent:
            return 0
        ids = max(0, (MAX_STREAM_ID - self._next_id) // 2 + 1)
        limit = conn.peer.max_concurrent_streams
        return ids if limit is None else min(ids, max(0, limit - conn.active))

    def next_stream_id(self) -> int:
        """An id for one request: 1, 3, 5 … Raises ``Http2Error`` (REFUSED_STREAM) where there are
        no more."""
        if self._next_id > MAX_STREAM_ID:
            raise Http2Error(Http2ErrorCode.REFUSED_STREAM, debug="no stream ids are left")
        sid = self._next_id
        self._next_id += 2
        return sid

    def send_request(
        self,
        sid: int,
        method: str,
        scheme: str,
        authority: str,
        path: str,
        extra_headers: FieldSource = (),
        body: BytesLike = b"",
    ) -> None:
        """A whole request. What the windows refuse of the body waits.

        ``content-length`` is yours to give. Raises ``Http2Error`` (REFUSED_STREAM) where no
        stream may be opened, ``ValueError`` for fields that cannot be sent.
        """
        stream = self._open(sid, method, scheme, authority, path, extra_headers, not len(body))
        if len(body):
            self._conn.send_body(stream, body, True)

    def send_request_open(
        self,
        sid: int,
        method: str,
        scheme: str,
        authority: str,
        path: str,
        extra_headers: FieldSource = (),
    ) -> None:
        """The head of a request whose body follows by ``send_data``."""
        self._open(sid, method, scheme, authority, path, extra_headers, False)

    def send_extended_connect(
        self,
        sid: int,
        scheme: str,
        authority: str,
        path: str,
        protocol: str,
        extra_headers: FieldSource = (),
    ) -> None:
        """Ask for a tunnel of *protocol* (RFC 8441). ``Http2Error`` where the server has not
        said that it takes this, ``ValueError`` for a *protocol* that is no token."""
        if not self._conn.peer_enable_connect_protocol:
            raise Http2Error(
                Http2ErrorCode.PROTOCOL_ERROR, sid, "the server takes no extended CONNECT"
            )
        if not is_protocol(protocol):
            raise ValueError("a :protocol that is no token cannot be sent")
        stream = self._open(
            sid, "CONNECT", scheme, authority, path, extra_headers, False, protocol=protocol
        )
        self._conn.hold(stream)

    def _open(
        self,
        sid: int,
        method: str,
        scheme: str,
        authority: str,
        path: str,
        extra_headers: FieldSource,
        end: bool,
        protocol: str = "",
    ) -> Stream:
        conn = self._conn
        if sid % 2 == 0 or not conn.last_opened < sid < self._next_id:
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "not the next stream's id")
        limit = conn.peer.max_concurrent_streams
        if conn.failure is not None or conn.goaway_received or conn.goaway_sent:
            raise Http2Error(Http2ErrorCode.REFUSED_STREAM, sid, "the connection is ending")
        if limit is not None and conn.active >= limit:
            raise Http2Error(Http2ErrorCode.REFUSED_STREAM, sid, f"{limit} streams are open")
        fields: list[tuple[str, str] | HpackHeader] = [(":method", method)]
        if protocol:
            fields.append((":protocol", protocol))
        if method != "CONNECT" or protocol:
            fields += [(":scheme", scheme), (":authority", authority), (":path", path)]
        else:
            fields.append((":authority", authority))
        for name, value, *_ in fields:
            if not value or not value.isascii() or not value.isprintable() or " " in value:
                raise ValueError(f"{name} has a character that cannot be sent, or none at all")
        fields += outgoing_fields(extra_headers, _DROPPED)
        stream = conn.open_stream(sid)
        conn.last_opened = sid
        stream.method = method
        stream.extended_connect_protocol = protocol
        conn.send_headers(stream, fields, end)
        return stream

    def send_data(self, sid: int, body: BytesLike, end_stream: bool) -> None:
        """More of a request's body; what the windows refuse waits, see ``pending_bytes``."""
        stream = self._stream(sid)
        if stream.error is not None:
            raise Http2Error(stream.error, sid, "the stream was reset")
        if not stream.local_open:
            if stream.closed:
                return  # the whole answer is here: the server wants no more
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "the request is whole already")
        self._conn.send_body(stream, body, end_stream)

    def send_trailers(self, sid: int, trailers: FieldSource) -> None:
        """End a request with fields behind its body."""
        stream = self._stream(sid)
        if stream.local_open:
            self._conn.send_body(stream, b"", True, outgoing_fields(trailers))

    def pending_bytes(self, sid: int) -> int:
        """Bytes of the request's body that wait for the windows."""
        stream = self._conn.streams.get(sid)
        return 0 if stream is None else stream.outgoing_bytes

    def has_pending_body(self, sid: int) -> bool:
        """Whether any of the request's body waits."""
        return self.pending_bytes(sid) > 0

    def pump_pending_body(self, sid: int) -> int:
        """Encode what the windows let through now; the bytes of *sid* that still wait."""
        self._conn.outbox.pump()
        return self.pending_bytes(sid)

    # Responses.

    def hold_body(self, sid: int) -> None:
        """Let the server send only as much as ``drain_body`` takes, and hold no bound to it."""
        self._conn.hold(self._stream(sid))

    def headers_received(self, sid: int) -> bool:
        """Whether the final head is here."""
        return self._stream(sid).headers_complete

    def response_status(self, sid: int) -> int:
        """The status of the final head."""
        return self._head_of(sid)[0]

    def response_headers(self, sid: int) -> list[HpackHeader]:
        """The fields of the final head."""
        return self._head_of(sid)[1]

    def _head_of(self, sid: int) -> tuple[int, list[HpackHeader]]:
        stream = self._stream(sid)
        if stream.response is None:
            code = Http2ErrorCode.INTERNAL_ERROR if stream.error is None else stream.error
            raise Http2Error(code, sid, "no response")
        fields = [HpackHeader(name, value) for name, _, value in stream.response.fields.items]
        return stream.response.status, fields

    def drain_body(self, sid: int) -> bytes:
        """What is here of the body; ``b""`` where nothing is just now, or ever again."""
        return self._conn.read(self._stream(sid))

    def stream_ended(self, sid: int) -> bool:
        """Whether the whole response has come; ``drain_body`` may still have some of it."""
        return self._stream(sid).data_complete

    def response_trailers(self, sid: int) -> list[HpackHeader]:
        """The fields behind the body, once they are here."""
        trailers = self._stream(sid).trailers
        return [HpackHeader(name, value) for name, _, value in trailers.items] if trailers else []

    def response_ready(self, sid: int) -> bool:
        """Whether ``take_response`` has an answer: a response, or the error it ended with."""
        stream = self._conn.streams.get(sid)
        if stream is None:
            return False
        return stream.data_complete or self.stream_error(sid) is not None

    def take_response(self, sid: int) -> Http2Response:
        """The whole response, or ``Http2Error``; either way the stream is then forgotten,
        unless the response is still to come (INTERNAL_ERROR)."""
        stream = self._stream(sid)
        code = self.stream_error(sid)
        if code is not None:
            self.discard_stream(sid)
            raise Http2Error(code, sid, "the stream ended without its response")
        if not stream.data_complete:
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "the response is not complete")
        status, headers = self._head_of(sid)
        response = Http2Response(
            status, headers, self._conn.read(stream), self.response_trailers(sid)
        )
        self.discard_stream(sid)
        return response

    def stream_error(self, sid: int) -> int | None:
        """The code that a stream ended with, or its connection; ``None`` while it goes well."""
        stream = self._stream(sid)
        if stream.error is not None:
            return stream.error
        if self._conn.failure is not None and not stream.data_complete:
            return self._conn.failure.code
        return None

    def discard_stream(self, sid: int, code: int = Http2ErrorCode.CANCEL) -> None:
        """Forget a stream; one that is still open is reset with *code*."""
        stream = self._conn.streams.get(sid)
        if stream is None:
            return
        if not stream.closed:
            self._conn.reset_stream(sid, code)
        self._conn.discard(stream)
        del self._conn.streams[sid]

    def take_reset_streams(self) -> list[int]:
        """Ids of streams that were cut short by either side, each once."""
        taken = self._conn.reset_streams.copy()
        self._conn.reset_streams.clear()
        return taken

    def open_streams(self) -> Iterable[int]:
        """Ids of the streams that are open."""
        return self._conn.stream_ids()

    def _stream(self, sid: int) -> Stream:
        stream = self._conn.streams.get(sid)
        if stream is None:
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "no such stream")
        return stream

    # The connection.

    def peer_supports_extended_connect(self) -> bool:
        """Whether the server has said that it takes extended CONNECT."""
        return self._conn.peer_enable_connect_protocol

    def goaway_received(self) -> bool:
        """Whether the server takes no more streams."""
        return self._conn.goaway_received

    def send_ping(self, data: bytes) -> None:
        """Ask for a sign of life: eight bytes that ``ping_pending`` knows until they return."""
        self._conn.ping(data)

    def ping_pending(self, data: bytes) -> bool:
        """Whether a PING with *data* is still unanswered."""
        return data in self._conn.pings

    def send_goaway(self, last_stream_id: int = 0, error_code: int = 0) -> None:
        """Open no more streams; *last_stream_id* is of the server's, which opens none: 0."""
        self._conn.goaway(error_code, last_stream_id)

    @property
    def can_close(self) -> bool:
        """Whether an end was announced by either side, and nothing is open or queued."""
        return self._conn.can_close
