from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from flare.errors import NetworkError, Timeout, ValidationError
from flare.io import ByteWriter
from flare.testing.memory import MemoryStream
from flare.uds import Frame, FrameDemux, FrameKind, FrameMux, UnixStream, encode_frame

OPEN, CHUNK, DONE, ERROR, CANCEL = FrameKind
DEADLINE = 10.0

SCRIPT = [
    Frame(1, OPEN, b""),
    Frame(2, OPEN, b""),
    Frame(1, CHUNK, b"one"),
    Frame(2, CHUNK, b""),
    Frame(1, CHUNK, b"and"),
    Frame(2, 77, b"unknown"),
    Frame(2, ERROR, b"no"),
    Frame(1, DONE, b""),
]


def wire(*frames: Frame) -> bytes:
    writer = ByteWriter()
    for frame in frames:
        encode_frame(writer, frame.request_id, frame.kind, frame.payload)
    return writer.take()


def drain(source: FrameDemux | FrameMux, request_id: int) -> list[Frame]:
    found = []
    while frame := source.poll(request_id):
        found.append(frame)
    return found


def of(request_id: int) -> list[Frame]:
    return [frame for frame in SCRIPT if frame.request_id == request_id]


@pytest.mark.parametrize("cut", range(len(wire(*SCRIPT)) + 1))
def test_frames_are_sorted_by_request_wherever_the_bytes_are_cut(cut: int) -> None:
    demux, data = FrameDemux(), wire(*SCRIPT)
    demux.feed(data[:cut])
    demux.feed(memoryview(data)[cut:])
    assert demux.ready() == [1, 2]
    assert (demux.pending(1), demux.pending(2)) == (4, 4)
    assert (drain(demux, 1), drain(demux, 2)) == (of(1), of(2))
    assert demux.ready() == []


def test_frames_come_byte_by_byte_as_soon_as_they_are_whole() -> None:
    demux = FrameDemux()
    got: list[Frame] = []
    for byte in wire(*SCRIPT):
        demux.feed(bytes([byte]))
        for request_id in demux.ready():
            got += drain(demux, request_id)
    assert got == SCRIPT


def test_a_request_without_frames_has_none() -> None:
    demux = FrameDemux()
    assert demux.poll(9) is None
    assert demux.pending(9) == 0
    demux.drop(9)
    demux.feed(b"")
    assert demux.ready() == []


def test_drop_throws_away_what_waits_and_no_more() -> None:
    demux = FrameDemux()
    demux.feed(wire(*SCRIPT))
    demux.drop(1)
    assert demux.pending(1) == 0
    assert demux.pending(2) == 4
    demux.feed(wire(SCRIPT[0]))
    assert demux.pending(1) == 1


def test_a_closed_request_is_thrown_away_to_its_end() -> None:
    demux = FrameDemux()
    demux.feed(wire(Frame(1, CHUNK, b"waits")))
    demux.close_request(1)
    demux.feed(wire(Frame(1, CHUNK, b"late"), Frame(2, CHUNK, b"other"), Frame(1, DONE, b"")))
    assert demux.ready() == [2]
    demux.feed(wire(Frame(1, OPEN, b"")))
    assert demux.pending(1) == 1


def test_only_so_many_closed_requests_are_remembered() -> None:
    demux = FrameDemux()
    for request_id in range(5000):
        demux.close_request(request_id)
    demux.feed(wire(Frame(0, CHUNK, b""), Frame(4999, CHUNK, b"")))
    assert demux.ready() == [0]


def test_a_payload_at_the_limit_and_one_past_it() -> None:
    demux = FrameDemux(max_payload=10)
    demux.feed(wire(Frame(1, CHUNK, bytes(10))))
    header = wire(Frame(1, CHUNK, bytes(11)))[:13]
    demux.feed(header[:12])
    with pytest.raises(ValidationError, match="at most 10 bytes, got 11"):
        demux.feed(header[12:])  # with the header whole, and nothing of the payload
    for _ in range(2):
        with pytest.raises(ValidationError, match="at most 10 bytes"):
            demux.feed(wire(Frame(1, DONE, b"")))
    assert drain(demux, 1) == [Frame(1, CHUNK, bytes(10))]


def test_frames_before_a_bad_one_are_kept() -> None:
    demux = FrameDemux(max_payload=3)
    with pytest.raises(ValidationError):
        demux.feed(wire(Frame(1, CHUNK, b"abc"), Frame(1, CHUNK, b"abcd"), Frame(1, DONE, b"")))
    assert drain(demux, 1) == [Frame(1, CHUNK, b"abc")]


@pytest.mark.parametrize("payload", [b"", bytes(1000)])
def test_what_waits_is_bounded(payload: bytes) -> None:
    frame = Frame(1, CHUNK, payload)
    room = 5 * (len(payload) + 256)
    demux = FrameDemux(max_held=room)
    for _ in range(3):  # polled, dropped and closed frames make room
        demux.feed(wire(*[frame] * 5))
        assert demux.poll(1) == frame
        demux.feed(wire(frame))
        demux.drop(1)
    demux.feed(wire(*[frame] * 5))
    with pytest.raises(ValidationError, match=f"more than {room} bytes wait"):
        demux.feed(wire(frame))
    assert drain(demux, 1) == [frame] * 5


Pair = tuple[FrameMux, FrameMux]


