"""The client's driver: requests in, responses out, and which of them may be sent again."""

from __future__ import annotations

import pytest
from h2_wire import (
    OK,
    build_frame,
    data,
    exchange,
    fields_of,
    head,
    request,
    sent,
    started_client,
)

from flare.http2 import (
    H2_PREFACE,
    HpackDecoder,
    HpackHeader,
    Http2ClientConfig,
    Http2ClientConnection,
    Http2Connection,
    Http2Error,
    Http2ErrorCode,
    build_settings,
)
from flare.http2.frame import build_goaway


def rst(sid: int, code: int = 8) -> bytes:
    return build_frame(3, 0, sid, code.to_bytes(4, "big"))


def test_the_preface_and_settings_are_there_at_once():
    client = Http2ClientConnection.with_config(Http2ClientConfig(connection_window_size=65_535))
    out = client.drain()
    assert out == H2_PREFACE + bytes.fromhex("00000c040000000000000200000000000600002000")


def test_a_request_has_its_pseudo_fields_first_and_in_order():
    client = started_client()
    sid = client.next_stream_id()
    client.send_request(
        sid,
        "POST",
        "https",
        "a:1",
        "/x?y",
        [("Host", "b"), ("X-A", "1"), ("Connection", "x")],
        b"hi",
    )
    headers, body = sent(client)
    assert fields_of(HpackDecoder(), headers[3]) == [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a:1"),
        (":path", "/x?y"),
        ("x-a", "1"),
    ]
    assert (headers[1], body[1], body[3]) == (4, 1, b"hi")


def test_connect_has_neither_scheme_nor_path():
    client = started_client()
    client.send_request_open(client.next_stream_id(), "CONNECT", "", "a:1", "")
    (headers,) = sent(client)
    assert fields_of(HpackDecoder(), headers[3]) == [(":method", "CONNECT"), (":authority", "a:1")]
    assert headers[1] == 4


def test_ids_are_odd_and_come_to_an_end():
    client = started_client()
    assert [client.next_stream_id() for _ in range(3)] == [1, 3, 5]
    client._next_id = 2**31 - 1
    assert client.available_streams() == 1
    assert client.next_stream_id() == 2**31 - 1
    assert client.available_streams() == 0
    with pytest.raises(Http2Error, match="no stream ids"):
        client.next_stream_id()


@pytest.mark.parametrize("sid", [0, 2, 7, -1])
def test_only_ids_that_were_handed_out_are_used(sid: int):
    client = started_client()
    client.next_stream_id()
    with pytest.raises(Http2Error):
        client.send_request(sid, "GET", "http", "a", "/")
    client.send_request(1, "GET", "http", "a", "/")
    with pytest.raises(Http2Error):
        client.send_request(1, "GET", "http", "a", "/")


def test_a_response_is_taken_once_whole():
    client = started_client()
    sid = request(client)
    assert not client.response_ready(sid)
    with pytest.raises(Http2Error, match="not complete"):
        client.take_response(sid)
    client.feed(head(sid, [*OK, ("set-cookie", "a=1"), ("set-cookie", "b=2")], end=False))
    assert client.response_headers(sid) == [
        HpackHeader("set-cookie", "a=1"),
        HpackHeader("set-cookie", "b=2"),
    ]
    client.feed(data(sid, b"hello") + head(sid, [("x-t", "1")]))
    assert client.response_ready(sid)
    response = client.take_response(sid)
    assert (response.status, response.body) == (200, b"hello")
    assert [header.value for header in response.headers] == ["a=1", "b=2"]
    assert response.trailers == [HpackHeader("x-t", "1")]
    assert not client.response_ready(sid)
    with pytest.raises(Http2Error) as caught:
        client.take_response(sid)
    assert caught.value.code is Http2ErrorCode.INTERNAL_ERROR


@pytest.mark.parametrize(
    "call", ["headers_received", "response_status", "drain_body", "stream_error"]
)
def test_an_unknown_stream_is_our_own_mistake(call: str):
    with pytest.raises(Http2Error) as caught:
        getattr(started_client(), call)(1)
    assert caught.value.code is Http2ErrorCode.INTERNAL_ERROR


@pytest.mark.parametrize("code", [1, 7, 8, 0xD, 0xFACE])
def test_a_reset_stream_has_its_code(code: int):
    client = started_client()
    sid = request(client)
    client.feed(head(sid, OK, end=False) + data(sid, b"some") + rst(sid, code))
    assert client.take_reset_streams() == [sid]
    assert client.stream_error(sid) == code
    assert client.response_ready(sid)
    with pytest.raises(Http2Error) as caught:
        client.take_response(sid)
    assert caught.value.code == code
    assert caught.value.stream_id == sid
    assert client.connection.active == 0


