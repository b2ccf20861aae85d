"""HTTP/1.1 messages from bytes, for both roles, without I/O (RFC 9112).

Give a decoder what the socket gave (``receive``, ``receive_eof``) and take events from it until
it returns ``None``, which means "more bytes first"::

    HEAD --head, body--> BODY --last byte--> HEAD
    HEAD --head, no body--> HEAD             each message: its head, pieces of body, EndOfMessage
    any  --error--> FAILED                   the error again, for ever; nothing is parsed after it

The events of one message never depend on how its bytes were cut. The server takes the next
request's events only when the last one is answered, which is all that pipelining needs.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from flare.http.proto.chunked import ChunkedDecoder, is_forbidden_trailer
from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import EMPTY_BLOCK, FieldBlock
from flare.http.proto.framing import CHUNKED, LENGTH, NO_BODY, Framing
from flare.http.proto.h1_leniency import H1LeniencyConfig
from flare.http.proto.heads import (
    MAX_LEADING,
    H1Limits,
    RequestHead,
    ResponseHead,
    check_incomplete_head,
    check_incomplete_response_head,
    find_head_end,
    leading_whitespace,
    parse_request_head,
    parse_response_head,
)

__all__ = ["EndOfMessage", "RequestDecoder", "ResponseDecoder"]

# Interim responses before a final one; a server that sends more is not going to answer.
MAX_INTERIM = 32
# The longest head that is kept to compare the next one with, in bytes.
_MAX_LAST_HEAD = 2048
# What a client reads: bare LFs (RFC 9112 section 2.2) and folded lines (section 5.2) do no harm
# in a response that ends where this decoder says it ends.
RESPONSE_LENIENCY = H1LeniencyConfig(allow_lf_only_line_endings=True, allow_obs_fold=True)


class EndOfMessage:
    """The message is complete. ``trailers`` are its trailer fields, often none."""

    __slots__ = ("trailers",)

    def __init__(self, trailers: FieldBlock) -> None:
        self.trailers = trailers


_END: Final = EndOfMessage(EMPTY_BLOCK)


class _State(Enum):
    HEAD = auto()
    END = auto()
    BODY_LENGTH = auto()
    BODY_CHUNKED = auto()
    BODY_UNTIL_CLOSE = auto()
    FAILED = auto()


class _Decoder:
    """What both roles share: the buffer, the body states, the end of the stream."""

    def __init__(self, limits: H1Limits) -> None:
        self.limits = limits
        self._state = _State.HEAD
        self._buf: bytes | bytearray = b""
        self._pos = 0
        self._scan = 0
        self._left = 0
        self._decoded = 0
        self._chunked: ChunkedDecoder | None = None
        self._end = _END
        self._eof = False
        self._error: HttpParseError | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. *data* must not change afterwards."""
        if self._pos >= len(self._buf):
            self._buf = data
            self._pos = self._scan = 0
        elif isinstance(self._buf, bytearray) and not self._pos:
            self._buf += data
        else:
            buf = bytearray(memoryview(self._buf)[self._pos :])
            buf += data
            self._buf = buf
            self._scan = max(0, self._scan - self._pos)
            self._pos = 0

    def receive_eof(self) -> None:
        """The peer will send no more."""
        self._eof = True

    @property
    def buffered(self) -> int:
        """Bytes received that no event has used yet."""
        return len(self._buf) - self._pos

    @property
    def counted_left(self) -> int:
        """How many bytes of the body, none of them received yet, follow as they are; else 0."""
        if self._state is not _State.BODY_LENGTH or self._pos < len(self._buf):
            return 0
        return self._left

    def take_counted(self, n: int) -> None:
        """*n* of the ``counted_left`` bytes were received past this decoder."""
        self._left -= n
        if not self._left:
            self._state = _State.END

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended. A blank line before it is no beginning."""
        if self._state is not _State.HEAD:
            return True
        return bool(self._buf[self._pos : self._pos + MAX_LEADING + 1].strip(b"\r\n \t"))

    def take_rest(self) -> bytes:
        """All unused bytes, for whoever reads the connection next (after an upgrade)."""
        rest = bytes(memoryview(self._buf)[self._pos :])
        self._buf, self._pos, self._scan = b"", 0, 0
        return rest

    def _fail(self, error: HttpParseError) -> HttpParseError:
        self._state = _State.FAILED
        # A copy, for the error itself gains a traceback, and so all its frames hold.
        self._error = HttpParseError(error.variant, error.detail, error.status)
        self._buf, self._pos = b"", 0
        return error

    def _begin_body(self, framing: Framing) -> None:
        limit = self.limits.max_body_size
        kind = framing.kind
        self._decoded = 0
        if kind == NO_BODY:
            self._state = _State.END
        elif kind == LENGTH:
            if limit is not None and framing.length > limit:
                raise _body_too_large(limit)
            self._left = framing.length
            self._state = _State.BODY_LENGTH if framing.length else _State.END
        elif kind == CHUNKED:
            self._chunked = ChunkedDecoder(
                max_body_size=limit,
                max_trailer_size=self.limits.max_header_size,
                max_fields=self.limits.max_fields,
                leniency=self.limits.h1_leniency,
            )
            self._state = _State.BODY_CHUNKED
        else:
            self._state = _State.BODY_UNTIL_CLOSE

    def _next_body_event(self) -> bytes | EndOfMessage | None:
        match self._state:
            case _State.END:
                self._state = _State.HEAD
                if self._pos >= len(self._buf):  # not to be held until the next request
                    self._buf, self._pos = b"", 0
                end, self._end = self._end, _END
                return end
            case _State.BODY_LENGTH:
                return self._next_counted()
            case _State.BODY_CHUNKED:
                return self._next_chunked()
            case _State.BODY_UNTIL_CLOSE:
                if data := self.take_rest():
                    self._count(data)
                    return data
                if not self._eof:
                    return None
                self._state = _State.HEAD
                return _END
            case _:
                assert self._error is not None
                raise self._error

    def _next_counted(self) -> bytes | None:
        buf, pos = self._buf, self._pos
        size = len(buf) - pos
        if not size:
            if self._eof:
                raise _truncated(f"{self._left} bytes of the body are missing")
            return None
        if pos == 0 and size <= self._left and isinstance(buf, bytes):
            data = buf
            self._buf = b""
        else:
            data = bytes(memoryview(buf)[pos : pos + self._left])
            self._pos = pos + len(data)
        self._left -= len(data)
        if not self._left:
            self._state = _State.END
        return data

    def _next_chunked(self) -> bytes | EndOfMessage | None:
        chunked = self._chunked
        assert chunked is not None
        data = b""
        if self.buffered:
            if not isinstance(self._buf, bytes):
                self._buf = self.take_rest()
            data = chunked.receive(self._buf, self._pos)
            self._pos = len(self._buf) - chunked.unused
        if chunked.done:
            self._chunked = None
            if chunked.trailers.items:
                self._end = EndOfMessage(self._accept_trailers(chunked.trailers))
            self._state = _State.END
            return data or self._next_body_event()
        if not data and self._eof:
            raise _truncated("a chunked body has no end")
        return data or None

    def _count(self, data: bytes) -> None:
        self._decoded += len(data)
        limit = self.limits.max_body_size
        if limit is not None and self._decoded > limit:
            raise _body_too_large(limit)

    def _accept_trailers(self, trailers: FieldBlock) -> FieldBlock:
        return trailers


class RequestDecoder(_Decoder):
    """The server's side: the requests of one connection, in order."""

    def __init__(self, limits: H1Limits | None = None) -> None:
        super().__init__(limits or H1Limits())
        self._first = True
        self.refused_head = False
        """Whether the request that failed was a HEAD, whose refusal has no body either."""

    def next_event(self) -> RequestHead | bytes | EndOfMessage | None:
        """The next event, or ``None`` until more bytes come.

        Raises ``HttpParseError`` whose ``status`` answers the peer; after it the connection must
        end, and every later call raises it again. A stream that ends inside a message raises
        TRUNCATED.
        """
        try:
            if self._state is _State.HEAD:
                return self._next_head()
            return self._next_body_event()
        except HttpParseError as error:
            if self._state is _State.HEAD and self._buf.startswith(b"HEAD ", self._pos):
                self.refused_head = True
            raise self._fail(error)

    def pass_by(self) -> None:
        """A request was read past this decoder: the next one is not the connection's first."""
        self._first = False

    def limit_body(self, head: RequestHead, limit: int) -> None:
        """At most *limit* bytes of body for the request with *head*, the one that came last.

        Raises BODY_TOO_LARGE, at once where the head says so.
        """
        if head.framing.kind == LENGTH and head.framing.length > limit:
            self.refused_head = head.method == "HEAD"
            raise self._fail(_body_too_large(limit))
        if self._chunked is not None:
            self._chunked.max_body_size = limit

    def _next_head(self) -> RequestHead | None:
        buf, pos, limits = self._buf, self._pos, self.limits
        if pos >= len(buf):
            return None
        if buf[pos] <= 0x20:
            skipped = leading_whitespace(
                bytes(buf[pos : pos + MAX_LEADING + 1]), limits.h1_leniency, first=self._first
            )
            if skipped < 0:
                return None
            pos = self._pos = pos + skipped
        end, after = find_head_end(buf, pos, self._scan, limits.h1_leniency)
        if end < 0:
            check_incomplete_head(buf, pos, self._scan, limits)
            # An empty line may lie across the border: look at its first three bytes again.
            self._scan = max(pos, len(buf) - 3)
            if self._eof:
                raise _truncated("the connection ended inside a head")
            return None
        head = parse_request_head(bytes(buf[pos:end]), limits, limits.max_fields)
        if after == len(buf):
            self._buf, self._pos = b"", 0
        else:
            self._pos = after
        self._scan = 0
        self._first = False
        try:
            self._begin_body(head.framing)
        except HttpParseError:
            self.refused_head = head.method == "HEAD"
            raise
        return head

    def _accept_trailers(self, trailers: FieldBlock) -> FieldBlock:
        return FieldBlock(
            tuple(item for item in trailers.items if not is_forbidden_trailer(item[0]))
        )


