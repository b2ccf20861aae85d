"""Each limit answers with its status one past it, and not at it."""

from __future__ import annotations

import pytest
from serving import Connect, Serve

from flare.errors import http_reason_phrase
from flare.http import Request, Response, ok
from flare.http.proto import H1LeniencyConfig
from flare.http.server import ServerConfig

FIRST = b"GET / HTTP/1.1\r\nHost: h\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def echo(request: Request) -> Response:
    return ok(request.body)


def with_fields(size: int) -> bytes:
    """A request whose field lines, CRLFs included, make *size* bytes."""
    return FIRST + b"X: " + b"a" * (size - len(b"Host: h\r\nX: \r\n")) + b"\r\n\r\n"


def with_target(size: int) -> bytes:
    return b"GET /" + b"a" * (size - 1) + b" HTTP/1.1\r\nHost: h\r\n\r\n"


def counted(size: int) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
    return head + b"b" * size


def chunked(*sizes: int) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (n, b"c" * n) for n in sizes) + b"0\r\n\r\n"


def with_trailers(size: int) -> bytes:
    line = b"X: " + b"t" * (size - 5) + b"\r\n"
    return CHUNKED + b"0\r\n" + line + b"\r\n"


LIMITS = ServerConfig(max_header_size=300, max_body_size=400, max_uri_length=200)
PAST = [
    pytest.param(with_fields(300), with_fields(301), 431, id="field section"),
    pytest.param(with_target(200), with_target(201), 414, id="target"),
    pytest.param(counted(400), counted(401), 413, id="counted body"),
    pytest.param(chunked(400), chunked(401), 413, id="one chunk"),
    pytest.param(chunked(150, 150, 100), chunked(150, 150, 101), 413, id="several chunks"),
    pytest.param(with_trailers(300), with_trailers(301), 431, id="trailer section"),
]


@pytest.mark.parametrize(("at", "past", "status"), PAST)
def test_a_limit_holds_exactly(
    serve: Serve, connect: Connect, at: bytes, past: bytes, status: int
) -> None:
    peer = connect(serve(echo, LIMITS))
    peer.send(at)
    assert peer.read().status == 200
    peer.send(past)
    assert peer.read().status == status
    assert peer.rest() == b""


def test_a_hundred_field_lines_pass_and_one_more_does_not(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(echo))
    peer.send(FIRST + b"A: b\r\n" * 99 + b"\r\n")
    assert peer.read().status == 200
    peer.send(FIRST + b"A: b\r\n" * 100 + b"\r\n")
    assert peer.read().status == 431


REFUSED = [
    (b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET /\r\nHost: h\r\n\r\n", 400),
    (b"get / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    (b"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET / HTTP/1.32\r\nHost: h\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: h\n\n", 400),
    (FIRST + b"no colon\r\n\r\n", 400),
    (FIRST + b"A : b\r\n\r\n", 400),
    (FIRST + b"A: b\r\n c\r\n\r\n", 400),
    (FIRST + b"A: b\0c\r\n\r\n", 400),
    (FIRST + b"Content-Length: +1\r\n\r\na", 400),
    (FIRST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    (FIRST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (FIRST + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
    (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (CHUNKED + b"zz\r\n", 400),
    (CHUNKED + b"1\r\nabc\r\n", 400),
    (CHUNKED + b"1;a=\n\r\na\r\n0\r\n\r\n", 400),
    (FIRST + b"Expect: 200-maybe\r\n\r\n", 417),
    (FIRST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", 505),
    (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
]


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED)
def test_a_refused_request_gets_its_status_and_nothing_after_it_is_read(
    serve: Serve, connect: Connect, request_bytes: bytes, status: int
) -> None:
    seen = []
    peer = connect(serve(lambda request: seen.append(request) or ok()))
    peer.send(request_bytes + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    reply = peer.read()
    text = f"{status} {http_reason_phrase(status)}"
    assert reply.line == f"HTTP/1.1 {text}"
    assert reply.body == text.encode()
    assert reply.get("content-type") == "text/plain"
    assert reply.get("connection") == "close"
    assert reply.get("date")
    assert peer.rest() == b""
    assert seen == []


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (b"GET /" + b"a" * 500, 414),
        (FIRST + b"X: " + b"a" * 400, 431),
        (FIRST + b"A: b\r\n" * 100, 431),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 100, 431),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 401\r\n\r\n", 413),
        (CHUNKED + b"ffffff\r\n", 413),
        (b"x" * 500, 414),
    ],
)
def test_what_is_over_its_limit_is_refused_before_it_ends(
    serve: Serve, connect: Connect, part: bytes, status: int
) -> None:
    peer = connect(serve(echo, LIMITS))
    peer.send(part)
    assert peer.read().status == status
    assert peer.rest() == b""


@pytest.mark.usefixtures("no_haste")
def test_an_upload_that_is_too_large_reads_its_413_and_not_a_reset(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve(echo, LIMITS))
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n")
    peer.send(b"x" * 30_000)
    peer.send(b"x" * 30_000)
    assert peer.read().status == 413
    assert peer.rest() == b""


def test_a_server_without_bodies_takes_requests_without(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(echo, ServerConfig(max_body_size=0)))
    peer.get("/")
    assert peer.read().status == 200
    peer.post(b"")
    assert peer.read().status == 200
    peer.post(b"x")
    assert peer.read().status == 413


def test_leniency_of_the_configuration_reaches_the_parser(serve: Serve, connect: Connect) -> None:
    config = ServerConfig(
        h1_leniency=H1LeniencyConfig(
            allow_lf_only_line_endings=True, allow_te_chunked_when_cl_present=True
        )
    )
    peer = connect(serve(echo, config))
    peer.send(b"GET / HTTP/1.1\nHost: h\n\n")
    assert peer.read().get("connection") == "keep-alive"
    peer.send(FIRST + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
    reply = peer.read()
    assert (reply.body, reply.get("connection")) == (b"a", "close")
    assert peer.is_ended()


def test_one_byte_at_a_time_is_the_same_request(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(lambda request: ok(request.body + request.trailers.get("t").encode())))
    for byte in CHUNKED + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: f\r\nHost: evil\r\n\r\n":
        peer.send(bytes([byte]))
    assert peer.read().body == b"abcdef"