def test_a_reset_without_error_after_the_whole_response_is_none():
    client = started_client()
    sid = client.next_stream_id()
    client.send_request_open(sid, "POST", "http", "a", "/")
    client.send_data(sid, bytes(100_000), end_stream=False)
    client.drain()
    client.feed(head(sid, OK, end=False) + data(sid, b"enough", end=True) + rst(sid, 0))
    assert client.take_reset_streams() == []
    assert client.pending_bytes(sid) == 0
    client.send_data(sid, b"more", end_stream=True)
    assert sent(client) == []
    assert client.take_response(sid).body == b"enough"


def test_a_request_is_sent_in_pieces():
    client, server = Http2ClientConnection(), Http2Connection()
    sid = client.next_stream_id()
    client.send_request_open(sid, "POST", "http", "a", "/")
    client.send_data(sid, b"he", False)
    client.send_data(sid, b"llo", False)
    exchange(client, server)
    client.send_trailers(sid, {"X-T": "1"})
    with pytest.raises(Http2Error, match="whole already"):
        client.send_data(sid, b"x", True)
    exchange(client, server)
    found = server.take_request(sid)
    assert found.body == b"hello"
    assert found.trailers["x-t"] == "1"


def test_what_the_windows_refuse_waits():
    client = started_client(settings={4: 5})
    sid = request(client, "POST", body=b"0123456789")
    assert client.has_pending_body(sid)
    assert client.pump_pending_body(sid) == 5
    assert client.pending_bytes(99) == 0
    sent(client)
    client.feed(build_frame(8, 0, sid, b"\0\0\0\5"))
    assert client.pump_pending_body(sid) == 0
    assert sent(client) == [("DATA", 1, sid, b"56789")]


def test_the_servers_limit_of_streams_is_kept():
    client = Http2ClientConnection()
    client.feed(build_settings({3: 2}))
    assert client.available_streams() == 2
    first, _ = request(client), request(client)
    assert client.available_streams() == 0
    with pytest.raises(Http2Error) as caught:
        request(client)
    assert caught.value.code is Http2ErrorCode.REFUSED_STREAM
    client.feed(head(first, OK))
    assert client.available_streams() == 1
    client.feed(build_settings({3: 0}))
    assert client.available_streams() == 0


def test_streams_above_a_goaway_may_be_sent_again_and_those_below_go_on():
    client = started_client()
    first, second, third = (request(client) for _ in range(3))
    client.feed(build_goaway(first, 0))
    assert client.goaway_received()
    assert client.available_streams() == 0
    assert client.stream_error(first) is None
    for sid in (second, third):
        with pytest.raises(Http2Error) as caught:
            client.take_response(sid)
        assert caught.value.code is Http2ErrorCode.REFUSED_STREAM
    with pytest.raises(Http2Error, match="ending"):
        request(client)
    client.feed(head(first, OK, end=False) + data(first, b"still", end=True))
    assert client.take_response(first).body == b"still"
    client.drain()
    assert client.can_close


def test_after_an_error_of_the_connection_every_stream_has_it():
    client = started_client()
    first, second = request(client), request(client)
    client.feed(head(first, OK))
    with pytest.raises(Http2Error):
        client.feed(data(0, b""))
    assert client.stream_error(first) is None
    assert client.take_response(first).status == 200
    assert client.stream_error(second) == Http2ErrorCode.PROTOCOL_ERROR
    with pytest.raises(Http2Error) as caught:
        client.take_response(second)
    assert caught.value.code is Http2ErrorCode.PROTOCOL_ERROR
    assert client.available_streams() == 0
    client.drain()
    assert client.can_close


def test_a_stream_can_be_given_up():
    client = started_client()
    first, second = request(client), request(client)
    client.drain()
    client.discard_stream(first)
    client.discard_stream(first)
    assert sent(client) == [("RST_STREAM", 0, first, b"\0\0\0\x08")]
    client.feed(head(first, [*OK, ("x", "y")], end=False) + data(first, b"late", end=True))
    client.feed(head(second, OK))
    assert client.take_response(second).status == 200
    assert sent(client) == []
    assert list(client.open_streams()) == []


