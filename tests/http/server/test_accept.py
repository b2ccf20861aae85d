"""Taking connections: shortages, limits, and connections that are gone before they are taken."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from dispatching import ask, worker_of
from serving import PATIENCE, Connect, Start

from flare.errors import AddressInUse, NetworkError, ValidationError
from flare.http import Request, Response, ok
from flare.http.server import HttpServer, ServerConfig
from flare.http.server.doors import _Listener
from flare.net import SocketAddr

# Fills the process with descriptors up to its limit, has clients wait meanwhile, and says how
# much processor time the server took for waiting.
SHORTAGE = """
import json, logging, os, resource, socket, sys, tempfile, threading, time
from pathlib import Path
from flare.http import HttpServer, ok
from flare.net import SocketAddr

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
folder = tempfile.TemporaryDirectory()
unix = [Path(folder.name) / "s"] if sys.argv[1] == "several" else []
server = HttpServer.bind_many([SocketAddr.localhost(0), *unix])
address = "127.0.0.1", server.local_addr().port
thread = threading.Thread(target=server.serve, args=(lambda request: ok("hello"),))
thread.start()

class Told(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), file=sys.stderr)
        short.set()

short = threading.Event()
logging.getLogger("flare.error").addHandler(Told())

def ask(sock):
    sock.settimeout(20)
    sock.sendall(b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
    return sock.recv(4096).startswith(b"HTTP/1.1 200")

first = socket.create_connection(address)
served = [ask(first)]
clients = [socket.socket() for _ in range(5)]
locals = [socket.socket(socket.AF_UNIX) for _ in unix * 5]
fillers = []
try:
    while True:
        fillers.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for client in clients:
    client.connect(address)
for client in locals:
    client.connect(str(unix[0]))
short.wait(20)
before = time.process_time()
time.sleep(0.35)
busy = time.process_time() - before
served.append(ask(first))  # who is in is served
for filler in fillers:
    os.close(filler)
served += [ask(client) for client in clients + locals]
server.close()
thread.join(10)
for sock in (first, *clients, *locals):
    sock.close()
print(json.dumps({"served": served, "busy": busy}))
"""


def hello(request: Request) -> Response:
    return ok("hello")


@pytest.mark.parametrize(("listeners", "served"), [("one", 7), ("several", 12)])
def test_without_descriptors_the_server_waits_in_peace_and_recovers(
    listeners: str, served: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORTAGE, listeners],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    found = json.loads(done.stdout)
    assert found["served"] == [True] * served
    assert found["busy"] < 0.2, "it span"
    assert "cannot accept for now" in done.stderr
    assert len(done.stderr.splitlines()) < 10


def test_past_max_connections_clients_wait_for_a_place(start: Start, connect: Connect) -> None:
    running = start(hello, ServerConfig(max_connections=2))
    first, second, third = (connect(running.address) for _ in range(3))
    for peer in (first, second):
        peer.get("/")
        assert peer.read().status == 200
    third.get("/")
    third.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        third._more()
    third.sock.settimeout(PATIENCE)
    first.close()
    assert third.read().status == 200


def test_the_limit_is_of_all_addresses_together(
    tmp_path_factory: pytest.TempPathFactory, start: Start, connect: Connect
) -> None:
    path = tmp_path_factory.mktemp("s") / "s"
    config = ServerConfig(max_connections=1)
    server = HttpServer.bind_many([SocketAddr.localhost(0), path, SocketAddr.localhost(0)], config)
    running = start(hello, server=server)
    waiting = [connect(address) for address in running.addresses * 3]
    for peer in waiting:
        peer.get("/", "Connection: close")
    for peer in waiting:
        assert peer.read().status == 200
        peer.close()
    first = connect(running.addresses[0])
    first.get()
    assert first.read().status == 200
    second = connect(running.addresses[1])
    second.get()
    second.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        second._more()
    second.sock.settimeout(PATIENCE)
    first.close()
    assert second.read().status == 200


def test_a_server_at_its_limit_serves_wave_after_wave(start: Start, connect: Connect) -> None:
    running = start(hello, ServerConfig(max_connections=1))
    waiting = [connect(running.address) for _ in range(10)]
    for peer in waiting:
        peer.get("/", "Connection: close")
    for peer in waiting:
        assert peer.read().status == 200
        peer.close()


def test_a_server_at_its_limit_can_be_drained(start: Start, connect: Connect) -> None:
    running = start(hello, ServerConfig(max_connections=1))
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    connect(running.address)
    assert running.server.drain(5000).drained == 1
    running.join()


def test_connections_send_small_segments_at_once(start: Start, connect: Connect) -> None:
    running = start(hello)
    peer = connect(running.address)
    assert ask(peer, "/")
    [connection] = worker_of(running).connections.values()
    with socket.socket(fileno=os.dup(connection.raw.fileno())) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "code", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EPERM]
)
def test_a_connection_lost_before_it_is_taken_is_skipped(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failed = threading.Event()
    accept = _Listener.accept

    def failing(self: _Listener) -> object:
        if not failed.is_set():
            failed.set()
            raise OSError(code, "lost")
        return accept(self)

    monkeypatch.setattr(_Listener, "accept", failing)
    # On io_uring nobody calls accept.
    peer = connect(start(hello, ServerConfig(use_bufring=False)).address)
    peer.get("/")
    assert peer.read().status == 200
    assert failed.is_set()


def test_a_listener_that_fails_ends_serve_with_its_error(
    start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: _Listener) -> object:
        raise OSError(errno.EBADF, "broken")

    monkeypatch.setattr(_Listener, "accept", failing)
    running = start(hello, ServerConfig(use_bufring=False))
    with suppress(ConnectionError):
        connect(running.address)
    running.join()
    error, running.error = running.error, None
    assert isinstance(error, NetworkError)
    assert error.errno == errno.EBADF


def test_connections_reset_before_they_are_taken_harm_nobody(
    start: Start, connect: Connect
) -> None:
    running = start(hello)
    for _ in range(50):
        peer = connect(running.address)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.send(b"GET / HTTP/1.1\r\n")
        peer.close()
    peer = connect(running.address)
    peer.get("/")
    assert peer.read().status == 200


def test_a_hundred_clients_at_once_are_served(start: Start, connect: Connect) -> None:
    running = start(hello)
    peers = [connect(running.address) for _ in range(100)]
    for peer in peers:
        peer.get("/")
    assert {peer.read().body for peer in peers} == {b"hello"}


def test_a_server_of_several_addresses_serves_at_each(connect: Connect) -> None:
    server = HttpServer.bind_many([SocketAddr.localhost(0) for _ in range(3)])
    ports = [address.port for address in server.local_addrs()]
    assert server.local_addr().port == ports[0]
    assert len(set(ports)) == 3
    thread = threading.Thread(target=server.serve, args=(hello,))
    thread.start()
    try:
        for port in ports:
            peer = connect(("127.0.0.1", port))
            peer.get("/")
            assert peer.read().body == b"hello"
    finally:
        server.close()
        thread.join(PATIENCE)


def test_bind_many_is_all_or_nothing() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as taken:
        free = HttpServer.bind(SocketAddr.localhost(0))
        address = free.local_addr()
        free.close()
        with pytest.raises(AddressInUse):
            HttpServer.bind_many([address, taken.local_addr()])
        HttpServer.bind(address).close()
    with pytest.raises(ValidationError, match="addrs"):
        HttpServer.bind_many([])


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(NetworkError):
        HttpServer.bind(SocketAddr.parse("192.0.2.1:0"))


def test_ipv6_clients_are_served(connect: Connect) -> None:
    seen = []
    try:
        server = HttpServer.bind(SocketAddr.parse("[::1]:0"))
    except NetworkError:
        pytest.skip("no IPv6 here")
    thread = threading.Thread(
        target=server.serve, args=(lambda request: seen.append(request.peer) or ok(),)
    )
    thread.start()
    try:
        with socket.create_connection(("::1", server.local_addr().port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            sock.settimeout(PATIENCE)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
            assert seen[0].port == sock.getsockname()[1]
            assert str(seen[0].ip) == "::1"
    finally:
        server.close()
        thread.join(PATIENCE)
