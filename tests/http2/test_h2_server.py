"""The server's driver: requests out, responses in, and how a connection comes to its end."""

from __future__ import annotations

import pytest
from h2_wire import (
    GET,
    POST,
    Reply,
    block,
    build_frame,
    data,
    exchange,
    fields_of,
    frames_in,
    head,
    request,
    sent,
    started_server,
)

from flare.http.proto.headers import HeaderInjectionError
from flare.http2 import (
    H2_PREFACE,
    H2Connection,
    HpackDecoder,
    HpackHeader,
    Http2ClientConfig,
    Http2ClientConnection,
    Http2Config,
    Http2Connection,
    Http2Error,
    Http2ErrorCode,
    Http2Request,
    build_h2c_settings_payload,
    build_rst,
    build_settings,
)

CONNECT = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "a"),
    (":path", "/chat"),
]


def rst(sid: int) -> bytes:
    return build_frame(3, 0, sid, b"\0\0\0\x08")


def answer(server: Http2Connection, sid: int, *args, **kwargs) -> tuple[list, bytes, list]:
    """The fields, body and trailers that a reply becomes."""
    decoder = HpackDecoder()
    server.emit_response(sid, Reply(*args, **kwargs))
    frames = sent(server)
    assert {frame[2] for frame in frames} == {sid}
    assert [bool(frame[1] & 1) for frame in frames] == [False] * (len(frames) - 1) + [True]
    heads = [fields_of(decoder, frame[3]) for frame in frames if frame[0] == "HEADERS"]
    body = b"".join(frame[3] for frame in frames if frame[0] == "DATA")
    return heads[0], body, heads[1] if len(heads) > 1 else []


def test_it_goes_by_both_names():
    assert H2Connection is Http2Connection
    assert isinstance(H2Connection.with_config(Http2Config()), Http2Connection)


def test_settings_are_there_before_the_client_has_said_anything():
    server = Http2Connection(Http2Config(connection_window_size=65_535))
    assert server.wants_write
    assert server.drain().hex() == "00000c040000000000000300000064000600002000"
    assert server.drain() == b""
    assert not server.wants_write


def test_a_request_is_handed_out_once_with_all_it_has():
    server = started_server()
    server.feed(head(1, [*POST, ("x-a", "1"), ("x-a", "2"), ("te", "trailers")], end=False))
    assert server.take_opened_streams() == [1]
    server.feed(data(1, b"he") + data(1, b"llo") + head(1, [("x-t", "3")]))
    assert server.take_completed_streams() == [1]
    assert server.take_completed_streams() == server.take_opened_streams() == []
    found = server.take_request(1)
    assert isinstance(found, Http2Request)
    assert (found.method, found.url, found.version) == ("POST", "/", "HTTP/2")
    assert found.body == b"hello"
    assert found.headers.get_all("x-a") == ["1", "2"]
    assert found.headers["Host"] == "a.example"
    assert found.trailers.items() == [("x-t", "3")]
    assert repr(found) == "<Http2Request POST '/'>"
    with pytest.raises(Http2Error) as caught:
        server.take_request(1)
    assert caught.value.code is Http2ErrorCode.INTERNAL_ERROR


def test_a_factory_makes_the_requests():
    server = Http2Connection.with_config(Http2Config(), request_factory=lambda *args: args)
    server.feed(H2_PREFACE + build_settings() + head(1, GET))
    method, url, version, fields, body, trailers = server.take_request(1)
    assert (method, url, version, body, trailers) == ("GET", "/", "HTTP/2", b"", None)
    assert fields.hosts == ("a.example",)


@pytest.mark.parametrize("call", ["take_request", "open_request", "accept_ws_over_h2"])
def test_an_unknown_stream_is_our_own_mistake(call: str):
    server = started_server()
    with pytest.raises(Http2Error) as caught:
        getattr(server, call)(1)
    assert caught.value.code is Http2ErrorCode.INTERNAL_ERROR
    with pytest.raises(Http2Error):
        server.emit_response(1, Reply())
    assert not server.wants_write


