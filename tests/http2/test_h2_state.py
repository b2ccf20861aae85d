"""The machine beneath the drivers: frames in and frames out, and the table of states."""

from __future__ import annotations

import subprocess
import sys

import pytest
from h2_wire import GET, POST, Reply, block, frames_in, started_server
from hypothesis import given, settings
from hypothesis import strategies as st

from flare.http2 import (
    H2_PREFACE,
    Connection,
    Frame,
    FrameFlags,
    FrameHeader,
    FrameType,
    HpackDecoder,
    Http2Config,
    Http2Connection,
    Http2Error,
    Http2ErrorCode,
    Stream,
    StreamState,
    build_settings,
    encode_frame,
    parse_frame,
)
from flare.http2.frame import build_frame
from flare.http2.stream import TRANSITIONS, StreamEvent
from fuzz.h2_harnesses import h2_client_frames, h2_server_frames


def frame(kind: int, flags: int, sid: int, payload: bytes = b"") -> Frame:
    return Frame(FrameHeader(len(payload), FrameType(kind), FrameFlags(flags), sid), payload)


def ready(**kwargs) -> Connection:
    conn = Connection(**kwargs)
    conn.handle_frame(frame(4, 0, 0))
    return conn


def test_frames_come_out_in_reaction_to_frames():
    conn = Connection()
    assert conn.initial_settings() == parse_frame(build_settings({3: 100, 6: 8192}))
    assert [each.header.flags for each in conn.handle_frame(frame(4, 0, 0))] == [FrameFlags.ACK]
    assert conn.handle_frame(frame(1, 5, 1, block(GET))) == []
    (pong,) = conn.handle_frame(frame(6, 0, 0, b"12345678"))
    assert (pong.header.type, pong.header.flags, pong.payload) == (6, 1, b"12345678")
    (reset,) = conn.handle_frame(frame(8, 0, 1, bytes(4)))
    assert (reset.header.type, reset.header.stream_id) == (FrameType.RST_STREAM, 1)


def test_a_connection_error_is_raised_and_told():
    conn = ready()
    with pytest.raises(Http2Error) as caught:
        conn.handle_frame(frame(0, 0, 0))
    assert caught.value.code is Http2ErrorCode.PROTOCOL_ERROR
    with pytest.raises(Http2Error):
        conn.handle_frame(frame(4, 0, 0))
    assert [each.header.type for each in conn.take_frames()] == [FrameType.GOAWAY]
    with pytest.raises(Http2Error):
        ready().handle_frame(frame(0, 0, 1, bytes(16_385)))


def test_responses_are_made_of_frames():
    conn = ready()
    conn.handle_frame(frame(1, 5, 1, block(GET)))
    assert conn.streams[1].headers[0] == (":method", "GET", False)
    head, body = conn.make_response(1, 200, {"X-A": "b"}, b"hello")
    assert HpackDecoder().decode(head.payload) == [
        (":status", "200", False),
        ("x-a", "b", False),
    ]
    assert (body.header.flags, body.payload) == (FrameFlags.END_STREAM, b"hello")
    with pytest.raises(Http2Error):
        conn.make_response(1, 200, {}, b"")
    conn.handle_frame(frame(1, 5, 3, block(GET)))
    made = conn.make_response_with_trailers(3, 200, {}, b"x", {"x-t": "1"})
    assert [each.header.type for each in made] == [1, 0, 1]
    conn.handle_frame(frame(1, 5, 5, block(GET)))
    made = conn.make_stream_headers(5, 200, {}) + conn.make_stream_trailers(5, {"x-t": "1"})
    assert [(each.header.type, each.header.flags) for each in made] == [(1, 4), (1, 5)]
    assert conn.streams == {}


def test_a_response_larger_than_the_window_is_made_of_what_may_go_now():
    conn = ready()
    conn.handle_frame(frame(1, 5, 1, block(GET)))
    made = conn.make_response(1, 200, {}, bytes(100_000))
    assert sum(len(each.payload) for each in made[1:]) == 65_535
    conn.handle_frame(frame(8, 0, 1, b"\0\1\0\0"))
    more = conn.handle_frame(frame(8, 0, 0, b"\0\1\0\0"))
    assert sum(len(each.payload) for each in more) == 100_000 - 65_535
    assert more[-1].header.flags == FrameFlags.END_STREAM


