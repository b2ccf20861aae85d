from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from flare.net import AddressInUse, NetworkError, SocketAddr, Timeout
from flare.tcp import TcpListener, TcpStream, accept_fd

DEADLINE = 10.0
LOOPBACKS = [SocketAddr.localhost(0), SocketAddr.localhost_v6(0)]


@pytest.fixture(params=LOOPBACKS, ids=str)
def listener(request: pytest.FixtureRequest) -> Iterator[TcpListener]:
    with TcpListener.bind(request.param) as listener:
        yield listener


@contextmanager
def meeting(listener: TcpListener) -> Iterator[tuple[TcpStream, TcpStream]]:
    addr = SocketAddr(listener.local_addr().ip, listener.local_addr().port)
    with TcpStream.connect(addr) as client, listener.accept() as server:
        yield client, server


def test_local_addr_has_the_real_port_and_survives_close(listener: TcpListener) -> None:
    addr = listener.local_addr()
    assert addr.port > 0
    listener.close()
    assert listener.local_addr() == addr
    assert repr(listener) == f"<TcpListener closed {addr}>"


def test_a_second_listener_on_the_port_is_refused(listener: TcpListener) -> None:
    with pytest.raises(AddressInUse) as caught:
        TcpListener.bind(listener.local_addr())
    assert caught.value.addr == str(listener.local_addr())
    with pytest.raises(AddressInUse):
        TcpListener.bind_with_options(listener.local_addr(), reuse_port=True)


def test_listeners_that_say_so_share_a_port() -> None:
    with (
        TcpListener.bind_with_options(SocketAddr.localhost(0), reuse_port=True) as one,
        TcpListener.bind_with_options(one.local_addr(), reuse_port=True) as other,
    ):
        assert one.local_addr() == other.local_addr()