def test_a_request_that_is_not_whole_is_not_taken():
    server = started_server()
    server.feed(head(1, POST, end=False))
    with pytest.raises(Http2Error, match="not complete"):
        server.take_request(1)


@pytest.mark.parametrize(
    ("method", "reply", "fields", "body"),
    [
        ("GET", Reply(200, b"hi"), [("content-length", "2")], b"hi"),
        ("GET", Reply(200, b""), [("content-length", "0")], b""),
        ("GET", Reply(200, b"hi", [("Content-Length", "9")]), [("content-length", "2")], b"hi"),
        ("HEAD", Reply(200, b"hi"), [("content-length", "2")], b""),
        ("HEAD", Reply(200, b"", [("Content-Length", "9")]), [("content-length", "9")], b""),
        ("HEAD", Reply(200, b""), [], b""),
        ("GET", Reply(204, b"no", [("Content-Length", "9")]), [], b""),
        ("GET", Reply(304, b""), [], b""),
        (
            "GET",
            Reply(
                200, b"", [("X-A", "1"), ("Connection", "close"), ("Upgrade", "x"), ("X-A", "2")]
            ),
            [("x-a", "1"), ("x-a", "2"), ("content-length", "0")],
            b"",
        ),
    ],
)
def test_a_response_is_framed_by_its_method_and_status(method, reply, fields, body):
    server = started_server()
    server.feed(head(1, [(":method", method), *GET[1:]]))
    found, got, trailers = answer(server, 1, reply.status, reply.body, reply.headers)
    assert found == [(":status", str(reply.status)), *fields]
    assert got == body
    assert trailers == []
    assert server.active_streams == 0


@pytest.mark.parametrize("body", [b"", b"hello"])
def test_trailers_follow_the_body(body: bytes):
    server = started_server()
    server.feed(head(1, GET))
    _, got, trailers = answer(server, 1, 200, body, trailers={"X-T": "1"})
    assert got == body
    assert trailers == [("x-t", "1")]


def test_extra_fields_stand_in_front():
    server = started_server()
    server.feed(head(1, GET))
    server.emit_response(1, Reply(200, b"", {"b": "2"}), [("Date", "now")])
    (frame,) = sent(server)
    assert fields_of(HpackDecoder(), frame[3])[1:3] == [("date", "now"), ("b", "2")]


@pytest.mark.parametrize("status", [0, 100, 199, 1000])
def test_a_status_that_is_not_final_is_refused_before_anything_is_sent(status: int):
    server = started_server()
    server.feed(head(1, GET))
    with pytest.raises(ValueError, match="status"):
        server.emit_response(1, Reply(status))
    with pytest.raises(HeaderInjectionError):
        server.emit_response(1, Reply(), [("x", "a\r\nb")])
    assert not server.wants_write
    server.emit_response(1, Reply())
    with pytest.raises(Http2Error):
        server.emit_response(1, Reply())


def test_an_answer_before_the_body_is_whole_stops_the_sender():
    server = started_server()
    server.feed(head(1, POST, end=False) + data(1, b"some"))
    server.emit_response(1, Reply(403))
    frames = sent(server)
    assert [(frame[0], frame[2]) for frame in frames] == [("HEADERS", 1), ("RST_STREAM", 1)]
    assert frames[1][3] == b"\0\0\0\0"
    server.feed(data(1, b"more", end=True))
    assert sent(server) == []


def test_interim_responses_come_before_the_final_one():
    server = started_server()
    server.feed(head(1, GET))
    server.send_informational(1, 103, {"Link": "</a>"})
    server.emit_response(1, Reply(200, b"x"))
    decoder = HpackDecoder()
    heads = [fields_of(decoder, frame[3]) for frame in sent(server, "HEADERS")]
    assert heads[0] == [(":status", "103"), ("link", "</a>")]
    assert heads[1][0] == (":status", "200")
    with pytest.raises(ValueError, match="101"):
        server.send_informational(1, 101)


