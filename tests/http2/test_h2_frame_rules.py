"""Which frame is an error where: RFC 9113 section 6, row by row, on either side."""

from __future__ import annotations

import pytest
from h2_wire import (
    END_HEADERS,
    GET,
    OK,
    PADDED,
    POST,
    PRIORITY,
    block,
    build_frame,
    data,
    head,
    request,
    sent,
    started_client,
    started_server,
)

from flare.http2 import H2_PREFACE, Http2Config, Http2Connection, Http2Error, build_settings
from flare.http2 import Http2ErrorCode as Code

C = "connection"
P, SIZE, FLOW, CLOSED = (
    Code.PROTOCOL_ERROR,
    Code.FRAME_SIZE_ERROR,
    Code.FLOW_CONTROL_ERROR,
    Code.STREAM_CLOSED,
)


def setting(number: int, value: int) -> bytes:
    return build_settings({number: value})


def window(sid: int, increment: int) -> bytes:
    return build_frame(8, 0, sid, increment.to_bytes(4, "big"))


# Stream 1 is open, 3 half-closed (remote), 5 was reset by the peer, 7 and above are idle.
# What comes -> None for nothing, (C, code) for the connection, (stream, code) for a stream.
SERVER_ROWS = {
    # any
    "a frame above MAX_FRAME_SIZE": (build_frame(0, 0, 1, bytes(16385)), (C, SIZE)),
    "its header alone": (build_frame(0, 0, 1, bytes(16385))[:9], (C, SIZE)),
    "a frame of MAX_FRAME_SIZE": (build_frame(0, 0, 1, bytes(16384)), None),
    "an unknown type": (build_frame(0xEE, 0xFF, 1, b"?"), None),
    "PRIORITY_UPDATE": (build_frame(0x10, 0, 0, b"\0\0\0\1u=1"), None),
    "an unknown type in a block": (
        build_frame(1, 0, 7, block(GET)) + build_frame(0xEE, 0, 7),
        (C, P),
    ),
    "DATA in a block": (build_frame(1, 0, 7, block(GET)) + data(1, b"x"), (C, P)),
    "CONTINUATION of another stream": (
        build_frame(1, 0, 7, block(GET)) + build_frame(9, 4, 9),
        (C, P),
    ),
    # DATA
    "DATA on 0": (data(0, b"x"), (C, P)),
    "DATA on idle": (data(7, b"x"), (C, P)),
    "DATA on an even stream": (data(2, b"x"), (C, P)),
    "DATA on half-closed": (data(3, b"x"), (3, CLOSED)),
    "DATA on closed": (data(5, b"x"), (5, CLOSED)),
    "DATA, padding as long as the frame": (data(1, b"\x03abc", flags=PADDED), None),
    "DATA, padding longer": (data(1, b"\x04abc", flags=PADDED), (C, P)),
    "DATA, no room for padding's length": (data(1, b"", flags=PADDED), (C, SIZE)),
    # HEADERS
    "HEADERS on 0": (head(0, GET), (C, P)),
    "HEADERS on an even stream": (head(8, GET), (C, P)),
    "HEADERS on a lower stream": (head(9, GET) + head(7, GET), (C, CLOSED)),
    "HEADERS on closed": (head(5, GET), (C, CLOSED)),
    "HEADERS on half-closed": (head(3, GET), (3, CLOSED)),
    "a second head": (head(1, POST, end=False), (1, P)),
    "trailers with a pseudo-field": (head(1, POST), (1, P)),
    "HEADERS padded": (build_frame(1, 5 | PADDED, 7, b"\x02" + block(GET) + b"\0\0"), None),
    "HEADERS, padding too long": (build_frame(1, 5 | PADDED, 7, b"\xff" + block(GET)), (C, P)),
    "HEADERS with priority": (
        build_frame(1, 5 | PRIORITY, 7, b"\0\0\0\1\xff" + block(GET)),
        None,
    ),
    "HEADERS with both": (
        build_frame(1, 5 | PADDED | PRIORITY, 7, b"\1\0\0\0\1\xff" + block(GET) + b"\0"),
        None,
    ),
    "HEADERS, part of a priority": (build_frame(1, 5 | PRIORITY, 7, b"\0\0\0\1"), (C, SIZE)),
    "HEADERS on itself": (
        build_frame(1, 5 | PRIORITY, 7, b"\0\0\0\7\xff" + block(GET)),
        (7, P),
    ),
    "a block that is none": (build_frame(1, 5, 7, b"\x80"), (C, Code.COMPRESSION_ERROR)),
    # CONTINUATION
    "CONTINUATION alone": (build_frame(9, 4, 1, b""), (C, P)),
    "CONTINUATION on 0": (build_frame(9, 4, 0, b""), (C, P)),
    "CONTINUATION after the end": (head(7, GET) + build_frame(9, 4, 7, b""), (C, P)),
    # PRIORITY
    "PRIORITY": (build_frame(2, 0, 1, b"\0\0\0\3\0"), None),
    "PRIORITY on idle": (build_frame(2, 0, 99, b"\0\0\0\3\0"), None),
    "PRIORITY on 0": (build_frame(2, 0, 0, b"\0\0\0\3\0"), (C, P)),
    "PRIORITY too short": (build_frame(2, 0, 1, b"\0\0\0\3"), (1, SIZE)),
    "PRIORITY too short on idle": (build_frame(2, 0, 99, b"\0\0\0\3"), (C, SIZE)),
    # RST_STREAM
    "RST_STREAM": (build_frame(3, 0, 1, b"\0\0\0\x08"), None),
    "RST_STREAM on closed": (build_frame(3, 0, 5, b"\0\0\0\x08"), None),
    "RST_STREAM on 0": (build_frame(3, 0, 0, b"\0\0\0\x08"), (C, P)),
    "RST_STREAM on idle": (build_frame(3, 0, 7, b"\0\0\0\x08"), (C, P)),
    "RST_STREAM too short": (build_frame(3, 0, 1, b"\0\0\0"), (C, SIZE)),
    # SETTINGS
    "SETTINGS on 1": (build_frame(4, 0, 1, b""), (C, P)),
    "SETTINGS ACK with a payload": (build_frame(4, 1, 0, bytes(6)), (C, SIZE)),
    "part of a setting": (build_frame(4, 0, 0, bytes(5)), (C, SIZE)),
    "an unknown setting": (setting(0x99, 7), None),
    "ENABLE_PUSH 0": (setting(2, 0), None),
    "ENABLE_PUSH 1": (setting(2, 1), None),
    "ENABLE_PUSH 2": (setting(2, 2), (C, P)),
    "INITIAL_WINDOW_SIZE 2**31-1": (setting(4, 2**31 - 1), None),
    "INITIAL_WINDOW_SIZE 2**31": (setting(4, 2**31), (C, FLOW)),
    "MAX_FRAME_SIZE 16383": (setting(5, 16383), (C, P)),
    "MAX_FRAME_SIZE 16384": (setting(5, 16384), None),
    "MAX_FRAME_SIZE 2**24-1": (setting(5, 2**24 - 1), None),
    "MAX_FRAME_SIZE 2**24": (setting(5, 2**24), (C, P)),
    "ENABLE_CONNECT_PROTOCOL 1": (setting(8, 1), None),
    "ENABLE_CONNECT_PROTOCOL 2": (setting(8, 2), (C, P)),
    "ENABLE_CONNECT_PROTOCOL back": (setting(8, 1) + setting(8, 0), (C, P)),
    "a window that a setting makes too large": (
        window(1, 2**31 - 1 - 65535) + setting(4, 65536),
        (C, FLOW),
    ),
    # PING
    "PING on 1": (build_frame(6, 0, 1, bytes(8)), (C, P)),
    "PING too short": (build_frame(6, 0, 0, bytes(7)), (C, SIZE)),
    "PING ACK that nobody asked for": (build_frame(6, 1, 0, bytes(8)), None),
    # GOAWAY
    "GOAWAY": (build_frame(7, 0, 0, bytes(8)), None),
    "GOAWAY on 1": (build_frame(7, 0, 1, bytes(8)), (C, P)),
    "GOAWAY too short": (build_frame(7, 0, 0, bytes(7)), (C, SIZE)),
    "GOAWAY that grows": (
        build_frame(7, 0, 0, bytes(8)) + build_frame(7, 0, 0, b"\0\0\0\2\0\0\0\0"),
        (C, P),
    ),
    # WINDOW_UPDATE
    "WINDOW_UPDATE too short": (build_frame(8, 0, 0, bytes(3)), (C, SIZE)),
    "WINDOW_UPDATE by 0": (window(0, 0), (C, P)),
    "WINDOW_UPDATE by 0 on a stream": (window(1, 0), (1, P)),
    "WINDOW_UPDATE on idle": (window(7, 1), (C, P)),
    "WINDOW_UPDATE on closed": (window(5, 1), None),
    "WINDOW_UPDATE by 0 on closed": (window(5, 0), None),
    "WINDOW_UPDATE to 2**31-1": (window(0, 2**31 - 1 - 65535), None),
    "WINDOW_UPDATE past it": (window(0, 2**31 - 65535), (C, FLOW)),
    "WINDOW_UPDATE to 2**31-1 on a stream": (window(1, 2**31 - 1 - 65535), None),
    "WINDOW_UPDATE past it on a stream": (window(1, 2**31 - 65535), (1, FLOW)),
    # PUSH_PROMISE
    "PUSH_PROMISE": (build_frame(5, END_HEADERS, 1, b"\0\0\0\2" + block(GET)), (C, P)),
}

