"""Fuzz harnesses of the HTTP/1.1 codec: bytes in, an event or ``HttpParseError`` out.

Each takes hostile bytes and asserts what the codec promises: no other exception; nothing parsed
after an error; the same messages whatever the cut and whatever was parsed before; an error text
fit for a log. Where a message is wrong in two ways, the cut may decide which is reported, and how
much of its body came before; that it is refused, and all messages before it, may not differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flare.http.proto import encoder, fields, heads
from flare.http.proto.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from flare.http.proto.decoder import (
    RESPONSE_LENIENCY,
    EndOfMessage,
    RequestDecoder,
    ResponseDecoder,
)
from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import FieldBlock
from flare.http.proto.h1_leniency import H1LeniencyConfig
from flare.http.proto.heads import H1Limits, RequestHead, ResponseHead
from fuzz.registry import harness

MESSAGES_READ = 40
METHODS = ("GET", "HEAD", "POST", "CONNECT")
FLAGS = H1LeniencyConfig.__slots__

Message = tuple[object, ...]
Outcome = tuple[list[Message], str]


def _check(error: HttpParseError) -> None:
    text = str(error)
    assert text.isascii(), text
    assert text.isprintable(), text
    assert len(text) < 250, text
    assert error.variant_name() != "UNKNOWN", error.variant
    assert 400 <= error.status < 600, error.status


def _error_of(decoder: RequestDecoder | ResponseDecoder) -> HttpParseError | None:
    try:
        decoder.next_event()
    except HttpParseError as error:
        return error
    return None


def _forget() -> None:
    for memo in (fields._line_memo, fields._block_memo, heads._head_memo, encoder._line_memo):
        memo.clear()


def _facts(block: FieldBlock) -> tuple[object, ...]:
    for lower, name, value in block.items:
        assert name
        assert lower == name.lower()
        assert value == value.strip(" \t")
        assert not set(name + value) & set("\r\n\0")
    return block.items


def _read(
    decoder: RequestDecoder | ResponseDecoder, pieces: Iterable[bytes], methods: Iterable[str]
) -> Outcome:
    """The messages in *pieces*, and how they ended: ``open``, ``between`` or ``error``."""
    done: list[Message] = []
    head: tuple[object, ...] = ()
    body = b""
    waiting = iter(methods)
    error: HttpParseError | None = None

    def expect_next() -> None:
        if isinstance(decoder, ResponseDecoder):
            decoder.expect(next(waiting, "GET"))

    expect_next()
    try:
        for piece in (*pieces, None):
            if piece is None:
                decoder.receive_eof()
            else:
                decoder.receive(piece)
            while (event := decoder.next_event()) is not None:
                match event:
                    case RequestHead():
                        assert not head
                        head = (event.method, event.target, event.minor, _facts(event.fields))
                        head += (event.framing, event.keep_alive, event.expect_continue)
                        assert not event.minor or len(event.fields.hosts) == 1
                    case ResponseHead() if event.status < 200 and event.status != 101:
                        done.append((event.status, event.reason, _facts(event.fields)))
                    case ResponseHead():
                        assert not head
                        head = (event.status, event.reason, event.minor, _facts(event.fields))
                        head += (event.framing, event.keep_alive)
                    case EndOfMessage():
                        done.append((*head, body, _facts(event.trailers)))
                        head, body = (), b""
                        if len(done) >= MESSAGES_READ:
                            return done, "enough"
                        expect_next()
                    case _:
                        assert head
                        assert event
                        body += event
    except HttpParseError as caught:
        error = caught
    if error is not None:
        _check(error)
        decoder.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        later = [_error_of(decoder), _error_of(decoder)]
        assert later == [error, error], f"{later} after {error!r}"
        return done, "error"
    return done, "open" if decoder.in_message else "between"


def _cuts(data: bytes) -> list[list[bytes]]:
    """*data* whole, byte by byte, and in pieces of a length its own bytes choose."""
    step = 2 + sum(data[:16]) % 61
    return [
        [data],
        [data[i : i + 1] for i in range(len(data))],
        [data[i : i + step] for i in range(0, len(data), step)],
    ]


def _same_however_cut(
    make: Callable[[], RequestDecoder | ResponseDecoder], data: bytes, methods: tuple[str, ...] = ()
) -> None:
    _forget()
    whole, *others = (_read(make(), pieces, methods) for pieces in _cuts(data))
    for other in others:
        assert other == whole, f"{other} is not {whole}"
    # Once more, now that the memos are warm.
    assert _read(make(), [data], methods) == whole


def h1_request(data: bytes) -> None:
    """A stream of requests, strictly read under the default limits."""
    _same_however_cut(RequestDecoder, data)


def h1_request_limits(data: bytes) -> None:
    """A stream of requests under limits small enough to be reached."""
    tight = H1Limits(max_header_size=64, max_uri_length=16, max_body_size=8, max_fields=4)
    _same_however_cut(RequestDecoder, data)
    whole = _read(RequestDecoder(tight), [data], ())
    for pieces in _cuts(data)[1:]:
        assert _read(RequestDecoder(tight), pieces, ()) == whole
    _forget()
    assert _read(RequestDecoder(tight), [data], ()) == whole


def h1_request_lenient(data: bytes) -> None:
    """The first two bytes choose the leniency. What strictness accepts means the same to it."""
    choice = int.from_bytes(data[:2], "big")
    data = data[2:]
    on = {name: bool(choice >> i & 1) for i, name in enumerate(FLAGS)}
    limits = H1Limits(max_uri_length=64, max_header_size=256, h1_leniency=H1LeniencyConfig(**on))
    _same_however_cut(lambda: RequestDecoder(limits), data)
    strict_limits = H1Limits(max_uri_length=64, max_header_size=256)
    strict, end = _read(RequestDecoder(strict_limits), [data], ())
    lenient, _ = _read(RequestDecoder(limits), [data], ())
    assert lenient[: len(strict)] == strict, f"{lenient} does not begin with {strict}, {end}"


def h1_response(data: bytes) -> None:
    """The first byte chooses the methods that were asked with."""
    choice = data[0] if data else 0
    methods = tuple(METHODS[choice >> shift & 3] for shift in (0, 2, 4))
    _same_however_cut(ResponseDecoder, data[1:], methods)
    tight = H1Limits(
        max_header_size=64, max_body_size=8, max_fields=4, h1_leniency=RESPONSE_LENIENCY
    )
    _same_however_cut(lambda: ResponseDecoder(tight), data[1:], methods)


def h1_heads(data: bytes) -> None:
    """The two functions that read one head: bytes used lie inside the data, and suffice."""
    limits = H1Limits()
    for read in (
        lambda part: heads.parse_h1_request_head(part, limits),
        lambda part: heads.parse_h1_response_head(part, "GET", limits),
    ):
        try:
            found = read(data)
        except HttpParseError as error:
            _check(error)
            continue
        if found is not None:
            head, used = found
            assert 0 < used <= len(data)
            again = read(data[:used])
            assert again is not None
            assert again[1] == used
            assert repr(again[0]) == repr(head)
            assert read(data[: used - 1]) is None


def h1_chunked(data: bytes) -> None:
    """One chunked body; what is read and written again reads as the same."""
    outcomes: set[tuple[bytes, tuple[fields.Item, ...], int] | None] = set()
    for pieces in _cuts(data):
        decoder = ChunkedDecoder(max_body_size=1 << 20)
        body = b""
        try:
            for i, piece in enumerate(pieces):
                body += decoder.receive(piece)
                if decoder.done:
                    rest = decoder.unused + sum(map(len, pieces[i + 1 :]))
                    outcomes.add((body, decoder.trailers.items, rest))
                    break
            else:
                outcomes.add((body, (), -1))
        except HttpParseError as error:
            _check(error)
            outcomes.add(None)
    (outcome,) = outcomes
    if outcome is not None and outcome[2] >= 0:
        body, trailers, _ = outcome
        again = ChunkedDecoder()
        wire = encode_chunk(body) if body else b""
        wire += encode_last_chunk([(name, value) for _, name, value in trailers])
        assert again.receive(wire) == body
        assert again.done
        assert again.unused == 0


_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_POST = b"POST /x?y HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
_CHUNKED = (
    b"PUT http://b/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b'3;a="b"\r\nabc\r\n0\r\nX-T: y\r\nHost: z\r\n\r\n'
)
_REQUESTS = [
    _GET,
    _POST + _GET,
    _CHUNKED + b"\r\n" + _POST,
    b"CONNECT [::1]:80 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + _GET,
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nCookie: a=b\r\nCookie: c\r\n\r\n",
    b"GET / HTTP/1.1\nHost : a\n fold\nContent-Length: 1, 1\n\nx",
    b"\r\n get / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
_RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.0 404 \r\n\r\nrest",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 5, 5\r\n\r\n",
    b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nA: b\n c\n\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
]

SEEDS: dict[str, list[bytes]] = {
    "h1_request": _REQUESTS,
    "h1_request_limits": _REQUESTS,
    "h1_request_lenient": [flags + data for flags in (b"\0\0", b"\7\xff") for data in _REQUESTS],
    "h1_response": [method + data for method in (b"\0", b"\4") for data in _RESPONSES],
    "h1_heads": _REQUESTS + _RESPONSES,
    "h1_chunked": [
        b"3\r\nabc\r\n0\r\n\r\n",
        b'a;b=c;d="e"\r\n0123456789\r\n00\r\nA: b\r\nHost: x\r\n\r\nrest',
        b"FFFFFFFFFFFFFFFF\r\n",
    ],
}
HARNESSES: dict[str, Callable[[bytes], None]] = {
    "h1_request": h1_request,
    "h1_request_limits": h1_request_limits,
    "h1_request_lenient": h1_request_lenient,
    "h1_response": h1_response,
    "h1_heads": h1_heads,
    "h1_chunked": h1_chunked,
}
for _name, _run in HARNESSES.items():
    harness(SEEDS[_name])(_run)