def test_leave_to_go_on_is_given_to_who_waits_for_it():
    server = started_server()
    server.feed(head(1, [*POST, ("expect", "100-continue")], end=False))
    (frame,) = sent(server)
    assert fields_of(HpackDecoder(), frame[3]) == [(":status", "100")]
    assert not frame[1] & 1
    server.feed(head(3, [*GET, ("expect", "100-continue")]))
    assert sent(server) == []
    server.feed(head(5, [*POST, ("expect", "magic")], end=False))
    frames = sent(server)
    assert [frame[0] for frame in frames] == ["HEADERS", "RST_STREAM"]
    assert server.take_completed_streams() == [3]


# Bodies in pieces.


def test_a_response_is_sent_in_pieces():
    client, server = Http2ClientConnection(), Http2Connection()
    sid = request(client)
    exchange(client, server)
    server.take_request(sid)
    server.begin_stream_response(sid, Reply(200, b"", {"content-length": "5"}))
    exchange(client, server)
    assert client.headers_received(sid)
    assert client.response_status(sid) == 200
    assert server.queue_stream_data(sid, b"he") == 2
    exchange(client, server)
    assert client.drain_body(sid) == b"he"
    piece = bytearray(b"llo")
    assert server.queue_stream_data(sid, piece) == 3
    piece[:] = b"xxx"
    server.end_stream_response(sid, {"x-t": "1"})
    assert not server.stream_is_open(sid)
    assert server.queue_stream_data(sid, b"more") == 0
    exchange(client, server)
    assert client.stream_ended(sid)
    assert client.take_response(sid).body == b"llo"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_streamed_response_without_a_body_is_whole_with_its_head(method: str, status: int):
    server = started_server()
    server.feed(head(1, [(":method", method), *GET[1:]]))
    server.begin_stream_response(1, Reply(status))
    assert server.queue_stream_data(1, b"x") == 0
    server.end_stream_response(1)
    assert [(frame[0], frame[1]) for frame in sent(server)] == [("HEADERS", 5)]


def test_a_request_is_read_in_pieces():
    server = started_server()
    server.feed(head(1, POST, end=False) + data(1, b"he"))
    assert server.open_request(1).body == b""
    assert server.take_opened_streams() == []
    assert server.drain_stream_data(1) == b"he"
    assert server.drain_stream_data(1) == b""
    assert not server.stream_ended(1)
    server.feed(data(1, b"llo") + head(1, [("x-t", "1")]))
    assert not server.stream_ended(1)
    assert server.drain_stream_data(1) == b"llo"
    assert server.stream_ended(1)
    trailers = server.stream_trailers(1)
    assert trailers is not None
    assert trailers.get("x-t") == "1"
    server.emit_response(1, Reply())
    assert server.active_streams == 0


# Resets.


def test_a_reset_reaches_who_works_on_the_stream_and_nobody_else():
    server = started_server()
    server.feed(head(1, GET) + head(3, GET) + head(5, GET))
    server.take_request(1)
    server.feed(rst(1) + rst(3))
    assert server.take_reset_streams() == [1]
    assert server.take_reset_streams() == []
    assert server.take_completed_streams() == [5]
    assert not server.stream_is_open(1)
    assert server.queue_stream_data(1, b"x") == 0
    server.end_stream_response(1)
    assert server.drain_stream_data(1) == b""
    assert server.stream_ended(1)
    assert server.stream_trailers(1) is None


def test_a_fault_of_the_peer_reaches_the_handler_as_well():
    server = started_server()
    server.feed(head(1, GET))
    server.take_request(1)
    server.feed(build_frame(8, 0, 1, bytes(4)))
    assert server.take_reset_streams() == [1]
    server.emit_response(1, Reply())
    assert [frame[0] for frame in sent(server)] == ["RST_STREAM"]