# Stream 1 waits for its response; 3 has its head.
CLIENT_ROWS = {
    "HEADERS on an even stream": (head(2, OK), (C, P)),
    "HEADERS on idle": (head(5, OK), (C, P)),
    "DATA on idle": (data(5, b""), (C, P)),
    "DATA before the head": (data(1, b"x"), (1, P)),
    "a second head": (head(3, OK, end=False), (3, P)),
    "HEADERS after the end": (head(3, [("x", "y")]) + head(3, OK), (C, CLOSED)),
    "ENABLE_PUSH 0": (setting(2, 0), None),
    "ENABLE_PUSH 1": (setting(2, 1), (C, P)),
    "PUSH_PROMISE": (build_frame(5, END_HEADERS, 1, b"\0\0\0\2" + block(GET)), (C, P)),
    "RST_STREAM on idle": (build_frame(3, 0, 5, bytes(4)), (C, P)),
    "WINDOW_UPDATE on idle": (window(5, 1), (C, P)),
    "the end after an interim head": (head(1, [(":status", "103")]), (1, P)),
}


def a_server() -> Http2Connection:
    server = started_server()
    server.feed(head(1, POST, end=False) + head(3, GET) + head(5, GET))
    server.feed(build_frame(3, 0, 5, b"\0\0\0\x08"))
    server.take_completed_streams()
    server.drain()
    return server


