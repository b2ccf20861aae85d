"""Flow control on both sides: bodies larger than any window, and who waits for whom."""

from __future__ import annotations

import pytest
from h2_wire import (
    GET,
    OK,
    PADDED,
    POST,
    Reply,
    build_frame,
    data,
    exchange,
    head,
    request,
    sent,
    started_client,
    started_server,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from flare.http2 import (
    H2_PREFACE,
    Http2ClientConfig,
    Http2ClientConnection,
    Http2Config,
    Http2Connection,
    Http2Error,
    Http2ErrorCode,
    build_rst,
    build_settings,
)

MIB = 1 << 20


def window(sid: int, increment: int) -> bytes:
    return build_frame(8, 0, sid, increment.to_bytes(4, "big"))


def pattern(size: int) -> bytes:
    return bytes(range(251)) * (size // 251 + 1)


WINDOWS = [
    ({}, {}),
    ({"initial_window_size": 1000}, {"initial_window_size": 1000}),
    ({"initial_window_size": 4 * MIB, "connection_window_size": 4 * MIB}, {}),
    ({}, {"max_frame_size": 1 << 17, "initial_window_size": 2 * MIB}),
    ({"connection_window_size": 65535}, {"connection_window_size": 65535}),
]


@pytest.mark.parametrize(("server_config", "client_config"), WINDOWS)
def test_a_mebibyte_goes_up_and_down(server_config, client_config):
    client = Http2ClientConnection(Http2ClientConfig(**client_config))
    server = Http2Connection(Http2Config(**server_config))
    body = pattern(MIB)[:MIB]
    sids = [request(client, "POST", body=body) for _ in range(2)]
    exchange(client, server)
    assert server.take_completed_streams() == sids
    for sid in sids:
        assert server.take_request(sid).body == body
        server.emit_response(sid, Reply(200, body[::-1]))
    exchange(client, server)
    assert [client.take_response(sid).body for sid in sids] == [body[::-1]] * 2
    assert client.connection.active == server.active_streams == 0
    assert server.queued_bytes == 0


def test_data_never_passes_the_windows_nor_the_peers_frame_size():
    server = started_server(settings={5: 20_000, 4: 50_000})
    server.feed(head(1, GET))
    server.emit_response(1, Reply(200, bytes(100_000)))
    assert [len(frame[3]) for frame in sent(server, "DATA")] == [20_000, 20_000, 10_000]
    server.feed(window(1, 100_000))
    assert [len(frame[3]) for frame in sent(server, "DATA")] == [15_535]  # the connection's
    server.feed(window(0, 100_000))
    frames = sent(server, "DATA")
    assert [len(frame[3]) for frame in frames] == [20_000, 14_465]
    assert frames[-1][1] == 1  # END_STREAM


def test_the_window_of_streams_is_lowered_to_nothing_and_raised_again():
    server = started_server()
    server.feed(head(1, GET))
    server.emit_response(1, Reply(200, bytes(80_000)))
    assert sum(len(frame[3]) for frame in sent(server, "DATA")) == 65_535
    server.feed(build_settings({4: 0}) + window(0, 100_000))
    assert sent(server, "DATA") == []
    assert server.connection.streams[1].send_window == -65_535
    server.feed(window(1, 65_535))
    assert sent(server, "DATA") == []
    server.feed(build_settings({4: 10}))
    assert [len(frame[3]) for frame in sent(server, "DATA")] == [10]
    server.feed(build_settings({4: 65_535}))
    frames = sent(server, "DATA")
    assert sum(len(frame[3]) for frame in frames) == 80_000 - 65_545
    assert frames[-1][1] == 1


def test_streams_take_turns():
    server = started_server(settings={4: MIB})
    server.feed(window(0, MIB) + head(1, GET) + head(3, GET) + head(5, GET))
    for sid in server.take_completed_streams():
        server.emit_response(sid, Reply(200, bytes(40_000)))
    order = [sid for _, _, sid, _ in sent(server, "DATA")]
    assert order == [1, 3, 5] * 3


def test_a_blocked_stream_does_not_hold_back_another():
    server = started_server(settings={4: 10})
    server.feed(head(1, GET) + head(3, GET))
    server.emit_response(1, Reply(200, bytes(100)))
    server.emit_response(3, Reply(200, bytes(100)))
    sent(server)
    server.feed(window(3, 90))
    assert [(sid, len(body)) for _, _, sid, body in sent(server)] == [(3, 90)]


def test_drain_hands_out_about_as_much_as_it_is_asked_for():
    server = started_server(settings={4: MIB})
    server.feed(window(0, MIB) + head(1, GET))
    server.emit_response(1, Reply(200, bytes(MIB)))
    sizes = []
    while server.wants_write:
        server.feed(build_frame(6, 0, 0, b"01234567"))
        out = server.drain(30_000)
        sizes.append(len(out))
        assert b"01234567" in out  # a PING is never behind more than that
    assert max(sizes) < 30_000 + 16_384 + 100
    assert sum(sizes) > MIB


def test_the_end_of_a_stream_needs_no_window():
    server = started_server(settings={4: 0})
    server.feed(head(1, GET) + head(3, GET))
    server.begin_stream_response(1, Reply())
    server.end_stream_response(1)
    server.begin_stream_response(3, Reply())
    server.end_stream_response(3, [("x-t", "1")])
    frames = sent(server)
    assert [(kind, flags, sid) for kind, flags, sid, _ in frames] == [
        ("HEADERS", 4, 1),
        ("HEADERS", 4, 3),
        ("DATA", 1, 1),
        ("HEADERS", 5, 3),
    ]


# What we let a peer send.


def updates(conn) -> list[tuple[int, int]]:
    return [
        (sid, int.from_bytes(payload, "big")) for _, _, sid, payload in sent(conn, "WINDOW_UPDATE")
    ]


def test_the_connections_window_is_raised_after_the_settings():
    frames = sent(Http2Connection())
    assert [frame[0] for frame in frames] == ["SETTINGS", "WINDOW_UPDATE"]
    assert int.from_bytes(frames[1][3], "big") == MIB - 65_535
    only = Http2Connection(Http2Config(connection_window_size=65_535))
    assert [frame[0] for frame in sent(only)] == ["SETTINGS"]


def test_windows_open_by_halves_never_by_frames():
    server = started_server(Http2Config(connection_window_size=65_535))
    server.feed(head(1, POST, end=False))
    server.feed(data(1, bytes(16_384)))
    assert updates(server) == []
    server.feed(data(1, bytes(16_384)))
    assert updates(server) == [(0, 32_768), (1, 32_768)]


def test_padding_counts_and_is_given_back():
    server = started_server(Http2Config(connection_window_size=65_535))
    server.feed(head(1, POST, end=False))
    for _ in range(1000):
        server.feed(data(1, b"\xffx" + bytes(255), flags=PADDED))
        server.drain()
    server.feed(data(1, b"", end=True))
    assert server.take_request(1).body == b"x" * 1000


@pytest.mark.parametrize("over", [0, 1])
def test_the_stream_and_the_connection_are_held_to_their_windows(over: int):
    server = started_server(Http2Config(initial_window_size=100))
    server.feed(head(1, POST, end=False))
    server.open_request(1)
    server.feed(data(1, bytes(100 + over)))
    resets = [("RST_STREAM", 0, 1, b"\0\0\0\x03")] if over else []
    assert sent(server, "RST_STREAM") == resets
    server = started_server(
        Http2Config(connection_window_size=65_535, initial_window_size=MIB, max_frame_size=MIB)
    )
    server.feed(head(1, POST, end=False))
    server.open_request(1)
    if over:
        with pytest.raises(Http2Error) as caught:
            server.feed(data(1, bytes(65_536)))
        assert caught.value.code is Http2ErrorCode.FLOW_CONTROL_ERROR
    else:
        server.feed(data(1, bytes(65_535)))


def test_a_body_that_nobody_reads_stops_its_sender():
    client, server = Http2ClientConnection(), Http2Connection()
    exchange(client, server)
    sid = request(client, "POST", body=bytes(200_000))
    server.feed(client.drain())
    assert server.take_opened_streams() == [sid]
    opened = server.open_request(sid)
    assert opened.body == b""
    # What came before it was opened has been given back already.
    exchange(client, server)
    exchange(client, server)
    here = client.pending_bytes(sid)
    assert here > 0
    exchange(client, server)
    assert client.pending_bytes(sid) == here
    total = 0
    while not server.stream_ended(sid):
        total += len(server.drain_stream_data(sid))
        exchange(client, server)
    assert total == 200_000
    assert server.take_completed_streams() == []


def test_a_response_that_nobody_reads_stops_its_sender():
    client, server = Http2ClientConnection(), Http2Connection()
    sid = request(client)
    client.hold_body(sid)
    exchange(client, server)
    server.emit_response(sid, Reply(200, bytes(500_000)))
    exchange(client, server)
    assert server.queued_bytes == 500_000 - 65_535
    total = 0
    while not client.stream_ended(sid):
        total += len(client.drain_body(sid))
        exchange(client, server)
    total += len(client.drain_body(sid))
    assert total == 500_000


@pytest.mark.parametrize("how", ["reset by the peer", "reset by us", "answered", "discarded"])
def test_what_nobody_will_read_is_given_back_to_the_connection(how: str):
    if how == "discarded":
        conn = started_client(Http2ClientConfig(connection_window_size=65_535))
        sid = request(conn)
        conn.hold_body(sid)
        conn.drain()
        conn.feed(head(sid, OK, end=False) + data(sid, bytes(16_000)) * 3)
        conn.discard_stream(sid)
    else:
        conn = started_server(Http2Config(connection_window_size=65_535))
        sid = 1
        conn.feed(head(1, POST, end=False))
        conn.open_request(1)
        conn.feed(data(1, bytes(16_000)) * 3)
        assert updates(conn) == []
        if how == "reset by the peer":
            conn.feed(build_frame(3, 0, 1, bytes(4)))
        elif how == "reset by us":
            conn.reset_stream(1)
        else:
            conn.emit_response(1, Reply())
    assert (0, 48_000) in updates(conn)


def test_data_behind_our_reset_is_passed_over_and_given_back():
    server = started_server(Http2Config(connection_window_size=65_535))
    server.feed(head(1, POST, end=False))
    server.reset_stream(1)
    server.drain()
    for _ in range(20):
        server.feed(data(1, bytes(16_384)))
        assert [frame[0] for frame in sent(server)] in ([], ["WINDOW_UPDATE"])
    server.feed(head(1, [("x-t", "1")]))
    assert sent(server) == []


def test_a_larger_window_of_ours_holds_from_the_acknowledgement():
    server = Http2Connection(Http2Config(initial_window_size=100_000))
    server.feed(H2_PREFACE + build_settings() + head(1, POST, end=False))
    assert server.connection.streams[1].recv_window == 65_535
    server.feed(build_settings(ack=True))
    assert server.connection.streams[1].recv_window == 100_000


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 60_000), min_size=1, max_size=5),
    st.integers(0, 70_000),
    st.integers(65_535, 200_000),
    st.sampled_from([16_384, 30_000]),
    st.lists(st.integers(1, 5000), min_size=1, max_size=4),
)
def test_every_body_arrives_whatever_the_windows(
    sizes: list[int], initial: int, connection: int, frame: int, cuts: list[int]
):
    config = Http2ClientConfig(
        initial_window_size=max(1, initial),
        connection_window_size=connection,
        max_frame_size=frame,
    )
    client, server = Http2ClientConnection(config), Http2Connection()
    sids = [request(client) for _ in sizes]
    exchange(client, server)
    for sid, size in zip(sids, sizes, strict=True):
        server.emit_response(sid, Reply(200, pattern(size)[:size]))
    turn = 0
    while client.wants_write or server.wants_write:
        server.feed(client.drain())
        out = server.drain(10_000)
        while out:
            size = [*cuts, 4000][turn % (len(cuts) + 1)]  # never by single bytes alone
            turn += 1
            client.feed(out[:size])
            out = out[size:]
    for sid, size in zip(sids, sizes, strict=True):
        assert client.take_response(sid).body == pattern(size)[:size]