def test_a_handler_may_give_up():
    server = started_server()
    server.feed(head(1, GET) + head(3, GET))
    server.take_request(1)
    server.abandon(1)
    server.abandon(1)
    server.reset_stream(3)
    assert sent(server) == [
        ("RST_STREAM", 0, 1, b"\0\0\0\2"),
        ("RST_STREAM", 0, 3, b"\0\0\0\x08"),
    ]
    assert server.take_completed_streams() == server.take_reset_streams() == []


# CONNECT.


def test_an_extended_connect_becomes_a_tunnel():
    server = started_server(Http2Config(enable_connect_protocol=True))
    server.feed(head(1, CONNECT, end=False) + data(1, b"early"))
    assert server.take_extended_connect_streams() == [1]
    assert server.take_completed_streams() == server.take_opened_streams() == []
    assert server.extended_connect_protocol(1) == "websocket"
    assert server.open_request(1).url == "/chat"
    server.accept_ws_over_h2(1, {"sec-websocket-protocol": "x"})
    server.queue_stream_data(1, b"hello")
    frames = sent(server)
    assert [(frame[0], frame[1]) for frame in frames] == [("HEADERS", 4), ("DATA", 0)]
    assert server.drain_stream_data(1) == b"early"
    server.feed(data(1, b"bye", end=True))
    assert server.drain_stream_data(1) == b"bye"
    assert server.stream_ended(1)
    server.end_stream_response(1)
    assert [(frame[0], frame[1]) for frame in sent(server)] == [("DATA", 1)]


def test_a_tunnel_goes_both_ways_at_once_and_past_every_window():
    """1 MiB each way, and no more in memory than the windows let in."""
    client = Http2ClientConnection()
    server = Http2Connection(Http2Config(enable_connect_protocol=True))

    def carry() -> None:
        while client.wants_write or server.wants_write:
            server.feed(client.drain())
            client.feed(server.drain())

    carry()
    assert client.peer_supports_extended_connect()
    sid = client.next_stream_id()
    client.send_extended_connect(sid, "https", "a", "/chat", "websocket")
    carry()
    assert server.take_extended_connect_streams() == [sid]
    request = server.open_request(sid)
    assert (request.method, request.url) == ("CONNECT", "/chat")
    server.accept_ws_over_h2(sid)
    up, down = bytes(1 << 20), bytes(range(256)) * 4096
    client.send_data(sid, up, True)
    left = server.queue_stream_data(sid, down)
    assert left == len(down)
    server.end_stream_response(sid)
    got_up, got_down = bytearray(), bytearray()
    while not (server.stream_ended(sid) and client.stream_ended(sid)):
        carry()
        assert server.received_on(sid) <= 65_535
        got_up += server.drain_stream_data(sid)
        got_down += client.drain_body(sid)
    got_down += client.drain_body(sid)
    assert (bytes(got_up), bytes(got_down)) == (up, down)
    assert not server.active_streams


def ended_tunnel() -> Http2Connection:
    """A server that takes one stream, a tunnel at both its ends, with something left to read."""
    server = started_server(Http2Config(enable_connect_protocol=True, max_concurrent_streams=1))
    server.feed(head(1, CONNECT, end=False))
    server.open_request(1)
    server.accept_ws_over_h2(1)
    server.end_stream_response(1)
    server.feed(data(1, b"the rest", end=True))
    sent(server)
    return server


def test_what_is_left_in_a_tunnel_counts_until_it_is_read():
    server = ended_tunnel()
    assert not server.active_streams
    server.feed(head(3, GET))
    assert sent(server)[-1] == ("RST_STREAM", 0, 3, b"\0\0\0\7")
    assert server.drain_stream_data(1) == b"the rest"
    assert server.stream_ended(1)
    server.feed(head(5, GET))
    assert server.take_completed_streams() == [5]


@pytest.mark.parametrize("how", ["reset_stream", "abandon"])
def test_what_is_left_in_a_tunnel_may_stay_unread(how: str):
    server = ended_tunnel()
    getattr(server, how)(1)
    assert sent(server) == []
    server.feed(head(3, GET))
    assert server.take_completed_streams() == [3]