def test_an_extended_connect_needs_the_servers_leave():
    client = started_client()
    sid = client.next_stream_id()
    assert not client.peer_supports_extended_connect()
    with pytest.raises(Http2Error):
        client.send_extended_connect(sid, "http", "a", "/", "websocket")
    client.feed(build_settings({8: 1}))
    assert client.peer_supports_extended_connect()
    client.drain()
    client.send_extended_connect(sid, "http", "a", "/chat", "websocket", {"X": "y"})
    (headers,) = sent(client)
    assert sorted(fields_of(HpackDecoder(), headers[3]))[:5] == [
        (":authority", "a"),
        (":method", "CONNECT"),
        (":path", "/chat"),
        (":protocol", "websocket"),
        (":scheme", "http"),
    ]
    client.feed(head(sid, OK, end=False) + data(sid, b"hello"))
    assert client.drain_body(sid) == b"hello"
    client.send_data(sid, b"x", False)
    assert sent(client) == [("DATA", 0, sid, b"x")]


def connected(fields) -> tuple[Http2ClientConnection, int]:
    """A client, and a stream on which an extended CONNECT was answered with *fields*."""
    client = started_client()
    client.feed(build_settings({8: 1}))
    sid = client.next_stream_id()
    client.send_extended_connect(sid, "http", "a", "/chat", "websocket")
    client.drain()
    client.feed(head(sid, fields, end=False))
    return client, sid


def test_a_tunnel_has_no_length():
    client, sid = connected([*OK, ("content-length", "0")])
    client.feed(data(sid, b"hello") + data(sid, b" you", end=True))
    assert client.drain_body(sid) == b"hello you"
    assert client.stream_ended(sid)
    client.send_data(sid, b"bye", True)  # the other direction is still open
    assert sent(client)[-1] == ("DATA", 1, sid, b"bye")


def test_there_is_nothing_but_data_in_a_tunnel():
    client, sid = connected(OK)
    client.feed(head(sid, [("x-trailer", "1")]))
    assert client.stream_error(sid) == 1


def test_a_tunnel_that_is_refused_has_a_body_of_its_length():
    client, sid = connected([(":status", "403"), ("content-length", "2")])
    client.feed(data(sid, b"no", end=True))
    assert (client.response_status(sid), client.drain_body(sid)) == (403, b"no")


@pytest.mark.parametrize("protocol", ["", "web socket", "a\nb", "w\u00e9"])
def test_a_protocol_that_cannot_be_sent(protocol):
    client = started_client()
    client.feed(build_settings({8: 1}))
    with pytest.raises(ValueError, match="protocol"):
        client.send_extended_connect(client.next_stream_id(), "http", "a", "/chat", protocol)


def test_a_response_has_no_protocol():
    client, sid = connected([*OK, (":protocol", "websocket")])
    assert client.stream_error(sid) == 1


def test_a_ping_is_pending_until_it_is_answered():
    client = started_client()
    client.send_ping(b"12345678")
    assert client.ping_pending(b"12345678")
    assert sent(client) == [("PING", 0, 0, b"12345678")]
    client.feed(build_frame(6, 1, 0, b"87654321"))
    assert client.ping_pending(b"12345678")
    client.feed(build_frame(6, 1, 0, b"12345678"))
    assert not client.ping_pending(b"12345678")


def test_a_client_says_goodbye():
    client = started_client()
    client.send_goaway(0, 0)
    assert sent(client) == [("GOAWAY", 0, 0, bytes(8))]
    assert client.can_close
    assert client.available_streams() == 0


def test_an_upgraded_request_is_answered_on_stream_1():
    client = Http2ClientConnection.from_h2c_upgrade(Http2ClientConfig(initial_window_size=100_000))
    assert client.drain().startswith(H2_PREFACE)
    assert client.connection.streams[1].recv_window == 100_000
    client.feed(build_settings() + head(1, OK, end=False) + data(1, b"hi", end=True))
    assert client.take_response(1).body == b"hi"
    assert client.connection.last_opened == 1
    assert request(client) == 3


def test_the_same_head_answers_get_and_head():
    """What a head means depends on what was asked, and heads are remembered."""
    client = started_client()
    fields = [(":status", "200"), ("content-length", "2")]
    for method, body in (("GET", b"hi"), ("HEAD", b""), ("GET", b"hi"), ("HEAD", b"")) * 2:
        sid = client.next_stream_id()
        client.send_request(sid, method, "http", "a", "/")
        client.feed(head(sid, fields, end=not body) + (data(sid, body, end=True) if body else b""))
        assert client.take_response(sid).body == body
