"""The server's face of an HTTP/2 connection: requests out, responses in, bytes both ways.

A driver in the sense that a server's loop holds it: the loop feeds what it reads, writes what
``drain`` hands out, calls ``tick`` when ``next_deadline_ms`` has come, and in between takes
requests and answers them in any order. Nothing here blocks, and one thread at a time may call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flare.http.proto.ascii import BytesLike
from flare.http.proto.fields import FieldBlock
from flare.http.proto.headers import HeaderMap
from flare.http.proto.hpack_fields import HpackHeader
from flare.http2.config import Http2Config
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.messages import CONNECTION_FIELDS, FieldSource, RequestHead, outgoing_fields
from flare.http2.outbox import Fields
from flare.http2.state import Connection
from flare.http2.stream import Stream

__all__ = ["H2Connection", "Http2Connection", "Http2Request", "RequestFactory", "is_h2_alpn"]

_OWNED = CONNECTION_FIELDS | {"content-length"}
_VERSION = "HTTP/2"


class Http2Request:
    """What a request is where nobody gives another class: plain fields."""

    __slots__ = ("body", "headers", "method", "trailers", "url", "version")

    def __init__(
        self,
        method: str,
        url: str,
        version: str,
        fields: FieldBlock,
        body: bytes,
        trailers: FieldBlock | None,
    ) -> None:
        self.method = method
        self.url = url
        self.version = version
        self.headers = HeaderMap._from_items(list(fields.items))
        self.trailers = HeaderMap._from_items(list(trailers.items) if trailers else [])
        self.body = body

    def __repr__(self) -> str:
        return f"<Http2Request {self.method} {self.url.partition('?')[0]!a}>"


RequestFactory = Callable[[str, str, str, FieldBlock, bytes, FieldBlock | None], Any]
"""Makes a request of its method, target, version, fields, body and trailers."""


def is_h2_alpn(alpn: str) -> bool:
    """Whether TLS settled on HTTP/2: exactly ``"h2"``."""
    return alpn == "h2"


class Http2Connection:
    """One connection of a server.

    A request that waits for 100 (Continue) gets it with its head, unless *says_continue* is off:
    then whoever takes the request has to ``send_informational``.

    The initial SETTINGS are there to be drained at once. ``feed`` deals with faults of single
    streams by itself; on one of the connection it queues GOAWAY and raises ``Http2Error``, and
    the caller sends what ``drain`` has and closes. Methods that take the id of a stream which is
    not, or no longer, there raise ``Http2Error`` (INTERNAL_ERROR); what comes for a stream that
    was reset meanwhile is dropped.
    """

    def __init__(
        self,
        config: Http2Config | None = None,
        *,
        request_factory: RequestFactory = Http2Request,
        says_continue: bool = True,
    ) -> None:
        self._make_request = request_factory
        self._conn = Connection(config or Http2Config())
        self._conn.says_continue = says_continue
        self._upgrade_request: Any = None
        self._conn.start()

    @classmethod
    def with_config(
        cls, config: Http2Config, *, request_factory: RequestFactory = Http2Request
    ) -> Http2Connection:
        """A connection with these limits. Raises ``ValidationError``."""
        return cls(config, request_factory=request_factory)

    @classmethod
    def from_h2c_upgrade(
        cls,
        config: Http2Config,
        req: Any,
        settings_payload: bytes,
        *,
        request_factory: RequestFactory = Http2Request,
        says_continue: bool = True,
    ) -> Http2Connection:
        """Go on from HTTP/1.1 after the 101: *req*, whole, is stream 1 and complete.

        *settings_payload* is what ``HTTP2-Settings`` held. Raises ``Http2Error`` where it cannot
        be; the request has then to be answered in HTTP/1.1.
        """
        self = cls(config, request_factory=request_factory, says_continue=says_continue)
        self._conn.apply_peer_settings(settings_payload)
        self._conn.adopt_request(req.method)
        self._upgrade_request = req
        return self

    @property
    def connection(self) -> Connection:
        """The state machine beneath."""
        return self._conn

    # Bytes and time.

    def feed(self, data: BytesLike, now_ms: int = 0) -> None:
        """Take bytes from the peer. Raises ``Http2Error`` for the connection."""
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

    @property
    def queued_bytes(self) -> int:
        """Body bytes that wait for the peer's windows."""
        return self._conn.outbox.queued_bytes

    @property
    def encoded_bytes(self) -> int:
        """Bytes of frames that wait for ``drain`` alone."""
        return len(self._conn.outbox)

    def queued_on(self, sid: int) -> int:
        """Body bytes of one stream that wait for the peer's windows."""
        stream = self._conn.streams.get(sid)
        return 0 if stream is None else stream.outgoing_bytes

    @property
    def active_streams(self) -> int:
        """Streams that are open."""
        return self._conn.active

    # Requests.

    def take_completed_streams(self) -> list[int]:
        """Ids of whole requests, each once; none while too much waits to be sent.

        A CONNECT is whole with its head; what follows is read as from ``open_request``.
        """
        if self._conn.outbox.queued_bytes >= self._conn.config.max_queued_bytes:
            return []
        return _taken(self._conn.completed_streams)

    def take_opened_streams(self) -> list[int]:
        """Ids of requests whose head is here and whose body is to come, each once.

        Leave one alone and it will be among the completed; ``open_request`` takes it before.
        """
        return _taken(self._conn.opened_streams)

    def take_extended_connect_streams(self) -> list[int]:
        """Ids of extended CONNECT requests (RFC 8441), each once."""
        return _taken(self._conn.connect_streams)

    def take_reset_streams(self) -> list[int]:
        """Ids of requests that were taken and will not be wanted any more, each once.

        Reset by the peer, or by us for a fault of the peer or a deadline. Answer them all the
        same, or call ``abandon``: until then they count as open.
        """
        return _taken(self._conn.reset_streams)

    def take_request(self, sid: int) -> Any:
        """The whole request of a stream, made by the request factory."""
        stream = self._stream(sid)
        if sid == 1 and self._upgrade_request is not None:
            request, self._upgrade_request = self._upgrade_request, None
            stream.taken = True
            return request
        if not (stream.data_complete or stream.method == "CONNECT"):
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "the request is not complete")
        return self._request(stream, b"" if stream.held else self._conn.read(stream))

    def open_request(self, sid: int) -> Any:
        """The request of a stream without its body, which ``drain_stream_data`` hands out.

        The peer may then send only as much as was taken: a slow reader slows it down.
        """
        stream = self._stream(sid)
        self._conn.hold(stream)
        for ids in (self._conn.opened_streams, self._conn.completed_streams):
            if sid in ids:
                ids.remove(sid)
        return self._request(stream, b"")

    def head_of(self, sid: int) -> RequestHead:
        """The head of a request that nobody has taken yet."""
        head = self._stream(sid).request
        if head is None:
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "no request to take")
        return head

    def hold_request(self, sid: int) -> None:
        """As ``open_request``, for who makes a request of ``head_of`` himself."""
        stream = self._stream(sid)
        self._conn.hold(stream)
        stream.taken = True

    def received_on(self, sid: int) -> int:
        """How many bytes of a body are here that nobody has taken."""
        stream = self._conn.streams.get(sid)
        return 0 if stream is None else len(stream.data)

    def _request(self, stream: Stream, body: bytes) -> Any:
        head = stream.request
        if head is None or stream.taken:
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, stream.id, "no request to take")
        stream.taken = True
        return self._make_request(
            head.method, head.target, _VERSION, head.fields, body, stream.trailers
        )

    def drain_stream_data(self, sid: int) -> bytes:
        """What is here of the body; ``b""`` where nothing is just now, or ever again."""
        stream = self._conn.streams.get(sid)
        return b"" if stream is None else self._conn.read(stream)

    def stream_ended(self, sid: int) -> bool:
        """Whether the whole body has come, and been taken."""
        stream = self._conn.streams.get(sid)
        return stream is None or (stream.data_complete and not stream.data)

    def stream_trailers(self, sid: int) -> FieldBlock | None:
        """The fields behind the body, once they are here."""
        stream = self._conn.streams.get(sid)
        return None if stream is None else stream.trailers

    def stream_is_open(self, sid: int) -> bool:
        """Whether a response, or more of one, can still be sent."""
        stream = self._conn.streams.get(sid)
        return stream is not None and stream.local_open

    def extended_connect_protocol(self, sid: int) -> str:
        """``:protocol`` of an extended CONNECT, ``""`` for any other request."""
        return self._stream(sid).extended_connect_protocol

    # Responses.

    def emit_response(self, sid: int, resp: Any, extra: FieldSource = ()) -> None:
        """Answer with ``resp.status``, ``.headers``, ``.body`` and, where it has any,
        ``.trailers``; *extra* are fields in front of its own.

        ``content-length`` is added; an empty answer to HEAD keeps its own. Raises ``ValueError``
        for fields that cannot be sent, before anything is.
        """
        if (stream := self._answerable(sid)) is None:
            return
        body: BytesLike = resp.body
        status, fields = self._head(resp, extra, _OWNED)
        if status in (204, 304) or stream.method == "HEAD":
            own = resp.headers.get("content-length", "") if not len(body) else str(len(body))
            if own and status != 204:
                fields.append(("content-length", own))
            body = b""
        else:
            fields.append(("content-length", str(len(body))))
        trailers = getattr(resp, "trailers", None)
        self._send(stream, fields, body, outgoing_fields(trailers) if trailers else ())

    def send_response(
        self, sid: int, fields: Fields, body: BytesLike = b"", trailers: Fields = ()
    ) -> None:
        """Answer with *fields*, ``:status`` first, as they are: lower-case names, sound values."""
        if (stream := self._answerable(sid)) is not None:
            self._send(stream, fields, body, trailers)

    def _send(self, stream: Stream, fields: Fields, body: BytesLike, trailers: Fields) -> None:
        stream.taken = False
        whole = not (len(body) or trailers)
        self._conn.send_headers(stream, fields, whole)
        if not whole:
            self._conn.send_body(stream, body, True, trailers)

    def send_informational(self, sid: int, status: int, headers: FieldSource = ()) -> None:
        """An interim response, 100 or 102 to 199; any number before the final one."""
        if not 100 <= status < 200 or status == 101:
            raise ValueError(f"expected a status from 100 to 199 but 101, got {status}")
        if (stream := self._answerable(sid)) is not None:
            fields = [(":status", str(status)), *outgoing_fields(headers, _OWNED)]
            self._conn.send_headers(stream, fields, False)

    def begin_stream_response(self, sid: int, resp: Any, extra: FieldSource = ()) -> None:
        """The head of a response whose body follows; its own ``content-length`` is kept.

        To HEAD, and with 204 or 304, it is the whole response.
        """
        if (stream := self._answerable(sid)) is None:
            return
        status, fields = self._head(resp, extra, CONNECTION_FIELDS)
        whole = status in (204, 304) or stream.method == "HEAD"
        if whole:
            stream.taken = False
        self._conn.send_headers(stream, fields, whole)

    def begin_response(self, sid: int, fields: Fields) -> bool:
        """The head of a response whose body follows, as for ``send_response``; whether anybody
        waits for it."""
        if (stream := self._answerable(sid)) is None:
            return False
        self._conn.send_headers(stream, fields, False)
        return True

    def queue_stream_data(self, sid: int, data: BytesLike) -> int:
        """Queue body bytes; how many of them there was room for.

        0 where ``max_queued_bytes`` wait already, and for a stream that was reset or whose
        response is whole: ``stream_is_open`` tells these apart.
        """
        stream = self._conn.streams.get(sid)
        if stream is None or not stream.local_open:
            return 0
        room = self._conn.config.max_queued_bytes - self._conn.outbox.queued_bytes
        size = min(len(data), max(0, room))
        if size:
            whole = size == len(data)
            self._conn.send_body(stream, data if whole else memoryview(data)[:size], False)
        return size

    def end_stream_response(self, sid: int, trailers: FieldSource = ()) -> None:
        """The body is whole; *trailers* follow it."""
        self._conn.lingering.discard(sid)
        stream = self._conn.streams.get(sid)
        if stream is not None and stream.local_open:
            fields = outgoing_fields(trailers)
            stream.taken = False
            self._conn.send_body(stream, b"", True, fields)

    def accept_ws_over_h2(self, sid: int, headers: FieldSource = ()) -> None:
        """Answer an extended CONNECT with 200; both sides may then send data, each until its own
        ``end_stream``. What is left to read when both have counts as a stream until it is read."""
        if (stream := self._answerable(sid)) is not None:
            if not stream.extended_connect_protocol:
                raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "no extended CONNECT")
            stream.taken = stream.tunnel = True
            fields = [(":status", "200"), *outgoing_fields(headers, _OWNED)]
            self._conn.send_headers(stream, fields, False)

    def reset_stream(self, sid: int, code: int = Http2ErrorCode.CANCEL) -> None:
        """End a stream at once; nobody works on it any more."""
        stream = self._conn.streams.get(sid)
        if stream is not None:
            stream.taken = False
            if stream.closed:
                self._conn.let_go(stream)
            else:
                self._conn.reset_stream(sid, code)
        self._conn.lingering.discard(sid)

    def abandon(self, sid: int) -> None:
        """Nobody works on this stream any more. One that is still open gets INTERNAL_ERROR."""
        self.reset_stream(sid, Http2ErrorCode.INTERNAL_ERROR)

    def retain(self, sid: int) -> None:
        """Work on this stream goes on though it is answered: count it until ``release``."""
        self._conn.lingering.add(sid)

    def release(self, sid: int) -> None:
        """Nobody works any more on a stream that was reset, or retained."""
        self._conn.lingering.discard(sid)

    def _head(
        self, resp: Any, extra: FieldSource, dropped: frozenset[str]
    ) -> tuple[int, list[tuple[str, str] | HpackHeader]]:
        status = int(resp.status)
        if not 200 <= status <= 999:
            raise ValueError(f"expected a final status, got {status}")
        fields: list[tuple[str, str] | HpackHeader] = [(":status", str(status))]
        if extra:
            fields += outgoing_fields(extra, dropped)
        fields += outgoing_fields(resp.headers, dropped)
        return status, fields

    def _stream(self, sid: int) -> Stream:
        stream = self._conn.streams.get(sid)
        if stream is None:
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "no such stream")
        return stream

    def _answerable(self, sid: int) -> Stream | None:
        """The stream to answer on; ``None`` for one that is gone, which is then done with."""
        if sid in self._conn.lingering:
            self._conn.lingering.discard(sid)
            return None
        stream = self._stream(sid)
        if not stream.local_open:
            raise Http2Error(Http2ErrorCode.INTERNAL_ERROR, sid, "answered already")
        return stream

    # The end.

    def goaway_received_flag(self) -> bool:
        """Whether the client opens no more streams. Those it has go on."""
        return self._conn.goaway_received

    def send_goaway(self, code: int = Http2ErrorCode.NO_ERROR) -> None:
        """Refuse new streams from now on; those that are open go on."""
        self._conn.goaway(code)

    def shutdown(self) -> None:
        """Announce the end, and refuse new streams once the client has had time to hear of it:
        when it answers a PING, or a second later."""
        self._conn.shutdown()

    def cancel_streams(self, code: int = Http2ErrorCode.CANCEL) -> None:
        """Reset every stream that is open, as at the end of a drain's budget."""
        for stream in list(self._conn.streams.values()):
            self._conn.report_reset(stream)
            self._conn.reset_stream(stream.id, code)

    @property
    def can_close(self) -> bool:
        """Whether an end was announced by either side, and all is answered and drained."""
        return self._conn.can_close


def _taken(ids: list[int]) -> list[int]:
    taken = ids.copy()
    ids.clear()
    return taken


H2Connection = Http2Connection