def test_there_is_nothing_but_data_in_a_tunnel():
    server = started_server(Http2Config(enable_connect_protocol=True))
    server.feed(head(1, CONNECT, end=False))
    server.open_request(1)
    server.accept_ws_over_h2(1)
    sent(server)
    server.feed(head(1, [("x-trailer", "1")]))
    assert sent(server) == [("RST_STREAM", 0, 1, b"\0\0\0\1")]
    assert server.take_reset_streams() == [1]


def test_an_extended_connect_may_be_at_its_end_already():
    server = started_server(Http2Config(enable_connect_protocol=True))
    server.feed(head(1, CONNECT))
    assert server.take_extended_connect_streams() == [1]
    server.open_request(1)
    assert server.stream_ended(1)
    server.accept_ws_over_h2(1)
    server.end_stream_response(1)
    assert [frame[0] for frame in sent(server)] == ["HEADERS", "DATA"]


def test_an_extended_connect_that_is_reset_is_not_taken():
    server = started_server(Http2Config(enable_connect_protocol=True))
    server.feed(head(1, CONNECT, end=False) + build_rst(1, 8))
    assert server.take_extended_connect_streams() == []


def test_an_extended_connect_can_be_refused():
    server = started_server(Http2Config(enable_connect_protocol=True))
    server.feed(head(1, CONNECT, end=False))
    assert server.take_extended_connect_streams() == [1]
    server.emit_response(1, Reply(404, b"no"))
    assert [frame[0] for frame in sent(server)] == ["HEADERS", "DATA", "RST_STREAM"]


def test_an_extended_connect_that_was_not_offered_is_refused():
    server = started_server()
    server.feed(head(1, CONNECT, end=False) + head(3, GET))
    assert sent(server) == [("RST_STREAM", 0, 1, b"\0\0\0\1")]
    server.take_request(3)
    with pytest.raises(Http2Error, match="no extended CONNECT"):
        server.accept_ws_over_h2(3)


def test_a_plain_connect_is_a_request_to_answer():
    server = started_server()
    server.feed(head(1, [(":method", "CONNECT"), (":authority", "a:1")], end=False))
    assert server.take_completed_streams() == [1]
    assert server.take_request(1).url == "a:1"
    server.emit_response(1, Reply(405))
    assert [frame[0] for frame in sent(server)] == ["HEADERS", "RST_STREAM"]


# h2c.


def upgraded(payload: bytes, request=None, config: Http2Config | None = None) -> Http2Connection:
    request = request or Reply()
    request.method = "GET"
    return Http2Connection.from_h2c_upgrade(config or Http2Config(), request, payload)


def test_an_upgraded_request_is_stream_1():
    mine = Reply()
    server = upgraded(build_settings({4: 10})[9:], mine)
    assert [frame[0] for frame in sent(server)] == ["SETTINGS", "WINDOW_UPDATE"]  # and no ACK
    assert server.take_completed_streams() == [1]
    assert server.take_request(1) is mine
    server.emit_response(1, Reply(200, b"0123456789abc"))
    assert [len(frame[3]) for frame in sent(server, "DATA")] == [10]
    server.feed(H2_PREFACE + build_settings({4: 20}))
    assert [frame[:2] for frame in sent(server)] == [("SETTINGS", 1), ("DATA", 1)]
    server.feed(head(3, GET))
    assert server.take_completed_streams() == [3]


def test_stream_1_is_taken_after_an_upgrade():
    server = upgraded(b"")
    server.feed(H2_PREFACE + build_settings())
    server.feed(data(1, b"x"))
    assert sent(server, "RST_STREAM") == [("RST_STREAM", 0, 1, b"\0\0\0\5")]


@pytest.mark.parametrize("payload", [b"12345", build_settings({4: 2**31})[9:]])
def test_settings_that_cannot_be_leave_the_request_to_http_1(payload: bytes):
    with pytest.raises(Http2Error):
        upgraded(payload)