def test_bodies_of_many_streams_become_whole_one_after_the_other() -> None:
    """Past ``max_buffered_bytes`` only the oldest stream's window opens again."""
    server = started_server(Http2Config(max_buffered_bytes=100_000, max_body_size=None))
    piece, sids = bytes(16_000), (1, 3, 5)
    for sid in sids:
        server.feed(head(sid, POST, end=False))
    for _ in range(4):
        for sid in sids:
            server.feed(data(sid, piece))
    grown = {frame[2] for frame in sent(server, "WINDOW_UPDATE") if frame[2]}
    server.feed(data(1, bytes(1000)))
    grown_later = {frame[2] for frame in sent(server, "WINDOW_UPDATE")}
    assert server.connection.buffered == 3 * 4 * 16_000 + 1000
    assert 1 in grown
    assert grown_later <= {0, 1}
    shut = {sid for sid in sids if server.connection.streams[sid].recv_window < 16_000}
    assert shut >= {5}
    server.feed(data(1, b"", end=True))
    assert server.take_completed_streams() == [1]
    server.take_request(1)
    opened = {frame[2] for frame in sent(server, "WINDOW_UPDATE")}
    assert 3 in opened or server.connection.streams[3].recv_window > 16_000
    server.feed(data(3, bytes(100), end=True))
    server.take_completed_streams()
    server.take_request(3)
    assert 5 in {frame[2] for frame in sent(server, "WINDOW_UPDATE")}
    server.feed(build_rst(5, 8))
    assert server.connection.buffered == 0
