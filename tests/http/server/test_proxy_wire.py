"""Connections that begin with a PROXY header, and those that may not (attack 49)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from dispatching import ask, skip, until, worker_of
from serving import PATIENCE, Connect, Peer, Reply, Running, Start

from flare.http import Request, Response, StreamingResponse, ok, precompute_response
from flare.http.server import HttpServer, ServerConfig
from flare.http.server.connection import Connection
from flare.http.server.h1 import H1Wire
from flare.http.server.wire import HEAD
from flare.net import SocketAddr

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
V1_V6 = b"PROXY TCP6 2001:db8::1 ::1 1 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4_ADDRESSES = b"\xc0\0\2\1" + b"\xc6\x33\x64\2" + b"\x1f\x90" + b"\0\x50"
V6_ADDRESSES = bytes.fromhex("20010db8000000000000000000000001") + bytes(15) + b"\1" + b"\1\2\3\4"


def v2(command: int = 0x21, family: int = 0x11, block: bytes = V4_ADDRESSES) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(block).to_bytes(2, "big") + block


def who(request: Request) -> Response:
    return ok(f"{request.peer} {request.client}")


def behind_proxy(**changes: Any) -> ServerConfig:
    return ServerConfig(trusted_proxies=["127.0.0.1"], proxy_protocol=True, **changes)


def own_address(peer: Peer) -> str:
    host, port = peer.sock.getsockname()
    return f"{host}:{port}"


HEADERS = {
    "v1": (V1, "192.0.2.1:56324"),
    "v1 of IPv6": (V1_V6, "[2001:db8::1]:1"),
    "v2": (v2(), "192.0.2.1:8080"),
    "v2 of IPv6": (v2(family=0x21, block=V6_ADDRESSES), "[2001:db8::1]:258"),
    "v2 with more behind": (v2(block=V4_ADDRESSES + b"\4\0\3abc" * 100), "192.0.2.1:8080"),
}
# A health check of the proxy's own, or a client that has no address of these families.
LOCAL = {
    "v1": b"PROXY UNKNOWN\r\n",
    "v2 local": v2(0x20, 0, b""),
    "v2 local with addresses": v2(0x20, 0x11),
    "v2 unspecified": v2(0x21, 0, b""),
    "v2 of a Unix socket": v2(0x21, 0x31, bytes(216)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_peer_is_the_one_in_the_header(start: Start, connect: Connect, name: str) -> None:
    header, expected = HEADERS[name]
    peer = connect(start(who, behind_proxy()).address)
    peer.send(header)
    for _ in range(2):
        peer.get()
        assert peer.read().body.decode() == f"{expected} {expected}"


@pytest.mark.parametrize("name", LOCAL)
def test_without_an_address_the_peer_is_the_proxy(
    start: Start, connect: Connect, name: str
) -> None:
    peer = connect(start(who, behind_proxy()).address)
    peer.send(LOCAL[name])
    peer.get("/", "X-Forwarded-For: 203.0.113.7")
    assert peer.read().body.decode() == f"{own_address(peer)} 203.0.113.7:0"


@pytest.mark.parametrize("name", HEADERS)
def test_header_and_requests_may_come_in_one_piece(
    start: Start, connect: Connect, name: str
) -> None:
    header, expected = HEADERS[name]
    request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    peer = connect(start(who, behind_proxy()).address)
    peer.send(header + request + request)
    assert peer.read().body.decode().startswith(expected)
    assert peer.read().body.decode().startswith(expected)


@pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
def test_the_header_may_come_byte_by_byte(start: Start, connect: Connect, header: bytes) -> None:
    peer = connect(start(who, behind_proxy()).address)
    for byte in header + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n":
        peer.send(bytes([byte]))
    assert peer.read().body.startswith(b"192.0.2.1:")


def test_a_client_behind_the_proxy_is_not_believed(start: Start, connect: Connect) -> None:
    peer = connect(start(who, behind_proxy()).address)
    peer.send(V1)
    peer.get("/", "X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7")
    assert peer.read().body == b"192.0.2.1:56324 192.0.2.1:56324"


def test_a_trusted_proxy_behind_the_proxy_is_believed(start: Start, connect: Connect) -> None:
    config = ServerConfig(trusted_proxies=["127.0.0.1", "192.0.2.0/24"], proxy_protocol=True)
    peer = connect(start(who, config).address)
    peer.send(V1)
    peer.get("/", "X-Forwarded-For: 203.0.113.7")
    assert peer.read().body == b"192.0.2.1:56324 203.0.113.7:0"


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        v2(0x22),
        v2(0x31),
        v2(family=0x12),
        v2(block=V4_ADDRESSES[:-1]),
        SIGNATURE + b"\x21\x11\xff\xff",
        v2(block=V4_ADDRESSES + b"\3\0\4sum!"),
        b"\x16\x03\x01\x02\x00",
    ],
    ids=lambda first: repr(first[:24]),
)
def test_a_trusted_peer_without_a_header_is_closed_without_an_answer(
    start: Start, connect: Connect, caplog: pytest.LogCaptureFixture, first: bytes
) -> None:
    caplog.set_level(logging.INFO, "flare.error")
    running = start(who, behind_proxy())
    peer = connect(running.address)
    peer.send(first)
    assert peer.is_ended()
    assert len(caplog.records) == 1
    assert "ProxyParseError" in caplog.text
    well = connect(running.address)
    well.send(V1)
    well.get()
    assert well.read().status == 200


@pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
@pytest.mark.parametrize("trusted", [["10.0.0.0/8"], ["unix"], []])
def test_from_a_stranger_a_header_is_a_bad_request(
    start: Start, connect: Connect, header: bytes, trusted: list[str]
) -> None:
    config = ServerConfig(trusted_proxies=trusted, proxy_protocol=bool(trusted))
    running = start(who, config)
    peer = connect(running.address)
    peer.send(header + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert peer.read().status == 400
    assert peer.is_ended()
    usual = connect(running.address)
    usual.get()
    assert usual.read().body.decode().startswith(own_address(usual))


def test_from_a_trusted_peer_a_header_is_a_bad_request_where_none_is_expected(
    start: Start, connect: Connect
) -> None:
    peer = connect(start(who, ServerConfig(trusted_proxies=["127.0.0.1"])).address)
    peer.send(V1 + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert peer.read().status == 400


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 1", SIGNATURE])
def test_a_header_that_does_not_come_is_waited_for_only_so_long(
    start: Start, connect: Connect, sent: bytes
) -> None:
    config = behind_proxy(header_timeout_ms=100, idle_timeout_ms=60_000)
    peer = connect(start(who, config).address)
    peer.send(sent)
    assert peer.is_ended()


def test_bytes_that_trickle_do_not_put_the_end_off(start: Start, connect: Connect) -> None:
    config = behind_proxy(header_timeout_ms=150, idle_timeout_ms=60_000)
    peer = connect(start(who, config).address)
    peer.send(SIGNATURE + b"\x21\x11\x0f\xff")
    ended = threading.Event()

    def trickle() -> None:
        try:
            for _ in range(4000):
                peer.send(b"x")
                if ended.wait(0.02):
                    return
        except OSError:
            return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        assert peer.is_ended()
    finally:
        ended.set()
        thread.join(PATIENCE)


def test_the_first_head_has_its_whole_time_after_the_header(start: Start, connect: Connect) -> None:
    config = behind_proxy(header_timeout_ms=10_000, idle_timeout_ms=60_000)
    running = start(who, config)
    worker = worker_of(running)
    peer = connect(running.address)
    peer.send(V1[:10])
    until(lambda: worker.tally.bytes_in == 10)
    skip(worker, 6_000)
    peer.send(V1[10:])
    until(lambda: worker.tally.bytes_in == len(V1))
    skip(worker, 6_000)  # beyond ten seconds since the first byte of the header
    peer.send(b"GET / HTTP/1.1\r\n")
    [connection] = worker.connections.values()
    until(lambda: connection.wire.phase == HEAD)
    skip(worker, 6_000)
    peer.send(b"Host: h\r\n\r\n")
    assert peer.read().status == 200


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 1", SIGNATURE])
def test_an_end_before_the_header_is_just_an_end(
    start: Start, connect: Connect, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level(logging.INFO, "flare.error")
    peer = connect(start(who, behind_proxy()).address)
    peer.send(sent)
    peer.finish_sending()
    assert peer.is_ended()
    assert not caplog.records


def test_the_access_log_has_the_address_of_the_header(
    start: Start, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flare.access")
    running = start(who, behind_proxy(access_log=True))
    peer = connect(running.address)
    peer.send(V1)
    peer.get("/", "Connection: close")
    assert peer.read().status == 200
    assert peer.is_ended()
    running.stop()
    assert caplog.messages[0].startswith('192.0.2.1:56324 "GET / HTTP/1.1" 200 ')


def test_a_connection_without_its_header_does_not_keep_a_drain_waiting(
    start: Start, connect: Connect
) -> None:
    running = start(who, behind_proxy())
    silent, served = connect(running.address), connect(running.address)
    served.send(V1)
    served.get()
    served.read()
    report = running.server.drain(int(PATIENCE * 1000))
    assert report.timed_out == 0
    assert silent.is_ended()
    running.join()


@pytest.mark.usefixtures("no_haste")
def test_a_request_that_comes_with_its_header_during_a_drain_is_served(
    start: Start, connect: Connect
) -> None:
    inside, let_go = threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        inside.set()
        let_go.wait(PATIENCE)
        return ok("slow")

    running = start(slow, behind_proxy(dispatch="pool"))
    busy, late, idle = (connect(running.address) for _ in range(3))
    idle.send(V1)
    let_go.set()
    idle.get()
    idle.read()
    let_go.clear()
    inside.clear()
    busy.send(V1)
    busy.get()
    assert inside.wait(PATIENCE)
    late.send(V1[:12])
    drained: list[Any] = []
    thread = threading.Thread(target=lambda: drained.append(running.server.drain(10_000)))
    thread.start()
    assert idle.is_ended()  # the drain has begun
    late.send(V1[12:])
    late.get()
    let_go.set()
    try:
        answers: list[Reply] = [busy.read(), late.read()]
    finally:
        busy.close()
        late.close()
        thread.join(PATIENCE)
    assert [answer.get("connection") for answer in answers] == ["close", "close"]
    assert drained[0].timed_out == 0
    running.join()


@pytest.fixture
def static_address() -> Iterator[tuple[str, int]]:
    server = HttpServer.bind(SocketAddr.localhost(0), behind_proxy())
    answer = precompute_response(200, "text/plain", b"static")
    thread = threading.Thread(target=server.serve_static, args=(answer,))
    thread.start()
    yield "127.0.0.1", server.local_addr().port
    server.close()
    thread.join(PATIENCE)


def test_a_static_response_is_served_behind_a_header_too(
    static_address: tuple[str, int], connect: Connect
) -> None:
    peer = connect(static_address)
    peer.send(v2())
    for _ in range(3):
        peer.get()
        assert peer.read().body == b"static"
    stranger = connect(static_address)
    stranger.get()
    assert stranger.is_ended()


def test_bodies_both_ways_go_on_as_ever(start: Start, connect: Connect) -> None:
    def echo(request: Request) -> Any:
        return StreamingResponse(200, iter([request.body, request.body]))

    peer = connect(start(echo, behind_proxy()).address)
    body = b"x" * 300_000
    peer.send(V1)
    peer.post(body)
    assert peer.read().body == 2 * body


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize(
    ("header", "expected"),
    [(V1, "192.0.2.1:56324 192.0.2.1:56324"), (LOCAL["v1"], " 203.0.113.7:0")],
)
def test_http2_is_spoken_behind_a_header(
    start: Start, connect: Connect, header: bytes, expected: str, pieces: int
) -> None:
    pytest.importorskip("h2", reason="pip install h2")
    import h2.config
    import h2.connection
    import h2.events

    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    head = {":method": "GET", ":path": "/", ":scheme": "http", ":authority": "h"}
    client.send_headers(1, [*head.items(), ("x-forwarded-for", "203.0.113.7")], end_stream=True)
    data = header + client.data_to_send()
    peer = connect(start(who, behind_proxy()).address)
    for at in range(pieces):
        peer.send(data[at * len(header) :] if at == pieces - 1 else data[: len(header)])
    body, ended = b"", False
    while not ended:
        received = peer.sock.recv(65536)
        assert received, "the connection ended"
        for event in client.receive_data(received):
            if isinstance(event, h2.events.DataReceived):
                body += event.data
            ended = ended or isinstance(event, h2.events.StreamEnded)
    assert body.decode().endswith(expected)


@pytest.fixture
def opened(start: Start, connect: Connect) -> tuple[Running, Peer]:
    """A server that has threads by now, and a peer whose PROXY header came before its request."""
    running = start(who, behind_proxy(http2=False))
    worker = worker_of(running)
    first = connect(running.address)
    first.send(V1)
    for _ in range(2):
        assert ask(first, "/")
    first.close()
    until(lambda: not worker.connections)
    peer = connect(running.address)
    peer.send(V1)
    until(lambda: [type(c.wire) for c in worker.connections.values()] == [H1Wire])
    until(lambda: worker.waiting)
    return running, peer


def test_a_blank_line_behind_the_first_request_is_skipped(opened: tuple[Running, Peer]) -> None:
    _, peer = opened
    assert ask(peer, "/")
    peer.send(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert peer.read().status == 200


@pytest.mark.usefixtures("no_haste")
def test_a_drain_does_not_take_one_that_was_served_for_a_newcomer(
    opened: tuple[Running, Peer],
) -> None:
    running, peer = opened
    for _ in range(3):
        assert ask(peer, "/")
    [connection] = worker_of(running).connections.values()
    assert isinstance(connection, Connection)
    assert connection.wire.served
    # A newcomer would have longer than the drain.
    assert running.server.drain(5000).timed_out == 0
    assert peer.is_ended()