@pytest.fixture(params=[UnixStream.pair, MemoryStream.pair], ids=["unix", "memory"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    make: Callable[[], tuple[UnixStream, UnixStream]] = request.param
    one, other = make()
    with FrameMux(one) as client, FrameMux(other) as server:
        yield client, server


def pump_until(mux: FrameMux, request_id: int, kind: FrameKind) -> list[Frame]:
    found: list[Frame] = []
    while not found or found[-1].kind != kind:
        while (frame := mux.poll(request_id)) is None:
            assert mux.pump(), "the peer is gone"
        found.append(frame)
    return found


def test_ids_begin_with_one(pair: Pair) -> None:
    assert [pair[0].next_id() for _ in range(3)] == [1, 2, 3]


def test_requests_and_answers_interleave(pair: Pair) -> None:
    client, server = pair
    first, second = client.next_id(), client.next_id()
    for request_id in (first, second):
        client.open(request_id)
    client.send_chunk(second, b"two")
    client.send_chunk(first, bytearray(b"one"))
    client.done(second)
    client.done(first)
    client.flush()
    questions = {request_id: pump_until(server, request_id, DONE) for request_id in (first, second)}
    assert [f.payload for f in questions[first]] == [b"", b"one", b""]
    assert [f.payload for f in questions[second]] == [b"", b"two", b""]
    server.error(second, b"cannot")
    server.send_chunk(first, b"answer")
    server.done(first)
    server.flush()
    assert [f.payload for f in pump_until(client, first, DONE)] == [b"answer", b""]
    assert pump_until(client, second, ERROR) == [Frame(second, ERROR, b"cannot")]


def test_the_asked_side_learns_of_requests(pair: Pair) -> None:
    client, server = pair
    client.open(5)
    client.open(3)
    client.flush()
    server.pump()
    while len(server.ready()) < 2:
        server.pump()
    assert server.ready() == [5, 3]


def test_nothing_is_sent_before_flush(pair: Pair) -> None:
    client, server = pair
    client.open(1)
    server._stream.set_nonblocking(True)
    with pytest.raises(Timeout):
        server.pump()
    client.flush()
    client.flush()
    assert server.pump() == 13
    assert server.pending(1) == 1


def test_cancel_tells_the_peer_and_forgets_the_answer(pair: Pair) -> None:
    client, server = pair
    client.open(1)
    server.send_chunk(1, b"early")
    server.flush()
    client.pump()
    assert client.pending(1) == 1
    client.cancel(1)
    assert client.pending(1) == 0
    client.flush()
    assert pump_until(server, 1, CANCEL)[-1] == Frame(1, CANCEL, b"")
    server.send_chunk(1, b"late")
    server.done(1)
    server.send_chunk(2, b"of another")
    server.flush()
    pump_until(client, 2, CHUNK)
    assert client.pending(1) == 0


def test_pump_takes_at_most_what_it_is_told(pair: Pair) -> None:
    client, server = pair
    client.send_chunk(1, b"abc")
    client.flush()
    assert server.pump(10) == 10
    assert server.pending(1) == 0
    assert server.pump(10) == 6
    assert server.pending(1) == 1
    with pytest.raises(ValidationError, match="max_bytes"):
        server.pump(0)


def test_pump_returns_nothing_when_the_peer_has_closed(pair: Pair) -> None:
    client, server = pair
    client.done(1)
    client.flush()
    client.close()
    assert server.pump() == 13
    assert server.pump() == 0
    assert server.poll(1) == Frame(1, DONE, b"")


def test_a_flush_cut_short_by_a_timeout_goes_on_where_it_was(pair: Pair) -> None:
    client, server = pair
    payload = bytes(range(256)) * (1 << 14)
    client._stream.set_send_timeout(10)
    client.send_chunk(1, payload)
    client.done(1)
    with pytest.raises(Timeout):
        client.flush()
    with ThreadPoolExecutor() as threads:
        received = threads.submit(pump_until, server, 1, DONE)
        client._stream.set_send_timeout(0)
        client.flush()
        chunk, last = received.result(DEADLINE)
    assert chunk.payload == payload
    assert last.kind == DONE


def test_one_thread_sends_while_another_receives(pair: Pair) -> None:
    client, server = pair
    count = 200

    def echo() -> None:
        for frame in pump_until(server, 1, DONE):
            if frame.kind == CHUNK:
                server.send_chunk(1, frame.payload)
        server.done(1)
        server.flush()

    def ask() -> None:
        for i in range(count):
            client.send_chunk(1, i.to_bytes(2, "big") * 500)
            client.flush()
        client.done(1)
        client.flush()

    with ThreadPoolExecutor() as threads:
        work = [threads.submit(echo), threads.submit(ask)]
        answer = pump_until(client, 1, DONE)
        for future in work:
            future.result(DEADLINE)
    assert [int.from_bytes(f.payload[:2], "big") for f in answer[:-1]] == list(range(count))


def test_a_peer_that_breaks_the_rules_is_refused() -> None:
    one, other = UnixStream.pair()
    with one, FrameMux(other, FrameDemux(max_payload=4)) as mux:
        one.write_all(wire(Frame(1, CHUNK, b"fits"), Frame(1, CHUNK, b"does not")))
        with pytest.raises(ValidationError, match="at most 4 bytes"):
            list(iter(mux.pump, 0))
        assert mux.poll(1) == Frame(1, CHUNK, b"fits")


def test_after_close_the_errors_are_those_of_the_stream(pair: Pair) -> None:
    client, _ = pair
    client.close()
    client.close()
    client.open(1)
    for operation in (client.flush, client.pump):
        with pytest.raises(NetworkError) as caught:
            operation()
        assert caught.value.errno == errno.EBADF
    assert "closed" in repr(client)