def test_a_port_can_be_bound_again_at_once(listener: TcpListener) -> None:
    with meeting(listener) as (client, server):
        server.close()  # this end closes first, so its side of the connection lingers
        assert client.read() == b""
    listener.close()
    TcpListener.bind(listener.local_addr()).close()


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(NetworkError) as caught:
        TcpListener.bind(SocketAddr("192.0.2.1", 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert "192.0.2.1:0" in str(caught.value)


def test_a_negative_backlog_is_refused() -> None:
    with pytest.raises(ValueError, match="backlog"):
        TcpListener.bind_with_options(SocketAddr.localhost(0), backlog=-1)


def test_a_listener_on_every_address_takes_both_families() -> None:
    with TcpListener.bind(SocketAddr.unspecified_v6(0)) as listener:
        port = listener.local_addr().port
        for target in (SocketAddr.localhost(port), SocketAddr.localhost_v6(port)):
            with TcpStream.connect(target), listener.accept() as server:
                assert server.peer_addr().ip.is_v6()
                assert server.peer_addr().ip.is_loopback()
                assert server.peer_addr().ip.unmap() == target.ip


def test_an_empty_non_blocking_listener_raises_plain_eagain(listener: TcpListener) -> None:
    listener.set_nonblocking(True)
    with pytest.raises(NetworkError) as caught:
        listener.accept()
    assert type(caught.value) is NetworkError
    assert not isinstance(caught.value, Timeout)
    assert caught.value.errno == errno.EAGAIN
    with TcpStream.connect(listener.local_addr()):
        listener.set_nonblocking(False)
        with listener.accept() as server:
            assert os.get_blocking(server.fileno())


def test_accepted_streams_block_and_are_not_inherited(listener: TcpListener) -> None:
    socket.setdefaulttimeout(5)
    try:
        with meeting(listener) as (_, server):
            assert os.get_blocking(server.fileno())
            assert not os.get_inheritable(server.fileno())
            assert not os.get_inheritable(listener.fileno())
    finally:
        socket.setdefaulttimeout(None)


def test_close_wakes_a_thread_in_accept(listener: TcpListener) -> None:
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(listener.accept) for _ in range(3)]
        number = listener.fileno()
        listener.close()
        for future in waiting:
            error = future.exception(DEADLINE)
            assert isinstance(error, NetworkError)
            assert error.errno == errno.EBADF
    with pytest.raises(OSError):
        os.fstat(number)


def test_iteration_ends_when_the_listener_is_closed(listener: TcpListener) -> None:
    served = threading.Semaphore(0)
    ended = threading.Event()

    def serve() -> None:
        for stream in listener:
            with stream:
                stream.write_all(b"hello")
            served.release()
        ended.set()

    with ThreadPoolExecutor() as threads:
        serving = threads.submit(serve)
        for _ in range(3):
            with TcpStream.connect(listener.local_addr()) as client:
                assert client.read_exact(5) == b"hello"
            assert served.acquire(timeout=DEADLINE)
        listener.close()
        serving.result(DEADLINE)
    assert ended.is_set()
    assert list(listener) == []


def test_iteration_does_not_hide_other_errors(listener: TcpListener) -> None:
    listener.set_nonblocking(True)
    with pytest.raises(NetworkError) as caught:
        next(iter(listener))
    assert caught.value.errno == errno.EAGAIN


def test_closing_a_duplicate_leaves_the_other_listening(listener: TcpListener) -> None:
    # As after a fork, where the child closes its copy.
    TcpListener.from_fd(os.dup(listener.fileno())).close()
    with meeting(listener):
        pass


@pytest.mark.parametrize("default_timeout", [None, 5.0])
def test_accept_fd_borrows(listener: TcpListener, default_timeout: float | None) -> None:
    socket.setdefaulttimeout(default_timeout)
    try:
        for _ in range(2):
            with (
                TcpStream.connect(listener.local_addr()) as client,
                accept_fd(listener.as_raw_fd()) as server,
            ):
                assert server.peer_addr() == client.local_addr()
            assert os.get_blocking(listener.fileno())
    finally:
        socket.setdefaulttimeout(None)
    listener.set_nonblocking(True)
    with pytest.raises(NetworkError) as caught:
        accept_fd(listener.fileno())
    assert caught.value.errno == errno.EAGAIN
    assert not os.get_blocking(listener.fileno())


def test_accept_fd_of_a_bad_descriptor() -> None:
    with pytest.raises(NetworkError) as caught:
        accept_fd(-1)
    assert caught.value.errno == errno.EBADF


def test_from_fd_takes_a_listening_socket() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    addr = SocketAddr.from_sockaddr(sock.getsockname())
    with TcpListener.from_fd(sock.detach()) as listener:
        assert listener.local_addr() == addr
        with meeting(listener):
            pass


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_from_fd_refuses_other_sockets_and_leaves_them_open(family: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        with pytest.raises(ValueError, match="fd"):
            TcpListener.from_fd(sock.fileno())
        os.fstat(sock.fileno())


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("127.0.0.1:0", r"not str: SocketAddr\.parse\('127\.0\.0\.1:0'\)"),
        (("127.0.0.1", 0), r"not tuple: SocketAddr\('127\.0\.0\.1', 0\)"),
        (8080, "not int"),
    ],
)
def test_what_is_no_address_is_told_how_to_become_one(given: object, advice: str) -> None:
    for call in (TcpListener.bind, lambda addr: TcpStream.connect_timeout(addr, 1000)):
        with pytest.raises(TypeError, match=f"an address is a SocketAddr, {advice}"):
            call(given)


def test_close_is_idempotent_and_with_closes(listener: TcpListener) -> None:
    with listener as entered:
        assert entered is listener
    listener.close()
    assert listener.closed
    assert listener.fileno() == listener.as_raw_fd() == -1
    for operation in (listener.accept, lambda: listener.set_nonblocking(True)):
        with pytest.raises(NetworkError) as caught:
            operation()
        assert caught.value.errno == errno.EBADF


def test_a_leaked_listener_warns_and_closes() -> None:
    leaked = [TcpListener.bind(SocketAddr.localhost(0))]
    number = leaked[0].fileno()
    with pytest.warns(ResourceWarning, match="unclosed <TcpListener"):
        leaked.clear()
    with pytest.raises(OSError):
        os.fstat(number)