def test_both_sides_of_an_upgrade_understand_each_other():
    config = Http2ClientConfig(initial_window_size=1 << 20)
    client = Http2ClientConnection.from_h2c_upgrade(config)
    server = upgraded(build_h2c_settings_payload(config))
    server.take_request(1)
    server.emit_response(1, Reply(200, bytes(300_000)))
    exchange(client, server)
    assert client.take_response(1).body == bytes(300_000)
    assert client.next_stream_id() == 3


# The end.


def goaways(server: Http2Connection) -> list[tuple[int, int]]:
    return [
        (int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big"))
        for _, _, _, payload in sent(server, "GOAWAY")
    ]


def test_a_drain_lets_a_slow_stream_finish():
    server = started_server()
    server.feed(head(1, GET), 0)
    server.take_request(1)
    server.shutdown()
    server.shutdown()
    goaway, ping = sent(server)
    assert goaway[3] == b"\x7f\xff\xff\xff\0\0\0\0"
    assert not server.can_close
    server.feed(head(3, GET) + build_frame(6, 1, 0, ping[3]), 10)  # sent before it heard of it
    assert goaways(server) == [(3, 0)]
    server.feed(head(5, GET), 20)
    assert sent(server) == [("RST_STREAM", 0, 5, b"\0\0\0\7")]
    server.emit_response(3, Reply())
    server.emit_response(1, Reply(200, b"late"))
    assert not server.can_close
    server.drain()
    assert server.can_close


def test_a_drain_does_not_wait_long_for_a_peer_that_is_silent():
    server = started_server()
    server.tick(5000)
    server.shutdown()
    server.drain()
    assert server.next_deadline_ms() == 6000
    server.tick(5999)
    assert goaways(server) == []
    server.tick(6000)
    assert goaways(server) == [(0, 0)]
    assert server.can_close
    assert server.next_deadline_ms() is None


def test_what_is_left_at_the_end_of_a_drain_is_cancelled():
    server = started_server()
    server.feed(head(1, GET) + head(3, GET))
    server.take_request(1)
    server.send_goaway()
    server.cancel_streams()
    frames = sent(server)
    assert [frame[0] for frame in frames] == ["GOAWAY", "RST_STREAM", "RST_STREAM"]
    assert server.take_reset_streams() == [1]
    assert server.can_close


def test_goaway_from_a_client_cancels_nothing():
    server = started_server()
    server.feed(head(1, GET))
    server.take_request(1)
    server.feed(build_frame(7, 0, 0, bytes(8)))
    assert server.goaway_received_flag()
    assert server.take_reset_streams() == []
    server.emit_response(1, Reply())
    assert not server.can_close
    server.drain()
    assert server.can_close


def test_a_peers_smaller_table_is_told_to_its_decoder_before_it_matters():
    server = started_server()
    server.feed(head(1, GET))
    server.emit_response(1, Reply(200, b"", {"x": "y"}))
    server.drain()
    server.feed(build_settings({1: 0}) + head(3, GET))
    server.emit_response(3, Reply(200, b"", {"x": "y"}))
    ack, answered = sent(server)
    assert ack[:2] == ("SETTINGS", 1)
    assert answered[3][:2] == b"\x20\x88"


def test_a_peer_must_heed_our_smaller_table():
    server = started_server(Http2Config(header_table_size=0))
    with pytest.raises(Http2Error) as caught:
        server.feed(head(1, GET))
    assert caught.value.code is Http2ErrorCode.COMPRESSION_ERROR
    server = started_server(Http2Config(header_table_size=0))
    server.feed(build_frame(1, 5, 1, b"\x20" + block(GET)))
    assert server.take_completed_streams() == [1]


def test_sensitive_fields_are_sent_so_that_nobody_indexes_them():
    server = started_server()
    server.feed(head(1, GET))
    server.emit_response(1, Reply(), [HpackHeader("x-secret", "s", True)])
    (frame,) = frames_in(server.drain())
    assert HpackHeader("x-secret", "s", True) in HpackDecoder().decode(frame[3])
