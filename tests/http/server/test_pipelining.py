"""Requests sent without waiting are answered in order, within bounds."""

from __future__ import annotations

import threading

import pytest
from serving import PATIENCE, Connect, Serve, Start

from flare.http import Request, Response, StreamingResponse, ok
from flare.http.server import ServerConfig


def echo_target(request: Request) -> Response:
    return ok(request.url)


def burst(count: int) -> bytes:
    return b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(count))


@pytest.mark.parametrize("count", [2, 3, 15, 16, 17, 33, 100, 1000])
def test_a_burst_is_answered_whole_and_in_order(serve: Serve, connect: Connect, count: int) -> None:
    peer = connect(serve(echo_target))
    peer.send(burst(count))
    assert [peer.read().body for _ in range(count)] == [b"/%d" % n for n in range(count)]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_burst_of_large_answers_comes_in_order(
    serve: Serve, connect: Connect, streamed: bool
) -> None:
    def handler(request: Request) -> object:
        body = request.url.encode() * 50_000
        if streamed:
            return StreamingResponse(200, [body[:70_000], body[70_000:]])
        return ok(body)

    peer = connect(serve(handler), receive_buffer=8192)
    peer.send(burst(40))
    for number in range(40):
        assert peer.read().body == b"/%d" % number * 50_000


def test_bodies_and_chunks_in_a_burst_keep_their_borders(serve: Serve, connect: Connect) -> None:
    one = (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    peer = connect(serve(lambda request: ok(request.body)))
    peer.send(one * 30)
    assert [peer.read().body for _ in range(90)] == [b"hello", b"abc", b""] * 30


@pytest.mark.parametrize("before", [0, 1, 16, 40])
def test_nothing_behind_a_bad_request_is_served(
    serve: Serve, connect: Connect, before: int
) -> None:
    seen: list[str] = []
    peer = connect(serve(lambda request: seen.append(request.url) or ok(request.url)))
    peer.send(burst(before) + b"BAD\r\n\r\n" + burst(5))
    for number in range(before):
        assert peer.read().body == b"/%d" % number
    assert peer.read().status == 400
    assert peer.rest() == b""
    assert len(seen) == before


def test_nothing_behind_a_last_request_is_served(serve: Serve, connect: Connect) -> None:
    seen: list[str] = []
    peer = connect(serve(lambda request: seen.append(request.url) or ok(request.url)))
    peer.send(burst(20) + b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + burst(20))
    bodies = [peer.read().body for _ in range(21)]
    assert bodies[-1] == b"/last"
    assert peer.rest() == b""
    assert seen[-1] == "/last"


def test_a_burst_and_a_half_close_are_answered_whole(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(echo_target))
    peer.send(burst(50))
    peer.finish_sending()
    assert [peer.read().body for _ in range(50)] == [b"/%d" % n for n in range(50)]
    assert peer.is_ended()


def test_a_torrent_of_one_client_leaves_turns_for_the_others(
    serve: Serve, connect: Connect
) -> None:
    address = serve(echo_target)
    torrent, other = connect(address), connect(address)
    stop = threading.Event()

    def pour() -> None:
        data = burst(500)
        try:
            while not stop.is_set():
                torrent.send(data)
        except OSError:
            pass

    def drink() -> None:
        try:
            while torrent.sock.recv(1 << 20):
                pass
        except OSError:
            pass

    threads = [threading.Thread(target=pour), threading.Thread(target=drink)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            other.get("/other")
            assert other.read().body == b"/other"
    finally:
        stop.set()
        torrent.sock.shutdown(2)
        for thread in threads:
            thread.join(PATIENCE)


def test_requests_that_wait_for_their_turn_do_not_pile_up(start: Start, connect: Connect) -> None:
    """A client that sends faster than it is served is read no further."""
    held: list[int] = []
    running = start(lambda request: held.append(most_buffered()) or ok("x" * 100))

    def most_buffered() -> int:
        connections = running.server._crew.workers[0].connections.values()
        return max(connection.wire._decoder.buffered for connection in connections)

    peer = connect(running.address)
    count = 20_000
    reader = threading.Thread(target=lambda: [peer.read() for _ in range(count)])
    reader.start()
    peer.send(burst(count))
    reader.join(2 * PATIENCE)
    assert len(held) == count
    assert max(held) <= 3 * ServerConfig().read_buffer_size
