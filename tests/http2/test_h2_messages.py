"""Heads and trailers: what a request, a response and what stands behind a body may hold."""

from __future__ import annotations

import pytest
from h2_wire import (
    GET,
    OK,
    POST,
    block,
    build_frame,
    data,
    head,
    request,
    sent,
    started_client,
    started_server,
)

from flare.http.proto.headers import HeaderInjectionError, HeaderMap
from flare.http.proto.hpack_fields import HpackHeader
from flare.http2 import Http2Config, Http2Error, Http2ErrorCode
from flare.http2.messages import (
    MessageError,
    outgoing_fields,
    parse_request_head,
    parse_response_head,
    parse_trailers,
)

Pairs = list[tuple[str, str]]


def headers(fields: Pairs) -> list[HpackHeader]:
    return [HpackHeader(*field) for field in fields]


def without(name: str, *instead: tuple[str, str]) -> Pairs:
    return [*(field for field in GET if field[0] != name), *instead]


def first(*fields: tuple[str, str]) -> Pairs:
    return [*fields, *GET]


BAD_REQUESTS = {
    "upper case": [*GET, ("X-A", "b")],
    "a blank in a name": [*GET, ("x a", "b")],
    "an empty name": [*GET, ("", "b")],
    "a colon in a name": [*GET, ("x:a", "b")],
    "a name past ASCII": [*GET, ("x\xe9", "b")],
    "a CR in a name": [*GET, ("x\r", "b")],
    "a NUL": [*GET, ("x", "a\0b")],
    "a CR": [*GET, ("x", "a\rb")],
    "an LF": [*GET, ("x", "a\nb: c")],
    "DEL": [*GET, ("x", "a\x7f")],
    "a blank in front": [*GET, ("x", " a")],
    "a blank behind": [*GET, ("x", "a ")],
    "a tab in front": [*GET, ("x", "\ta")],
    "nothing but a blank": [*GET, ("x", " ")],
    "connection": [*GET, ("connection", "close")],
    "keep-alive": [*GET, ("keep-alive", "1")],
    "proxy-connection": [*GET, ("proxy-connection", "close")],
    "transfer-encoding": [*GET, ("transfer-encoding", "chunked")],
    "upgrade": [*GET, ("upgrade", "h2c")],
    "te: gzip": [*GET, ("te", "gzip")],
    "te: trailers, gzip": [*GET, ("te", "trailers, gzip")],
    "a pseudo-field behind": [GET[0], ("x", "y"), *GET[1:]],
    "an unknown pseudo-field": first((":what", "x")),
    ":status": first((":status", "200")),
    ":method twice": first((":method", "GET")),
    ":path twice": first((":path", "/")),
    ":authority twice": first((":authority", "a.example")),
    "no :method": without(":method"),
    "no :scheme": without(":scheme"),
    "no :path": without(":path"),
    "no authority at all": without(":authority"),
    "an empty :method": [(":method", ""), *GET[1:]],
    "a lower-case :method": [(":method", "get"), *GET[1:]],
    "a blank in :method": [(":method", "GET /x"), *GET[1:]],
    "an empty :path": without(":path", (":path", "")),
    "a relative :path": without(":path", (":path", "x")),
    "a URL as :path": without(":path", (":path", "http://a.example/")),
    "a blank in :path": without(":path", (":path", "/ HTTP/1.1")),
    "a byte past ASCII in :path": without(":path", (":path", "/\xe9")),
    "* for GET": without(":path", (":path", "*")),
    "a strange :scheme": without(":scheme", (":scheme", "ht tp")),
    "an empty :scheme": without(":scheme", (":scheme", "")),
    "an empty :authority": without(":authority", (":authority", "")),
    "userinfo in :authority": without(":authority", (":authority", "u@a.example")),
    "a path in :authority": without(":authority", (":authority", "a.example/x")),
    "a query in :authority": without(":authority", (":authority", "a.example?x")),
    "a fragment in :authority": without(":authority", (":authority", "a.example#x")),
    "a port too large": without(":authority", (":authority", "a.example:65536")),
    "no host in :authority": without(":authority", (":authority", ":80")),
    "another host": [*GET, ("host", "b.example")],
    "host twice": [*GET, ("host", "a.example"), ("host", "a.example")],
    "host twice and no :authority": [*without(":authority"), ("host", "a"), ("host", "a")],
    ":protocol of a GET": first((":protocol", "websocket")),
    "content-length of letters": [*GET, ("content-length", "1x")],
    "content-length with a sign": [*GET, ("content-length", "+1")],
    "content-length below 0": [*GET, ("content-length", "-1")],
    "content-length of many digits": [*GET, ("content-length", "1" * 30)],
    "content-length in a list": [*GET, ("content-length", "0, 0")],
    "content-length twice": [*GET, ("content-length", "0"), ("content-length", "0")],
    "content-type twice": [*GET, ("content-type", "a/b"), ("content-type", "a/b")],
    "CONNECT with :path": [(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")],
    "CONNECT with :scheme": [(":method", "CONNECT"), (":scheme", "http"), (":authority", "a:1")],
    "CONNECT without a port": [(":method", "CONNECT"), (":authority", "a")],
    "CONNECT by host alone": [(":method", "CONNECT"), ("host", "a:1")],
    "extended CONNECT without :scheme": [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":authority", "a"),
        (":path", "/"),
    ],
    "a strange :protocol": [
        (":method", "CONNECT"),
        (":protocol", "web socket"),
        *GET[1:],
    ],
}


@pytest.mark.parametrize("fields", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_malformed_request_resets_its_stream(fields: Pairs):
    with pytest.raises(MessageError):
        parse_request_head(headers(fields))
    server = started_server()
    server.feed(head(1, fields) + head(3, GET))
    assert sent(server) == [("RST_STREAM", 0, 1, b"\0\0\0\1")]
    assert server.take_completed_streams() == [3]


@pytest.mark.parametrize(
    ("fields", "target", "authority"),
    [
        (GET, "/", "a.example"),
        (without(":authority", ("host", "b.example")), "/", "b.example"),
        ([*GET, ("host", "A.Example")], "/", "a.example"),
        (without(":authority", (":authority", "[::1]:80")), "/", "[::1]:80"),
        (without(":path", (":path", "/a?b=%20#c")), "/a?b=%20#c", "a.example"),
        ([(":method", "OPTIONS"), *GET[1:3], (":path", "*")], "*", "a.example"),
        ([(":method", "CONNECT"), (":authority", "a:1")], "a:1", "a:1"),
        ([*GET, ("te", "trailers"), ("x", ""), ("y", "a\tb\xff")], "/", "a.example"),
    ],
)
def test_a_sound_request_is_read(fields: Pairs, target: str, authority: str):
    found = parse_request_head(headers(fields))
    assert (found.target, found.authority) == (target, authority)
    assert found.fields.items[0] == ("host", "host", authority)
    assert [name for name, _, _ in found.fields.items].count("host") == 1
    assert found.content_length == -1


def test_pieces_of_a_cookie_are_joined_where_the_first_one_stood():
    fields = [*GET, ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]
    found = parse_request_head(headers(fields))
    assert [(name, value) for name, _, value in found.fields.items] == [
        ("host", "a.example"),
        ("cookie", "a=1; b=2; c=3"),
        ("x", "y"),
    ]


BAD_RESPONSES = {
    "no :status": [("x", "y")],
    "two digits": [(":status", "20")],
    "four digits": [(":status", "2000")],
    "letters": [(":status", "abc")],
    "099": [(":status", "099")],
    "other digits": [(":status", "2\xb2\xb2")],
    "101": [(":status", "101")],
    ":method": [(":status", "200"), (":method", "GET")],
    "twice": [(":status", "200"), (":status", "200")],
    "connection": [(":status", "200"), ("connection", "close")],
    "upper case": [(":status", "200"), ("A", "b")],
    "differing lengths": [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
}


@pytest.mark.parametrize("fields", BAD_RESPONSES.values(), ids=BAD_RESPONSES)
def test_a_malformed_response_resets_its_stream(fields: Pairs):
    with pytest.raises(MessageError):
        parse_response_head(headers(fields), "GET")
    client = started_client()
    sid = request(client)
    client.drain()
    client.feed(head(sid, fields))
    assert sent(client) == [("RST_STREAM", 0, sid, b"\0\0\0\1")]
    assert client.stream_error(sid) == Http2ErrorCode.PROTOCOL_ERROR
    with pytest.raises(Http2Error):
        client.take_response(sid)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("x-t", True),
        ("content-length", False),
        ("host", False),
        ("if-match", False),
        ("set-cookie", False),
    ],
)
def test_trailers_keep_only_what_may_stand_there(name: str, kept: bool):
    found = parse_trailers(headers([(name, "1"), ("x-other", "2")]))
    assert [item[0] for item in found.items] == [*([name] if kept else []), "x-other"]


@pytest.mark.parametrize("fields", [[(":path", "/")], [("A", "b")], [("connection", "close")]])
def test_malformed_trailers_reset_their_stream(fields: Pairs):
    with pytest.raises(MessageError):
        parse_trailers(headers(fields))
    server = started_server()
    server.feed(head(1, POST, end=False) + head(1, fields))
    assert sent(server) == [("RST_STREAM", 0, 1, b"\0\0\0\1")]
    assert server.take_completed_streams() == []


LENGTHS = [
    ("3", [b"abc"], True),
    ("3", [b"a", b"", b"bc"], True),
    ("0", [b""], True),
    ("3", [b"ab"], False),
    ("3", [b"abcd"], False),
    ("3", [b"ab", b"cd", b"ef"], False),
    ("3", [b""], False),
    ("1", [b"\xff" * 5], False),
]


@pytest.mark.parametrize(("length", "pieces", "sound"), LENGTHS)
@pytest.mark.parametrize("trailers", [False, True])
def test_content_length_is_what_came(length: str, pieces: list[bytes], sound: bool, trailers: bool):
    server, client = started_server(), started_client()
    sid = request(client)
    client.drain()
    for conn, fields in ((server, POST), (client, OK)):
        wire = head(sid, [*fields, ("content-length", length)], end=False)
        wire += b"".join(data(sid, piece) for piece in pieces[:-1])
        wire += data(sid, pieces[-1], end=not trailers)
        if trailers:
            wire += head(sid, [("x-t", "1")])
        conn.feed(wire)
        resets = [] if sound else [("RST_STREAM", 0, sid, b"\0\0\0\1")]
        assert sent(conn, "RST_STREAM") == resets
    assert server.take_completed_streams() == ([sid] if sound else [])
    assert client.stream_ended(sid) is sound


def test_a_head_that_ends_the_stream_and_announces_a_body_is_refused():
    server = started_server()
    server.feed(head(1, [*GET, ("content-length", "1")]) + head(3, [*GET, ("content-length", "0")]))
    assert sent(server) == [("RST_STREAM", 0, 1, b"\0\0\0\1")]
    assert server.take_completed_streams() == [3]


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200"), ("GET", "204"), ("GET", "304")])
def test_a_body_where_none_can_be_is_refused(method: str, status: str):
    client = started_client()
    sid, other = request(client, method), request(client, method)
    client.drain()
    fields = [(":status", status), ("content-length", "5")]
    client.feed(head(sid, fields, end=False) + data(sid, b"hello"))
    assert client.stream_error(sid) == Http2ErrorCode.PROTOCOL_ERROR
    client.feed(head(other, fields))
    response = client.take_response(other)
    assert response.body == b""
    assert ("content-length", "5", False) in response.headers


def test_interim_heads_are_passed_over():
    client = started_client()
    sid = request(client)
    client.feed(head(sid, [(":status", "103"), ("link", "</a>")], end=False))
    assert not client.headers_received(sid)
    client.feed(head(sid, [(":status", "100")], end=False) + head(sid, OK))
    assert client.take_response(sid).status == 200


# What programs send.


def test_fields_are_put_into_the_form_of_the_wire():
    source = HeaderMap([("X-A", "1"), ("Connection", "close"), ("TE", "gzip"), ("X-A", "2")])
    assert outgoing_fields(source) == [("x-a", "1"), ("x-a", "2")]
    assert outgoing_fields({"TE": "trailers", "Upgrade": "h2c"}) == [("te", "trailers")]
    assert outgoing_fields([("A", "b"), HpackHeader("C", "d", True), HpackHeader("E", "f")]) == [
        ("a", "b"),
        HpackHeader("c", "d", True),
        ("e", "f"),
    ]


@pytest.mark.parametrize(
    "field",
    [("x", "a\r\nb: c"), ("x", "a\0"), ("x y", "z"), (":path", "/"), ("", "x"), ("x", "\u20ac")],
)
def test_what_would_be_something_else_on_the_wire_is_not_sent(field: tuple[str, str]):
    client = started_client()
    sid = client.next_stream_id()
    with pytest.raises(HeaderInjectionError):
        client.send_request(sid, "GET", "http", "a", "/", [field])
    assert not client.wants_write


@pytest.mark.parametrize(
    ("method", "scheme", "authority", "path"),
    [
        ("GET\r\n", "http", "a", "/"),
        ("GET", "http", "a\r\nb", "/"),
        ("GET", "http", "a", "/ b"),
        ("GET", "http", "a", "/\xe9"),
        ("GET", "", "a", "/"),
        ("", "http", "a", "/"),
    ],
)
def test_pseudo_fields_are_checked_as_well(method: str, scheme: str, authority: str, path: str):
    client = started_client()
    with pytest.raises(ValueError, match="cannot be sent"):
        client.send_request(client.next_stream_id(), method, scheme, authority, path)
    assert not client.wants_write


def test_a_limit_of_header_bytes_is_answered_with_431():
    size = sum(len(name) + len(value) + 32 for name, value in GET)
    server = started_server(Http2Config(max_header_list_size=size + 40))
    server.feed(head(1, [*GET, ("x", "1234567")]))
    assert server.take_completed_streams() == [1]
    server.feed(head(3, [*GET, ("x", "12345678")]))
    server.feed(head(5, [*GET, ("x", "12345678")], end=False))
    frames = sent(server)
    assert [(kind, sid) for kind, _, sid, _ in frames] == [
        ("HEADERS", 3),
        ("HEADERS", 5),
        ("RST_STREAM", 5),
    ]
    assert frames[0][1] == 5  # END_STREAM, END_HEADERS
    assert frames[2][3] == b"\0\0\0\0"  # NO_ERROR
    assert server.take_completed_streams() == []
    assert server.take_opened_streams() == []
    server.feed(data(5, b"late") + head(7, GET))
    assert server.take_completed_streams() == [7]
    assert sent(server) == []


@pytest.mark.parametrize(("crumbs", "taken"), [(6, True), (7, False)])
def test_each_piece_of_a_cookie_counts_as_a_field(crumbs: int, taken: bool):
    server = started_server(Http2Config(max_header_fields=10))
    server.feed(head(1, [*GET, *[("cookie", "")] * crumbs]))
    assert server.take_completed_streams() == ([1] if taken else [])
    assert [frame[0] for frame in sent(server)] == ([] if taken else ["HEADERS"])


def test_a_client_resets_a_response_whose_head_is_too_large():
    client = started_client()
    sid = request(client)
    client.drain()
    client.feed(head(sid, [*OK, ("x", "y" * 9000)], end=False))
    assert sent(client) == [("RST_STREAM", 0, sid, b"\0\0\0\x0b")]
    assert client.response_ready(sid)


def test_the_same_head_means_the_same_however_often_it_comes():
    server = started_server()
    wire = block([*GET, ("x", "y")])
    for sid in (1, 3, 5):
        server.feed(build_frame(1, 5, sid, wire))
    found = [server.take_request(sid) for sid in server.take_completed_streams()]
    assert [each.headers.items() for each in found] == [[("host", "a.example"), ("x", "y")]] * 3
    found[0].headers.set("x", "changed")
    server.feed(build_frame(1, 5, 7, wire))
    assert server.take_request(7).headers["x"] == "y"