def a_client():
    client = started_client()
    request(client)
    request(client)
    client.feed(head(3, OK, end=False))
    client.drain()
    return client


def feed_all(conn, pieces: list[bytes]) -> None:
    for piece in pieces:
        conn.feed(piece)


def check(conn, wire: bytes, cut: bool, outcome) -> None:
    pieces = [wire[i : i + 1] for i in range(len(wire))] if cut else [wire]
    if outcome is not None and outcome[0] == C:
        with pytest.raises(Http2Error) as caught:
            feed_all(conn, pieces)
        assert caught.value.code is outcome[1]
        assert caught.value.stream_id == 0
        (*_, goaway) = sent(conn)
        assert goaway[0] == "GOAWAY"
        assert int.from_bytes(goaway[3][4:8], "big") == outcome[1]
        assert goaway[3][8:].decode() == caught.value.debug
        with pytest.raises(Http2Error) as again:
            conn.feed(head(99, GET))
        assert again.value is caught.value
        assert not conn.wants_write
        return
    feed_all(conn, pieces)
    resets = [
        (sid, int.from_bytes(payload, "big")) for _, _, sid, payload in sent(conn, "RST_STREAM")
    ]
    assert resets == ([] if outcome is None else [outcome])


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(("wire", "outcome"), SERVER_ROWS.values(), ids=SERVER_ROWS)
def test_a_server_follows_the_frame_rules(wire: bytes, outcome, cut: bool):
    check(a_server(), wire, cut, outcome)


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(("wire", "outcome"), CLIENT_ROWS.values(), ids=CLIENT_ROWS)
def test_a_client_follows_the_frame_rules(wire: bytes, outcome, cut: bool):
    check(a_client(), wire, cut, outcome)


