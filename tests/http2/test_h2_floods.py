"""Every guard against floods, at its limit and one past it (RFC 9113 section 10.5)."""

from __future__ import annotations

import pytest
from h2_wire import (
    GET,
    OK,
    POST,
    Reply,
    block,
    build_frame,
    data,
    head,
    request,
    sent,
    started_client,
    started_server,
)

from flare.http2 import Http2ClientConfig, Http2Config, Http2Error, Http2ErrorCode, build_settings
from flare.http2.floods import (
    MAX_BLOCK_FRAMES,
    MAX_CONTROL_REPLIES,
    MAX_EMPTY_FRAMES,
    MAX_IDLE_FRAMES,
    MAX_INTERIM_RESPONSES,
    MIN_PROGRESS_BYTES,
    ResetBudget,
)

CALM = Http2ErrorCode.ENHANCE_YOUR_CALM


def rst(sid: int) -> bytes:
    return build_frame(3, 0, sid, b"\0\0\0\x08")


def window(sid: int, increment: int) -> bytes:
    return build_frame(8, 0, sid, increment.to_bytes(4, "big"))


def refused(conn, wire: bytes, now_ms: int = 0) -> None:
    with pytest.raises(Http2Error) as caught:
        conn.feed(wire, now_ms)
    assert caught.value.code is CALM
    assert caught.value.stream_id == 0
    *_, goaway = sent(conn)
    assert goaway[0] == "GOAWAY"
    assert goaway[3][4:8] == b"\0\0\0\x0b"


# Resets, in either direction, on one budget.


def test_rapid_reset_ends_the_connection_at_501():
    server = started_server()
    for number in range(500):
        server.feed(head(2 * number + 1, GET) + rst(2 * number + 1))
    assert server.take_completed_streams() == []
    assert server.active_streams == 0
    refused(server, head(1001, GET) + rst(1001))


