"""Fuzz harnesses of what stands on the codec: borrowed requests, static answers, who is behind a
proxy. Each asserts that a laxer or faster road agrees with the strict and slow one."""

from __future__ import annotations

from flare.http.forwarded import Forwarding
from flare.http.proto.decoder import EndOfMessage, RequestDecoder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import H1Limits, RequestHead
from flare.http.proxy_protocol import (
    ProxyHeader,
    ProxyParseError,
    parse_proxy_protocol,
    parse_proxy_v1,
    parse_proxy_v2,
)
from flare.http.request_view import parse_request_view
from flare.http.server.config import ServerConfig
from flare.http.server.h1_shared import H1Shared, Plan
from flare.http.server.static_wire import StaticAnswers, StaticWire
from flare.http.server.wire import DONE
from flare.http.static_response import precompute_response
from flare.net import SocketAddr
from flare.runtime.date_cache import DateCache
from fuzz.registry import harness

_GET = b"GET /a?b HTTP/1.1\r\nHost: h\r\nCookie: c=d\r\n\r\n"
_PLAIN = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
_REQUESTS = [
    _GET,
    _PLAIN * 3,
    b"POST http://b/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + _GET,
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n",
    b"HEAD /\nHost: a\n\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
]
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_PROXY_HEADERS = [
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET",
    b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
    b"PROXY UNKNOWN whatever\r\n",
    _SIGNATURE + b"\x21\x11\0\x10\x7f\0\0\1\x7f\0\0\2\x1f\x90\0\x50\1\0\1h",
    _SIGNATURE + b"\x21\x21\0\x24" + bytes(36),
    _SIGNATURE + b"\x20\0\0\0",
]


def _check_text(error: Exception) -> None:
    text = str(error)
    assert text.isascii(), text
    assert text.isprintable(), text
    assert len(text) < 250, text


def _first_message(data: bytes) -> tuple[RequestHead, bytes] | None:
    """The first request in *data*, strictly read, if all of it is there."""
    decoder = RequestDecoder(H1Limits(max_body_size=1 << 16))
    decoder.receive(data)
    head, body = None, b""
    try:
        while (event := decoder.next_event()) is not None:
            match event:
                case RequestHead():
                    head = event
                case EndOfMessage():
                    assert head is not None
                    return head, body
                case _:
                    body += event
    except HttpParseError:
        pass
    return None


@harness(seeds=_REQUESTS)
def request_view(data: bytes) -> None:
    """What the strict reader takes, the view reads alike; the rest it may take has a bare LF or
    no version."""
    strict = _first_message(data)
    buffer = bytearray(data)
    view = None
    try:
        view = parse_request_view(buffer, max_body_size=1 << 16)
    except HttpParseError as error:
        _check_text(error)
    if view is None:
        assert strict is None, f"the view refuses {data!r}"
        return
    owned = view.into_owned()
    assert list(view.headers()) == owned.headers.items()
    assert view.body() == owned.body
    if strict is not None:
        head, body = strict
        assert (view.method, view.url(), view.version) == (head.method, head.target, head.version)
        assert [(name, value) for _, name, value in head.fields.items] == owned.headers.items()
        assert owned.body == body
    view.release()
    buffer.clear()  # impossible while anything still borrows from it


def _static_outcome(pieces: list[bytes], answers: StaticAnswers) -> tuple[bytes, bool]:
    config = ServerConfig(max_body_size=1 << 16)
    shared = H1Shared(config, _plan, _DATE)
    wire = StaticWire(shared, SocketAddr.localhost(1), answers)
    sent = b""
    for piece in pieces:
        wire.receive(piece)
        assert wire.out_bytes == sum(map(len, wire.out))
        sent += b"".join(wire.out)
        wire.out.clear()
        wire.out_bytes = 0
    # Whether leave to go on is given depends on whether the body has begun to come.
    return sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), wire.phase == DONE


def _plan(head: RequestHead) -> Plan:
    raise AssertionError("a static wire asks nobody who answers")


_DATE = DateCache(lambda: 0.0)


@harness(seeds=[*_REQUESTS, _PLAIN + b"\r\n" + _PLAIN, _PLAIN + b"Expect: x\r\n\r\n"])
def static_wire(data: bytes) -> None:
    """As many answers whatever the cut, and whatever the wire has come to know."""
    answers = StaticAnswers(precompute_response(200, "text/plain", "hi"))
    whole = _static_outcome([data], answers)
    error = b"HTTP/1.1 4" in whole[0] or b"HTTP/1.1 5" in whole[0]
    cut = _static_outcome([data[i : i + 1] for i in range(len(data))], answers)
    if error:  # of two errors in one head the cut may decide which is told
        assert cut[1]
        assert cut[0].count(b"200 OK") == whole[0].count(b"200 OK")
    else:
        assert cut == whole
    alone = _static_outcome([_PLAIN, data], StaticAnswers(answers.response))
    for _ in range(2):
        assert _static_outcome([_PLAIN, data], answers) == alone


def _proxy_outcome(data: bytes) -> ProxyHeader | int | None:
    """The header, ``None`` for more, or the version of the error."""
    try:
        found = parse_proxy_protocol(data)
    except ProxyParseError as error:
        _check_text(error)
        return error.version
    if found is not None:
        assert 0 < found.consumed <= len(data)
    return found


@harness(seeds=_PROXY_HEADERS)
def proxy_protocol(data: bytes) -> None:
    """The same header from any longer input, none from any shorter; an error stays one."""
    found = _proxy_outcome(data)
    if isinstance(found, ProxyHeader):
        assert _proxy_outcome(data[: found.consumed]) == found
        assert _proxy_outcome(data + b"\0more") == found
        assert all(_proxy_outcome(data[:n]) is None for n in range(found.consumed))
        parse = parse_proxy_v1 if data[:1] == b"P" else parse_proxy_v2
        assert parse(memoryview(data)) == found
    elif found is not None:
        assert isinstance(_proxy_outcome(data + b"\0more"), int)


_TRUSTED = ("10.0.0.0/8", "::1")
_HOP = SocketAddr.parse("10.0.0.1:9")
_CLIENT = SocketAddr.parse("203.0.113.9:0")


@harness(
    seeds=[
        b'for=192.0.2.1;proto=https, for="[::1]:80";by=_x , for=10.0.0.2',
        b"for=unknown;;host=a,,for=_h",
        b'for="10.0.0.2, for="10.0.0.3"',
        b"192.0.2.1:80, [2001:db8::1]:1, ::ffff:10.1.1.1, 10.0.0.2",
    ]
)
def forwarded(data: bytes) -> None:
    """Reading never raises, and nothing left of what a proxy saw changes what it saw."""
    text = data.decode("latin-1")
    for name, mine in (
        ("forwarded", "for=203.0.113.9;proto=https"),
        ("x-forwarded-for", "203.0.113.9"),
    ):
        fields = HeaderMap._from_items([(name, name, text)])
        forwarding = Forwarding(_TRUSTED, (name,))
        origin = forwarding.origin(fields, _HOP)
        assert origin.scheme in (None, "http", "https")
        assert isinstance(origin.client, SocketAddr)
        assert forwarding.peer_of(_CLIENT) is _CLIENT
        for lines in ([f"{text},{mine}"], [text, mine]):
            fields = HeaderMap._from_items([(name, name, line) for line in lines])
            assert forwarding.origin(fields, _HOP).client == _CLIENT
