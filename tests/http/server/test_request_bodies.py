"""Bodies of requests that do not come in one read, as the wire puts them together."""

from __future__ import annotations

import pytest
from dispatching import ask, worker_of
from serving import Connect, Start

from flare._ffi.malloc import keep_freed, trim
from flare.http import ok
from flare.http.proto.heads import RequestHead
from flare.http.server.config import ServerConfig
from flare.http.server.connection import Connection
from flare.http.server.h1 import H1Wire
from flare.http.server.h1_shared import H1Shared, Plan
from flare.net import SocketAddr


@pytest.fixture
def wire() -> H1Wire:
    def make_plan(head: RequestHead) -> Plan:
        raise AssertionError("nobody is asked before there is all of it")

    return H1Wire(H1Shared(ServerConfig(), make_plan), SocketAddr.localhost(1))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [[1] * 300, [5000, 1, 1, 5000, 1], [4096] * 3, [4095, 4097, 1], [1, 70_000, 2], [200_000]],
    ids=str,
)
def test_a_body_is_whole_however_it_comes(wire: H1Wire, chunked: bool, sizes: list[int]) -> None:
    pieces = [bytes([97 + at % 26]) * size for at, size in enumerate(sizes)]
    how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {sum(sizes)}"
    wire.receive(f"POST / HTTP/1.1\r\nHost: h\r\n{how}\r\n\r\n".encode())
    assert wire.next_exchange() is None
    for at, piece in enumerate(pieces):
        wire.receive(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        last = at == len(pieces) - 1 and not chunked
        if not last:
            assert wire.next_exchange() is None
    if chunked:
        wire.receive(b"0\r\n\r\n")
    exchange = wire.next_exchange()
    assert exchange is not None
    assert type(exchange.request.body) is bytes
    assert exchange.request.body == b"".join(pieces)
    # Nothing of it is kept, and one sent byte by byte has not an object for each.
    assert wire._pieces == []


def test_a_body_byte_by_byte_takes_no_object_for_each(wire: H1Wire) -> None:
    wire.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n")
    for _ in range(2999):
        wire.receive(b"x")
        assert wire.next_exchange() is None
    assert len(wire._pieces) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_the_last_read_of_a_body_is_not_held(wire: H1Wire, chunked: bool) -> None:
    how = "Transfer-Encoding: chunked" if chunked else "Content-Length: 3000"
    head = f"POST / HTTP/1.1\r\nHost: h\r\n{how}\r\n\r\n".encode()
    body = b"x" * 3000
    wire.receive(head + (b"bb8\r\n" + body + b"\r\n0\r\n\r\n" if chunked else body))
    exchange = wire.next_exchange()
    assert exchange is not None
    assert exchange.request.body == body
    assert wire._decoder._buf == b""


def test_a_body_that_takes_long_to_read_waits_for_its_next_turn(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, most = 0, 0

    def read_more(connection: Connection) -> bool:
        nonlocal reads
        reads += 1
        return _read_more(connection)

    def turn() -> None:
        nonlocal reads, most
        reads, most = 0, max(most, reads)

    def clock() -> int:
        nonlocal leap
        leap += 3_000_000
        return leap

    _read_more = Connection._read_more
    monkeypatch.setattr(Connection, "_read_more", read_more)
    running = start(lambda request: ok(str(len(request.body))))
    worker = worker_of(running)
    peer = connect(running.address)
    assert ask(peer, "/") == b"0"
    leap = worker.clock_ns()
    worker.on_turn = turn
    worker.clock_ns = clock
    peer.post(b"x" * 4_000_000)
    assert peer.read().body == b"4000000"
    assert most == 1


def test_what_long_requests_took_is_given_back_when_there_are_none_any_more(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: list[None] = []
    monkeypatch.setattr("flare.http.server.worker.trim", lambda: trims.append(None))
    running = start(lambda request: ok(str(len(request.body))))
    worker = worker_of(running)
    now = worker.clock_ns()
    worker.clock_ns = lambda: now  # no second passes by itself
    peer = connect(running.address)

    def trimmed_in_a_second() -> int:
        worker._date_due_ms = 0
        assert ask(peer, "/") == b"0"
        return len(trims)

    assert trimmed_in_a_second() == 0
    for _ in range(2):
        peer.post(b"x" * 50_000)
        assert peer.read().body == b"50000"
        assert trimmed_in_a_second() == 0
    assert [trimmed_in_a_second() for _ in range(3)] == [1, 1, 1]


def test_to_give_memory_back_does_no_harm() -> None:
    keep_freed(1 << 20)
    held = [b"x" * 10_000 for _ in range(1000)]
    del held[::2]
    trim()
    assert all(piece == b"x" * 10_000 for piece in held)