@pytest.mark.parametrize(
    "first",
    [
        build_settings(ack=True),
        build_frame(6, 0, 0, bytes(8)),
        head(1, GET),
        build_frame(0xEE, 0, 0),
    ],
)
def test_the_first_frame_must_be_settings(first: bytes):
    server = Http2Connection()
    with pytest.raises(Http2Error, match="first frame"):
        server.feed(H2_PREFACE + first)
    assert [frame[0] for frame in sent(server)][-1] == "GOAWAY"


@pytest.mark.parametrize("size", [1, 5, 23, 24])
def test_the_preface_may_come_in_pieces(size: int):
    server = Http2Connection()
    wire = H2_PREFACE + build_settings() + head(1, GET)
    for start in range(0, len(wire), size):
        server.feed(wire[start : start + size])
    assert server.take_completed_streams() == [1]


@pytest.mark.parametrize(
    ("wire", "goaway"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\n\r\n", False),
        (b"PRINT / HTTP/1.1\r\n\r\n", False),
        (b"\x16\x03\x01\x02\x00", True),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", True),
        (b"\0", True),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_another_preface_ends_it_with_no_goaway_to_who_speaks_http_1(
    wire: bytes, goaway: bool, cut: bool
):
    server = Http2Connection()
    with pytest.raises(Http2Error, match="preface"):
        feed_all(server, [wire[i : i + 1] for i in range(len(wire))] if cut else [wire])
    assert [frame[0] for frame in sent(server)][-1:] == (["GOAWAY"] if goaway else [])


def test_frames_behind_an_error_are_not_looked_at():
    server = started_server()
    with pytest.raises(Http2Error):
        server.feed(data(0, b"") + head(1, GET))
    assert server.take_completed_streams() == []
    assert server.connection.last_opened == 0


def test_the_goaway_names_the_last_stream_there_was():
    server = a_server()
    with pytest.raises(Http2Error):
        server.feed(data(0, b""))
    (goaway,) = sent(server, "GOAWAY")
    assert int.from_bytes(goaway[3][:4], "big") == 5


def test_a_frame_as_large_as_we_allow_is_taken_in_small_pieces():
    server = started_server(
        Http2Config(
            max_frame_size=1 << 20, initial_window_size=1 << 21, connection_window_size=1 << 22
        )
    )
    server.feed(head(1, POST, end=False))
    wire = data(1, bytes(1 << 20), end=True)
    for start in range(0, len(wire), 4000):
        server.feed(wire[start : start + 4000])
    assert len(server.take_request(1).body) == 1 << 20
    with pytest.raises(Http2Error):
        server.feed(build_frame(0, 0, 1, bytes((1 << 20) + 1))[:9])
