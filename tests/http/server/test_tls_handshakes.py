"""Handshakes that fail, stall or never begin (attacks 14 and 54), and those that succeed late."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
import time
from typing import Any

import pytest
from dispatching import skip, until, worker_of
from serving import PATIENCE, Connect, Peer, Running, Start
from tls_serving import ConnectTls, Pki, StartTls, secure, tls_server

from flare.http import Request, Response, ok
from flare.http.server import ServerConfig
from flare.http.server.proxy_wire import ProxyWire
from flare.http.server.tls import TlsWire
from flare.net import SocketAddr

PROXY = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"


def hello(pki: Pki) -> bytes:
    """The first bytes of a client."""
    outgoing = ssl.MemoryBIO()
    client = pki.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def fine(request: Request) -> Response:
    return ok(f"{request.peer} {request.scheme}")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "flare.error"]


def until_dropped(peer: Peer) -> bytes:
    """What still comes until the server ends the connection."""
    received = b""
    try:
        while data := peer.sock.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "flare.error")
    return caplog


# -- clients that hold on -------------------------------------------------------------------


def test_two_hundred_clients_that_do_not_finish_hold_nobody_up(
    start_tls: StartTls,
    connect: Connect,
    connect_tls: ConnectTls,
    pki: Pki,
    log: pytest.LogCaptureFixture,
) -> None:
    running = start_tls(fine, ServerConfig(handler_threads=4), handshake_timeout_ms=60_000)
    worker = worker_of(running)
    said = hello(pki)
    silent = [connect(running.address) for _ in range(70)]
    half = [connect(running.address) for _ in range(70)]
    for peer in half:
        peer.send(said[: len(said) // 2])
    dripping = [connect(running.address) for _ in range(60)]
    done = threading.Event()

    def drip() -> None:
        for byte in said[:-1]:
            for peer in dripping:
                try:
                    peer.send(bytes([byte]))
                except OSError:
                    pass  # dropped meanwhile
            if done.wait(0.1):
                return

    dripper = threading.Thread(target=drip)
    dripper.start()
    try:
        for _ in range(5):
            health = connect_tls(running.address)
            health.get("/")
            assert health.read().status == 200
            health.close()
        everybody = [peer.sock for peer in silent + half + dripping]
        assert select.select(everybody, [], [], 0)[0] == []  # none was dropped by then
        wires = [connection.wire for connection in worker.connections.values()]
        until(lambda: sum(isinstance(wire, TlsWire) and wire._began for wire in wires) == 130)
        skip(worker, 60_000)
        for peer in silent + half + dripping:
            assert until_dropped(peer) == b""
    finally:
        done.set()
        dripper.join(PATIENCE)
    running.stop()
    told = lines(log)
    assert sum("TLS handshake failed: the client said nothing" in line for line in told) == 70
    assert sum("TLS handshake failed: it took too long" in line for line in told) == 130
    assert len(told) == 200


def test_a_handshake_counts_as_a_connection(
    start_tls: StartTls, connect: Connect, pki: Pki
) -> None:
    running = start_tls(fine, ServerConfig(max_connections=1), handshake_timeout_ms=10_000)
    worker = worker_of(running)
    silent = connect(running.address)
    waiting = connect(running.address)  # in the kernel, until the other is dropped
    until(lambda: worker.tally.accepted)
    skip(worker, 5_000)
    assert worker.tally.accepted == 1
    skip(worker, 5_000)
    peer = secure(waiting, pki.context())
    peer.get("/")
    assert peer.read().status == 200
    assert until_dropped(silent) == b""


def test_the_time_for_a_handshake_is_not_the_time_between_requests(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    running = start_tls(fine, handshake_timeout_ms=10_000)
    peer = connect_tls(running.address)
    peer.get("/")
    assert peer.read().status == 200
    skip(worker_of(running), 11_000)
    peer.get("/")
    assert peer.read().status == 200


def test_a_client_that_sends_on_after_a_refusal_is_cut_off(
    start_tls: StartTls, connect: Connect, log: pytest.LogCaptureFixture
) -> None:
    running = start_tls(fine)
    peer = connect(running.address)
    try:
        for _ in range(400):
            peer.send(b"\x16\x03\x01\x40\x00" + bytes(16384))
    except OSError:
        pass
    until_dropped(peer)
    running.stop()
    assert len(lines(log)) == 1


# -- clients that fail ----------------------------------------------------------------------


def test_plain_http_is_told_so(
    start_tls: StartTls, connect: Connect, log: pytest.LogCaptureFixture
) -> None:
    running = start_tls(fine)
    peer = connect(running.address)
    peer.get("/secret-path")
    reply = peer.read()
    assert reply.status == 400
    assert reply.get("connection") == "close"
    assert b"https://" in reply.body
    assert until_dropped(peer) == b""
    running.stop()
    (line,) = lines(log)
    assert "the client speaks plain HTTP" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    "garbage",
    [bytes(100), b"\xff" * 100, b"\x16\x03\x01\x00\x05hello", b"SSH-2.0-x\r\n", b"\x80\x2e\x01"],
    ids=["zeros", "ones", "a record of nonsense", "ssh", "SSL 2"],
)
def test_garbage_is_refused_with_one_line(
    start_tls: StartTls, connect: Connect, log: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    running = start_tls(fine, handshake_timeout_ms=300)
    peer = connect(running.address)
    peer.send(garbage)
    until_dropped(peer)
    running.stop()
    (line,) = lines(log)
    assert line.isprintable()
    assert "TLS handshake failed" in line


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"maximum_version": ssl.TLSVersion.TLSv1_1, "minimum_version": ssl.TLSVersion.TLSv1}, ""),
        ({"ciphers": "AES256-SHA", "maximum_version": ssl.TLSVersion.TLSv1_2}, "NO_SHARED_CIPHER"),
    ],
    ids=["an old version", "no cipher in common"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_client_with_nothing_in_common_gets_an_alert(
    start_tls: StartTls,
    connect: Connect,
    pki: Pki,
    log: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    reason: str,
) -> None:
    running = start_tls(fine)
    context = pki.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    for name, value in changes.items():
        if name == "ciphers":
            context.set_ciphers(value + ":@SECLEVEL=0")
        else:
            setattr(context, name, value)
    with pytest.raises(ssl.SSLError, match="ALERT"):
        secure(connect(running.address), context)
    running.stop()
    (line,) = lines(log)
    assert reason in line


def test_a_client_that_trusts_nobody_leaves_one_line(
    start_tls: StartTls, connect: Connect, pki: Pki, log: pytest.LogCaptureFixture
) -> None:
    running = start_tls(fine)
    with pytest.raises(ssl.SSLCertVerificationError):
        secure(connect(running.address), ssl.create_default_context(cafile=pki.stranger_bundle))
    deadline = time.monotonic() + PATIENCE
    while not lines(log):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.stop()
    (line,) = lines(log)
    assert "UNKNOWN_CA" in line


def test_a_client_that_leaves_amid_the_handshake_leaves_one_line(
    start_tls: StartTls, connect: Connect, pki: Pki, log: pytest.LogCaptureFixture
) -> None:
    running = start_tls(fine)
    peer = connect(running.address)
    peer.send(hello(pki)[:100])
    peer.finish_sending()
    assert until_dropped(peer) == b""
    running.stop()
    (line,) = lines(log)
    assert "the client went away" in line


def test_a_check_whether_the_port_is_open_leaves_none(
    start_tls: StartTls, connect: Connect, log: pytest.LogCaptureFixture
) -> None:
    running = start_tls(fine)
    peer = connect(running.address)
    peer.finish_sending()
    assert until_dropped(peer) == b""
    running.stop()
    assert lines(log) == []


def test_failed_handshakes_leave_nothing_behind(
    start_tls: StartTls, connect: Connect, connect_tls: ConnectTls
) -> None:
    running = start_tls(fine)
    for _ in range(50):
        peer = connect(running.address)
        peer.send(b"\x16\x03\x01\x00\x05hello")
        until_dropped(peer)
        peer.close()
    worker = running.server._crew.workers[0]
    deadline = time.monotonic() + PATIENCE
    while worker.connections:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert worker.reactor.registered_count() == 1  # the listener
    peer = connect_tls(running.address)
    peer.get("/")
    assert peer.read().status == 200


# -- clients that are slow, and get there ------------------------------------------------------


def test_a_hello_byte_by_byte(start_tls: StartTls, connect: Connect, pki: Pki) -> None:
    running = start_tls(fine)
    peer = connect(running.address)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = pki.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            for byte in outgoing.read():
                peer.send(bytes([byte]))
            incoming.write(peer.sock.recv(65536))
    client.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    for byte in outgoing.read():
        peer.send(bytes([byte]))
    incoming.write(until_dropped(peer))
    assert client.read(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_in_one_piece_with_the_end_of_the_handshake(
    start_tls: StartTls, connect: Connect, pki: Pki
) -> None:
    peer = connect(start_tls(fine).address)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = pki.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    peer.send(outgoing.read())
    incoming.write(peer.sock.recv(65536))
    client.do_handshake()
    client.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    peer.send(outgoing.read())  # our Finished, and the request behind it
    incoming.write(until_dropped(peer))
    assert client.read(65536).startswith(b"HTTP/1.1 200 OK\r\n")


# -- the end of the server ---------------------------------------------------------------------


def test_a_drain_does_not_wait_for_clients_that_say_nothing(
    start_tls: StartTls, connect: Connect, connect_tls: ConnectTls, pki: Pki
) -> None:
    running = start_tls(fine)
    silent, half, shaken = (
        connect(running.address),
        connect(running.address),
        connect_tls(running.address),
    )
    half.send(hello(pki)[:100])
    shaken.get("/")
    shaken.read()  # by then the others were accepted
    report = running.server.drain(int(PATIENCE * 1000))
    assert (report.drained, report.timed_out) == (3, 0)
    for peer in (silent, half):
        assert until_dropped(peer) == b""
    assert shaken.sock.recv(1) == b""


def test_a_request_in_progress_is_answered_before_the_end(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def handler(request: Request) -> Response:
        inside.set()
        assert go_on.wait(PATIENCE)
        return ok("done")

    running = start_tls(handler)
    peer = connect_tls(running.address)
    peer.get("/")
    assert inside.wait(PATIENCE)
    reports: list[Any] = []
    drain = threading.Thread(
        target=lambda: reports.append(running.server.drain(int(PATIENCE * 1000)))
    )
    drain.start()
    _until_refused(running)
    go_on.set()
    reply = peer.read()
    assert (reply.body, reply.get("connection")) == (b"done", "close")
    assert peer.sock.recv(1) == b""
    drain.join(PATIENCE)
    assert reports[0].timed_out == 0


def _until_refused(running: Running) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(running.address, timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- behind a proxy that begins with a PROXY header ----------------------------------------------


def behind_proxy(**changes: Any) -> ServerConfig:
    return ServerConfig(trusted_proxies=["127.0.0.1"], proxy_protocol=True, **changes)


def test_the_handshake_follows_the_proxy_header(
    start_tls: StartTls, connect: Connect, pki: Pki
) -> None:
    peer = connect(start_tls(fine, behind_proxy()).address)
    peer.send(PROXY)
    secure(peer, pki.context())
    peer.get("/")
    assert peer.read().body == b"192.0.2.1:56324 https"


def test_header_and_hello_may_come_in_one_piece(start: Start, connect: Connect, pki: Pki) -> None:
    peer = connect(start(fine, server=tls_server(pki, behind_proxy())).address)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = pki.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    peer.send(PROXY + outgoing.read())
    incoming.write(peer.sock.recv(65536))
    client.do_handshake()
    client.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    peer.send(outgoing.read())
    incoming.write(until_dropped(peer))
    assert client.read(65536).endswith(b"192.0.2.1:56324 https")


def test_a_failure_behind_a_proxy_names_the_client(
    start_tls: StartTls, connect: Connect, log: pytest.LogCaptureFixture
) -> None:
    running = start_tls(fine, behind_proxy())
    peer = connect(running.address)
    peer.send(PROXY + b"GET / HTTP/1.1\r\n\r\n")
    assert peer.read().status == 400
    running.stop()
    (line,) = lines(log)
    assert line.startswith("192.0.2.1:56324 is closed: TLS handshake failed")


def test_each_of_the_two_has_its_own_time(
    start_tls: StartTls, connect: Connect, log: pytest.LogCaptureFixture
) -> None:
    running = start_tls(fine, behind_proxy(header_timeout_ms=10_000), handshake_timeout_ms=20_000)
    worker = worker_of(running)
    without, silent = connect(running.address), connect(running.address)
    silent.send(PROXY)
    both = [ProxyWire, TlsWire]
    until(lambda: [type(each.wire) for each in worker.connections.values()] == both)
    skip(worker, 10_000)
    assert until_dropped(without) == b""
    skip(worker, 10_000)
    assert until_dropped(silent) == b""
    running.stop()
    assert [line.split(" is closed: ")[1] for line in lines(log)] == [
        "no PROXY header in time",
        "TLS handshake failed: the client said nothing",
    ]
    assert lines(log)[1].startswith(str(SocketAddr.parse("192.0.2.1:56324")))