FAULTS = {
    "WINDOW_UPDATE by 0": lambda sid: head(sid, POST, end=False) + window(sid, 0),
    "a window too large": lambda sid: head(sid, POST, end=False) + window(sid, 2**31 - 1),
    "DATA after the end": lambda sid: head(sid, GET) + data(sid, b""),
    "HEADERS after the end": lambda sid: head(sid, GET) + head(sid, GET),
    "a PRIORITY too short": lambda sid: head(sid, GET) + build_frame(2, 0, sid, b"\0"),
    "a malformed head": lambda sid: head(sid, GET[1:]),
    "a stream on itself": lambda sid: build_frame(
        1, 0x25, sid, sid.to_bytes(4, "big") + b"\0" + block(GET)
    ),
    "a length that is wrong": lambda sid: head(sid, [*GET, ("content-length", "1")]),
    "a head too large": lambda sid: head(sid, [*GET, ("x", "y" * 9000)]),
    "a body too large": lambda sid: head(sid, [*POST, ("content-length", "9" * 12)], end=False),
    "an expectation unknown": lambda sid: head(sid, [*POST, ("expect", "x")], end=False),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_resets_that_a_peer_provokes_are_paid_from_the_same_budget(fault):
    server = started_server(Http2Config(rst_burst=6, rst_per_second=0))
    for sid in (1, 3, 5):
        server.feed(head(sid, GET) + rst(sid))
    for sid in (7, 9, 11):
        server.feed(fault(sid))
    server.take_completed_streams()
    server.drain()
    refused(server, fault(13))


def test_the_budget_fills_again_with_time_up_to_its_burst():
    server = started_server(Http2Config(rst_burst=2, rst_per_second=50))
    server.feed(head(1, GET) + rst(1) + head(3, GET) + rst(3), 1000)
    server.feed(head(5, GET) + rst(5), 1020)
    server.feed(head(7, GET) + rst(7) + head(9, GET) + rst(9), 60_000)
    refused(server, head(11, GET) + rst(11), 60_019)


def test_time_that_goes_back_fills_nothing():
    budget = ResetBudget(1, 1000)
    budget.spend(1000)
    with pytest.raises(Http2Error):
        budget.spend(0)


def test_a_client_has_no_budget_of_resets():
    client = started_client()
    for _ in range(600):
        sid = request(client)
        client.feed(rst(sid))
        client.discard_stream(sid)


# Streams at a time.


def test_200_streams_against_a_limit_of_100():
    server = started_server()
    server.feed(b"".join(head(2 * number + 1, GET) for number in range(200)))
    assert server.take_completed_streams() == list(range(1, 201, 2))
    resets = sent(server)
    assert [sid for _, _, sid, _ in resets] == list(range(201, 401, 2))
    assert {payload for _, _, _, payload in resets} == {b"\0\0\0\7"}  # REFUSED_STREAM


def test_the_block_of_a_refused_stream_is_decoded_all_the_same():
    server = started_server(Http2Config(max_concurrent_streams=1))
    server.feed(head(1, GET))
    server.feed(build_frame(1, 5, 3, block(GET) + b"\x40\x01x\x01y"))
    server.emit_response(1, Reply())
    server.feed(build_frame(1, 5, 5, block(GET) + b"\xbe"))
    assert server.take_request(5).headers["x"] == "y"


def test_a_reset_stream_counts_until_its_handler_is_done():
    server = started_server(Http2Config(max_concurrent_streams=2))
    server.feed(head(1, GET) + head(3, GET))
    for sid in server.take_completed_streams():
        server.take_request(sid)
    server.feed(rst(1) + rst(3))
    assert server.take_reset_streams() == [1, 3]
    assert server.active_streams == 0
    server.feed(head(5, GET))
    assert sent(server) == [("RST_STREAM", 0, 5, b"\0\0\0\7")]
    server.emit_response(1, Reply(200, b"late"))  # dropped
    server.abandon(3)
    assert sent(server) == []
    server.feed(head(7, GET) + head(9, GET))
    assert server.take_completed_streams() == [7, 9]


# Header blocks.


@pytest.mark.parametrize("frames", [MAX_BLOCK_FRAMES, MAX_BLOCK_FRAMES + 1])
@pytest.mark.parametrize("side", ["server", "client"])
def test_a_block_has_at_most_64_frames(frames: int, side: str):
    if side == "server":
        conn, fields, sid = started_server(), GET, 1
    else:
        conn, fields = started_client(), OK
        sid = request(conn)
        conn.drain()
    wire = block([*fields, ("x", "y" * 100)])
    pieces = [wire[i : i + 1] for i in range(frames - 1)] + [wire[frames - 1 :]]
    frames_wire = build_frame(1, 1, sid, pieces[0])
    frames_wire += b"".join(build_frame(9, 0, sid, piece) for piece in pieces[1:-1])
    frames_wire += build_frame(9, 4, sid, pieces[-1])
    if frames > MAX_BLOCK_FRAMES:
        refused(conn, frames_wire)
        return
    conn.feed(frames_wire)
    assert conn.connection.streams[sid].continuation_count == 63
    if side == "server":
        assert conn.take_request(1).headers["x"] == "y" * 100
    else:
        assert conn.take_response(sid).status == 200


@pytest.mark.parametrize("extra", [0, 1])
def test_a_block_has_at_most_four_times_the_lists_cap(extra: int):
    server = started_server(Http2Config(max_header_list_size=1000))
    server.feed(build_frame(1, 1, 1, b"\x82" * 3000))
    more = build_frame(9, 4, 1, b"\x82" * (1000 + extra))
    if extra:
        refused(server, more)
    else:
        server.feed(more)
        assert [frame[0] for frame in sent(server)] == ["HEADERS"]  # 431


def test_a_block_without_end_is_timed():
    server = started_server(Http2Config(header_timeout_ms=500))
    server.feed(build_frame(1, 1, 1, block(GET)), 1000)
    assert server.next_deadline_ms() == 1500
    server.feed(build_frame(9, 0, 1, b""), 1400)
    server.tick(1499)
    with pytest.raises(Http2Error, match="without end") as caught:
        server.tick(1500)
    assert caught.value.code is Http2ErrorCode.PROTOCOL_ERROR
    assert [frame[0] for frame in sent(server)] == ["GOAWAY"]
    server.tick(9999)
    assert server.next_deadline_ms() is None


# Control frames.


@pytest.mark.parametrize(
    "frame", [build_frame(6, 0, 0, bytes(8)), build_settings({}), build_settings({4: 1})]
)
def test_1000_replies_may_wait_to_be_sent(frame: bytes):
    server = started_server()
    server.feed(frame * MAX_CONTROL_REPLIES)
    assert len(sent(server)) == MAX_CONTROL_REPLIES
    server.feed(frame * MAX_CONTROL_REPLIES)
    refused(server, frame)


@pytest.mark.parametrize("count", [32, 33])
@pytest.mark.parametrize("side", [started_server, started_client])
def test_a_frame_has_at_most_32_settings(count: int, side):
    conn = side()
    wire = build_frame(4, 0, 0, b"\0\x99\0\0\0\0" * count)
    if count > 32:
        refused(conn, wire)
    else:
        conn.feed(wire)
        assert [frame[:2] for frame in sent(conn)] == [("SETTINGS", 1)]


@pytest.mark.parametrize(
    "frame", [data(1, b""), data(1, b"\x02\0\0", flags=8), data(3, b"")], ids=str
)
def test_100_empty_frames_in_a_row_are_enough(frame: bytes):
    server = started_server()
    server.feed(head(1, POST, end=False) + head(3, POST, end=False))
    for _ in range(2):
        server.feed(frame * MAX_EMPTY_FRAMES)
        server.feed(data(1, b"x"))
    server.feed(frame * MAX_EMPTY_FRAMES)
    refused(server, frame)


def test_empty_pieces_of_blocks_count_as_well():
    server = started_server()
    for sid in (1, 3):
        server.feed(build_frame(1, 1, sid, b"") + build_frame(9, 0, sid, b"") * 50)
        server.feed(build_frame(9, 4, sid, block(GET)))
    assert server.take_completed_streams() == [1, 3]
    server.feed(head(5, POST, end=False) + data(5, b"") * 90 + build_frame(1, 1, 7, b""))
    refused(server, build_frame(9, 0, 7, b"") * 10)


@pytest.mark.parametrize(
    "frame",
    [
        window(0, 1),
        build_frame(2, 0, 1, bytes(5)),
        build_frame(0xEE, 0, 0),
        build_frame(0x10, 0, 0, b"\0\0\0\1u=1"),
    ],
    ids=["WINDOW_UPDATE", "PRIORITY", "unknown", "PRIORITY_UPDATE"],
)
def test_10_000_frames_to_no_purpose_are_enough(frame: bytes):
    server = started_server()
    server.feed(frame * MAX_IDLE_FRAMES)
    server.feed(head(1, POST, end=False))  # two more for a stream
    server.feed(frame * 2)
    refused(server, frame)


def test_a_finished_request_and_data_that_was_sent_earn_more():
    server = started_server()
    server.feed(window(0, 1) * MAX_IDLE_FRAMES)
    server.feed(head(1, GET) + window(0, 1) * MAX_IDLE_FRAMES)
    server.emit_response(1, Reply(200, b"x"))
    server.feed(window(0, 1) * 10)
    refused(server, window(0, 1))


@pytest.mark.parametrize("count", [MAX_INTERIM_RESPONSES, MAX_INTERIM_RESPONSES + 1])
def test_interim_responses_are_counted(count: int):
    client = started_client()
    sid = request(client)
    client.drain()
    client.feed(head(sid, [(":status", "103")], end=False) * count)
    expected = None if count == MAX_INTERIM_RESPONSES else CALM
    assert client.stream_error(sid) == expected


# Bodies.


@pytest.mark.parametrize("size", [10, 11])
def test_a_body_past_its_limit_is_answered_with_413(size: int):
    server = started_server(Http2Config(max_body_size=10))
    server.feed(head(1, POST, end=False) + data(1, bytes(5)) + data(1, bytes(size - 5), end=True))
    assert server.take_completed_streams() == ([1] if size == 10 else [])
    frames = sent(server)
    if size == 10:
        assert frames == []
        return
    assert [frame[0] for frame in frames] == ["HEADERS", "RST_STREAM"]
    assert frames[1][3] == b"\0\0\0\0"
    assert server.active_streams == 0


def test_a_length_past_the_limit_is_answered_before_the_body():
    server = started_server(Http2Config(max_body_size=10))
    server.feed(head(1, [*POST, ("content-length", "11")], end=False))
    assert [frame[0] for frame in sent(server)] == ["HEADERS", "RST_STREAM"]
    assert server.take_opened_streams() == []


def test_a_response_past_the_clients_limit_is_cancelled():
    client = started_client(Http2ClientConfig(max_body_size=10))
    first, second = request(client), request(client)
    client.hold_body(second)
    client.drain()
    for sid in (first, second):
        client.feed(head(sid, OK, end=False) + data(sid, bytes(11)))
    assert sent(client) == [("RST_STREAM", 0, first, b"\0\0\0\x08")]
    assert client.stream_error(first) == Http2ErrorCode.CANCEL
    assert client.take_reset_streams() == [first]
    assert client.drain_body(second) == bytes(11)


# Windows that never open.


def test_a_body_that_does_not_move_is_cancelled_in_time():
    server = started_server(Http2Config(write_timeout_ms=1000), {4: 0})
    server.feed(head(1, GET) + head(3, GET), 100)
    for sid in server.take_completed_streams():
        server.take_request(sid)
        server.emit_response(sid, Reply(200, bytes(5000)))
    assert [frame[0] for frame in sent(server)] == ["HEADERS", "HEADERS"]
    assert server.queued_bytes == 10_000
    assert server.next_deadline_ms() == 1100
    server.feed(window(3, MIN_PROGRESS_BYTES), 900)
    server.drain()
    server.tick(1100)
    assert sent(server) == [("RST_STREAM", 0, 1, b"\0\0\0\x08")]
    assert server.queued_bytes == 5000 - MIN_PROGRESS_BYTES
    assert server.next_deadline_ms() == 1900
    server.tick(1900)
    assert server.queued_bytes == 0
    assert server.active_streams == 0


def test_a_window_of_one_byte_now_and_then_is_no_progress():
    server = started_server(Http2Config(write_timeout_ms=1000), {4: 1})
    server.feed(head(1, GET))
    server.emit_response(1, Reply(200, bytes(5000)))
    for now_ms in range(0, 1000, 100):
        server.feed(window(1, 1), now_ms)
        server.drain()
        server.tick(now_ms)
    server.tick(1000)
    assert [frame[0] for frame in sent(server)] == ["RST_STREAM"]


def test_no_more_requests_are_handed_out_while_too_much_waits():
    server = started_server(Http2Config(max_queued_bytes=10_000), {4: 0})
    server.feed(head(1, GET) + head(3, GET))
    assert server.take_completed_streams() == [1, 3]
    server.take_request(1)
    server.emit_response(1, Reply(200, bytes(10_000)))
    server.feed(head(5, GET))
    assert server.take_completed_streams() == []
    server.take_request(3)
    server.begin_stream_response(3, Reply())
    assert server.queue_stream_data(3, b"x") == 0
    assert server.stream_is_open(3)
    server.feed(window(1, 9))
    server.drain()
    assert server.queue_stream_data(3, bytes(20)) == 9
    server.feed(rst(1))
    assert server.queued_bytes == 9
    assert server.take_completed_streams() == [5]


# Time.


@pytest.mark.parametrize("side", [started_server, started_client])
def test_settings_must_be_acknowledged_in_time(side):
    acknowledged = side()
    acknowledged.tick(0)
    assert acknowledged.next_deadline_ms() is None
    conn = type(acknowledged)()
    conn.tick(500)
    assert conn.next_deadline_ms() == 10_500
    conn.tick(10_499)
    with pytest.raises(Http2Error) as caught:
        conn.tick(10_500)
    assert caught.value.code is Http2ErrorCode.SETTINGS_TIMEOUT


def test_memory_for_streams_that_come_and_go_does_not_grow():
    server = started_server()
    for number in range(2000):
        sid = 2 * number + 1
        server.feed(head(sid, GET))
        server.emit_response(sid, Reply(200, b"x"))
        server.drain()
        server.feed(window(0, 1))
    conn = server.connection
    assert not conn.streams
    assert not conn.lingering
    assert not conn.completed_streams
