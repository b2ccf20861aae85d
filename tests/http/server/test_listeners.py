"""The listening sockets of several workers."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from serving import PATIENCE

from flare.errors import AddressInUse, ValidationError
from flare.http import Request, Response, ok
from flare.http.server import HttpServer, ServerConfig
from flare.http.server.listeners import WorkerListeners
from flare.net import IpAddr, SocketAddr
from flare.tcp import TcpListener

linux = pytest.mark.skipif(sys.platform != "linux", reason="one socket is shared elsewhere")


@pytest.fixture
def first() -> Iterator[TcpListener]:
    with TcpListener.bind(SocketAddr.localhost(0)) as listener:
        yield listener


def only(listeners: WorkerListeners, number: int) -> TcpListener:
    """The listener of a worker that has one."""
    (place,) = listeners.of_worker(number)
    assert isinstance(place.listener, TcpListener)
    return place.listener


def shares(listeners: list[TcpListener], count: int) -> list[int]:
    """How many of *count* connections wait at each, once all of them do."""
    found = [0] * len(listeners)
    deadline = time.monotonic() + PATIENCE
    while sum(found) < count:
        assert time.monotonic() < deadline, found
        found = [had + accepts(listener) for had, listener in zip(found, listeners, strict=True)]
    return found


def accepts(listener: TcpListener) -> int:
    """How many connections wait."""
    listener.set_nonblocking(True)
    count = 0
    while True:
        try:
            listener.accept().close()
        except OSError:
            return count
        count += 1


@linux
def test_each_worker_has_a_socket_of_its_own_on_the_port_of_the_first(first: TcpListener) -> None:
    listeners = WorkerListeners([first], 3, backlog=256, own=True)
    mine = [only(listeners, number) for number in range(3)]
    try:
        assert not listeners.of_worker(0)[0].shared
        assert mine[0] is first
        assert len({listener.fileno() for listener in mine}) == 3
        assert {listener.local_addr() for listener in mine} == {first.local_addr()}
        target = ("127.0.0.1", first.local_addr().port)
        for _ in range(100):
            socket.create_connection(target).close()
        counts = shares(mine, 100)
        assert sum(counts) == 100
        assert all(counts)
    finally:
        listeners.close()
    assert all(listener.closed for listener in mine)


def test_the_environment_asks_for_one_shared_socket(
    first: TcpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLARE_REUSEPORT_WORKERS", "0")
    listeners = WorkerListeners([first], 3, backlog=256, own=True)
    assert all(listeners.of_worker(number) == [(first, True)] for number in range(3))
    assert not first.closed
    listeners.close_all_but(1)
    assert not first.closed


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_where_the_option_does_not_balance_one_socket_is_shared(
    first: TcpListener, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert WorkerListeners([first], 2, backlog=256, own=True).of_worker(0)[0].shared


def test_a_socket_bound_by_somebody_else_is_shared(first: TcpListener) -> None:
    assert WorkerListeners([first], 2, backlog=256, own=False).of_worker(0)[0].shared


def test_one_worker_shares_nothing_and_opens_nothing(first: TcpListener) -> None:
    listeners = WorkerListeners([first], 1, backlog=256, own=True)
    assert listeners.of_worker(0) == [(first, False)]
    assert not _reuses_port(first)


@linux
def test_a_forked_worker_keeps_only_its_own(first: TcpListener) -> None:
    listeners = WorkerListeners([first], 3, backlog=256, own=True)
    listeners.close_all_but(1)
    assert [only(listeners, number).closed for number in range(3)] == [True, False, True]
    listeners.close()


def _reuses_port(listener: TcpListener) -> bool:
    with socket.socket(fileno=socket.dup(listener.fileno())) as sock:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


@linux
def test_a_second_server_finds_the_port_busy_before_and_while_workers_share_it(
    first: TcpListener,
) -> None:
    addr = first.local_addr()
    with pytest.raises(AddressInUse):
        HttpServer.bind(addr)
    listeners = WorkerListeners([first], 2, backlog=256, own=True)
    try:
        with pytest.raises(AddressInUse):
            HttpServer.bind(addr)
    finally:
        listeners.close()


@linux
def test_both_families_at_once_are_shared_out_too() -> None:
    try:
        first = TcpListener.bind(SocketAddr(IpAddr.unspecified_v6(), 0))
    except OSError:
        pytest.skip("no IPv6 here")
    listeners = WorkerListeners([first], 2, backlog=256, own=True)
    try:
        target = ("127.0.0.1", first.local_addr().port)
        for _ in range(100):
            socket.create_connection(target).close()
        counts = shares([only(listeners, number) for number in range(2)], 100)
        assert sum(counts) == 100
        assert all(counts)
    finally:
        listeners.close()


@pytest.mark.parametrize("shared", ["0", "1"])
def test_workers_that_are_threads_listen_the_same_way(
    monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    monkeypatch.setenv("FLARE_REUSEPORT_WORKERS", shared)
    server = HttpServer.bind(SocketAddr.localhost(0))
    target = ("127.0.0.1", server.local_addr().port)
    thread = threading.Thread(
        target=lambda: server.serve(lambda _: ok("x"), 3, worker_kind="thread")
    )
    thread.start()
    for _ in range(20):
        with socket.create_connection(target, PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    server.close()
    thread.join(PATIENCE)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(target)


def test_workers_that_are_threads_get_copies_of_a_handler_that_can_be_copied() -> None:
    class Copied:
        copies = 0

        def copy(self) -> Copied:
            Copied.copies += 1
            return Copied()

        def serve(self, _: Request) -> Response:
            return ok()

    server = HttpServer.bind(SocketAddr.localhost(0))
    server.config.on_worker_start = server.close
    server.serve(Copied(), 3, worker_kind="thread")
    assert Copied.copies == 2


def test_the_backlog_is_the_configured_one() -> None:
    with pytest.raises(ValidationError, match="backlog"):
        ServerConfig(backlog=0).validate()
    with HttpServer.bind(SocketAddr.localhost(0), ServerConfig(backlog=1)) as server:
        target = ("127.0.0.1", server.local_addr().port)
        waiting = [socket.socket() for _ in range(8)]
        try:
            for sock in waiting:
                sock.settimeout(0.05)
                sock.connect_ex(target)
            connected = 0
            for sock in waiting:
                try:
                    sock.getpeername()
                    connected += 1
                except OSError:
                    pass
            assert connected < 8
        finally:
            for sock in waiting:
                sock.close()