class ResponseDecoder(_Decoder):
    """The client's side: call ``expect`` before each response with the method it answers.

    ``next_event`` gives interim responses (1xx) too, each a head with no EndOfMessage behind it;
    more than 32 of them raise TOO_MANY_INTERIM. A 101 is final.
    """

    def __init__(self, limits: H1Limits | None = None) -> None:
        super().__init__(
            limits
            or H1Limits(
                max_header_size=64 * 1024,
                max_body_size=None,
                max_fields=256,
                h1_leniency=RESPONSE_LENIENCY,
            )
        )
        self._method: str | None = None
        self._interim = 0
        self._last_head: ResponseHead | None = None
        self._last_raw = b""
        self._last_method = ""

    def expect(self, method: str) -> None:
        """The next response answers a request with *method*."""
        self._method = method
        self._interim = 0

    def next_event(self) -> ResponseHead | bytes | EndOfMessage | None:
        """The next event, or ``None`` until more bytes come. Raises ``HttpParseError``; TRUNCATED
        where the peer ends the connection inside a response, or before its first byte."""
        try:
            if self._state is _State.HEAD:
                return self._next_head()
            return self._next_body_event()
        except HttpParseError as error:
            raise self._fail(error)

    def _next_head(self) -> ResponseHead | None:
        method = self._method
        if method is None:
            return None
        buf, pos, limits = self._buf, self._pos, self.limits
        end, after = find_head_end(buf, pos, max(pos, self._scan), limits.h1_leniency)
        if end < 0:
            check_incomplete_response_head(buf, pos, limits)
            self._scan = max(pos, len(buf) - 3)
            if self._eof:
                raise _truncated(
                    "the connection ended " + ("inside" if len(buf) > pos else "before") + " a head"
                )
            return None
        raw = bytes(buf[pos:end])
        # Who asks for the same again and again is answered the same, for a second at least.
        head = self._last_head
        if head is None or raw != self._last_raw or method != self._last_method:
            head = parse_response_head(raw, method, limits, limits.max_fields)
            if not head.fields.secret and len(raw) <= _MAX_LAST_HEAD:
                self._last_head, self._last_raw, self._last_method = head, raw, method
        self._pos = after
        self._scan = 0
        if head.status < 200 and head.status != 101:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise HttpParseError(
                    HttpParseError.TOO_MANY_INTERIM, f"over {MAX_INTERIM} interim responses"
                )
            return head
        self._method = None
        self._begin_body(head.framing)
        return head

    def _accept_trailers(self, trailers: FieldBlock) -> FieldBlock:
        for lower, name, _ in trailers.items:
            if lower in _REFUSED_RESPONSE_TRAILERS:
                raise HttpParseError(HttpParseError.BAD_TRAILER, f"{name} must not be a trailer")
        return trailers


_REFUSED_RESPONSE_TRAILERS = frozenset(
    "transfer-encoding content-length host trailer authorization set-cookie cookie".split()
)


def _body_too_large(limit: int) -> HttpParseError:
    return HttpParseError(HttpParseError.BODY_TOO_LARGE, f"body over {limit} bytes")


def _truncated(what: str) -> HttpParseError:
    return HttpParseError(HttpParseError.TRUNCATED, what)