def test_the_two_sides_settings_are_kept_apart():
    conn = ready(config=Http2Config(header_table_size=100, max_frame_size=20_000))
    conn.handle_frame(parse_frame(build_settings({1: 8000, 4: 5, 5: 30_000})))
    assert conn.peer.header_table_size == 8000
    assert conn.peer.max_frame_size == 30_000
    assert conn.local.header_table_size == 4096
    assert conn.hpack_decoder.limit == 4096
    assert not conn.settings_acked
    conn.handle_frame(parse_frame(build_settings(ack=True)))
    assert conn.settings_acked
    assert conn.local.header_table_size == conn.hpack_decoder.limit == 100
    assert conn.hpack_encoder.max_size == 4096
    # The connection's window is nobody's INITIAL_WINDOW_SIZE.
    assert conn.send_window == conn.recv_window == 65_535


def test_states_follow_the_messages():
    conn = ready()
    conn.handle_frame(frame(1, 4, 1, block(POST)))
    stream = conn.streams[1]
    assert stream.state is StreamState.OPEN
    assert stream.headers_complete
    assert not stream.data_complete
    conn.handle_frame(frame(0, 1, 1, b"x"))
    assert stream.state is StreamState.HALF_CLOSED_REMOTE
    assert stream.data_complete
    conn.make_response(1, 200, {})
    assert stream.state is StreamState.CLOSED
    client = Connection(is_client=True)
    mine = client.open_stream(1)
    client.send_headers(mine, [(":method", "GET")], True)
    assert mine.state is StreamState.HALF_CLOSED_LOCAL
    assert repr(mine) == "<Stream 1 HALF_CLOSED_LOCAL>"


@pytest.mark.parametrize("state", StreamState)
@pytest.mark.parametrize("event", StreamEvent)
def test_what_is_not_in_the_table_is_an_error(state: StreamState, event: StreamEvent):
    stream = Stream(1, 0, 0)
    stream.state = state
    target = TRANSITIONS.get((state, event))
    if target is None:
        with pytest.raises(Http2Error) as caught:
            stream.advance(event)
        assert caught.value.code is Http2ErrorCode.STREAM_CLOSED
        assert stream.state is state
    else:
        stream.advance(event)
        assert stream.state is target


def test_nothing_leads_out_of_closed_nor_back_to_idle():
    assert not [key for key in TRANSITIONS if key[0] is StreamState.CLOSED]
    assert StreamState.IDLE not in TRANSITIONS.values()
    assert all(target >= state for (state, _), target in TRANSITIONS.items())


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_any_frames_are_events_or_an_error_whatever_the_cut(data: bytes):
    h2_server_frames(data)
    h2_client_frames(data)


def test_a_busy_connection_reads_alike_whatever_the_cut():
    wire = H2_PREFACE + build_settings({4: 100_000}) + build_settings(ack=True)
    for number in range(20):
        sid = 2 * number + 1
        wire += build_frame(1, 0, sid, block(POST)[:7]) + build_frame(9, 4, sid, block(POST)[7:])
        wire += build_frame(0, 8, sid, b"\3body\0\0\0") + build_frame(0, 1, sid, b"%d" % sid)
    outcomes = []
    for size in (1, 7, 100, 10_000):
        server = Http2Connection()
        for start in range(0, len(wire), size):
            server.feed(wire[start : start + size])
        bodies = []
        for sid in server.take_completed_streams():
            bodies.append(server.take_request(sid).body)
            server.emit_response(sid, Reply(200, b"x" * sid))
        outcomes.append((bodies, frames_in(server.drain())))
    assert outcomes == [outcomes[0]] * 4
    assert outcomes[0][0][3] == b"body7"


def test_one_connection_after_another_is_told_apart():
    first, second = started_server(), started_server()
    first.feed(encode_frame(frame(1, 5, 1, block(GET))))
    assert second.take_completed_streams() == []
    assert first.take_completed_streams() == [1]


def test_the_package_brings_no_io_along():
    code = (
        "import sys, flare.http2, flare.http.proto.huffman, flare.http.proto.h2c_upgrade\n"
        "bad = {'socket', 'ssl', 'select', 'selectors', 'threading', 'asyncio'}\n"
        "bad |= {'flare.' + name for name in 'net dns io tcp udp uds tls runtime'.split()}\n"
        "bad |= {'flare.http.' + name for name in 'request response server client body'.split()}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
