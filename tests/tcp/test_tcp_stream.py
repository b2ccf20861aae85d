from __future__ import annotations

import errno
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from flare.net import (
    AddressParseError,
    ConnectionRefused,
    ConnectionReset,
    NetworkError,
    SocketAddr,
)
from flare.tcp import TcpListener, TcpStream

LOOPBACKS = [SocketAddr.localhost(0), SocketAddr.localhost_v6(0)]


@pytest.fixture(params=LOOPBACKS, ids=str)
def listener(request: pytest.FixtureRequest) -> Iterator[TcpListener]:
    with TcpListener.bind(request.param) as listener:
        yield listener


def closed_port(addr: SocketAddr) -> SocketAddr:
    """An address nobody listens at, the port being one that was free a moment ago."""
    with TcpListener.bind(addr) as listener:
        return listener.local_addr()


def test_both_ends_know_both_addresses(listener: TcpListener) -> None:
    with TcpStream.connect(listener.local_addr()) as client, listener.accept() as server:
        assert client.peer_addr() == server.local_addr() == listener.local_addr()
        assert server.peer_addr() == client.local_addr()
        assert f"{client.local_addr()} -> {client.peer_addr()}" in repr(client)
    assert client.peer_addr() == listener.local_addr()
    assert repr(server) == "<TcpStream closed>"
    with pytest.raises(NetworkError) as caught:
        client.local_addr()
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    "connect",
    [
        TcpStream.connect,
        lambda addr: TcpStream.connect_timeout(addr, 5000),
        lambda addr: TcpStream.connect(str(addr.ip), addr.port),
        lambda addr: TcpStream.connect(str(addr.ip), addr.port, 5000),
        lambda addr: TcpStream.connect(host=str(addr.ip), port=addr.port, timeout_ms=5000),
    ],
    ids=["addr", "connect_timeout", "host", "host and timeout", "keywords"],
)
def test_every_way_to_connect_gives_a_blocking_stream_without_delay(
    listener: TcpListener, connect: object
) -> None:
    with connect(listener.local_addr()) as client, listener.accept() as server:  # type: ignore[operator]
        for stream in (client, server):
            sock = stream._raw.sock
            assert sock.gettimeout() is None
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        client.set_nodelay(False)
        client.set_keepalive(True)
        assert not client._raw.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client._raw.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(
    "connect",
    [TcpStream.connect, lambda addr: TcpStream.connect_timeout(addr, 5000)],
    ids=["addr", "connect_timeout"],
)
@pytest.mark.parametrize("addr", LOOPBACKS, ids=str)
def test_a_refused_connection_names_the_address(addr: SocketAddr, connect: object) -> None:
    target = closed_port(addr)
    with pytest.raises(ConnectionRefused) as caught:
        connect(target)  # type: ignore[operator]
    assert caught.value.addr == str(target)
    assert [str(attempt) for attempt in caught.value.attempts] == [str(caught.value)]  # type: ignore[attr-defined]


def test_a_port_that_is_text_is_told_so() -> None:
    with pytest.raises(AddressParseError, match=r"'127\.0\.0\.1:80': the port must be an int"):
        TcpStream.connect("127.0.0.1", "80")  # type: ignore[call-overload]


@pytest.mark.parametrize("timeout_ms", [0, -1, 2**31])
def test_a_connect_timeout_must_be_positive(timeout_ms: int) -> None:
    with pytest.raises(ValueError, match="timeout_ms"):
        TcpStream.connect_timeout(SocketAddr.localhost(1), timeout_ms)
    with pytest.raises(ValueError, match="timeout_ms"):
        TcpStream.connect("127.0.0.1", 1, timeout_ms)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("",), TypeError),
        ((), TypeError),
        ((SocketAddr.localhost(1), 80), TypeError),
        (("", 80), AddressParseError),
        (("[::1]", 80), AddressParseError),
        (("127.0.0.1", 65536), AddressParseError),
        (("127.0.0.1", -1), AddressParseError),
        (("a..b", 80), AddressParseError),
    ],
)
def test_targets_that_cannot_be(args: tuple[object, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        TcpStream.connect(*args)  # type: ignore[call-overload]


def test_a_reset_is_named(listener: TcpListener) -> None:
    with TcpStream.connect(listener.local_addr()) as client:
        server = listener.accept()
        server._raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        with pytest.raises(ConnectionReset) as caught:
            client.read()
        assert caught.value.addr == str(listener.local_addr())


def test_from_socket_takes_a_connected_socket(listener: TcpListener) -> None:
    sock = socket.create_connection(listener.local_addr().to_sockaddr()[:2])
    with TcpStream.from_socket(sock) as client, listener.accept() as server:
        assert client.peer_addr() == listener.local_addr()
        client.write_all(b"x")
        assert server.read() == b"x"
    sock = socket.create_connection(listener.local_addr().to_sockaddr()[:2])
    named = SocketAddr.localhost(1)
    with TcpStream.from_socket(sock, named) as client, listener.accept():
        assert client.peer_addr() == named


def test_from_socket_refuses_an_unconnected_socket() -> None:
    with pytest.raises(NetworkError) as caught:
        TcpStream.from_socket(socket.socket())
    assert caught.value.errno == errno.ENOTCONN


def test_a_socket_connected_to_itself_counts_as_refused() -> None:
    # Binding the client first makes sure of what the system does by chance.
    from flare.net import RawSocket
    from flare.tcp.connect import _finish

    with RawSocket(socket.AF_INET, socket.SOCK_STREAM) as raw:
        raw.sock.bind(("127.0.0.1", 0))
        raw.sock.connect(raw.sock.getsockname())
        assert _finish(raw) == errno.ECONNREFUSED


@pytest.mark.parametrize("action", [signal.SIG_IGN, signal.SIG_DFL])
def test_send_file_sends_a_part_of_a_file(listener, tmp_path, action) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    before = signal.signal(signal.SIGPIPE, action)
    try:
        with (
            TcpStream.connect(listener.local_addr()) as client,
            listener.accept() as server,
            path.open("rb") as file,
        ):
            assert client.send_file(file.fileno(), 2, 3) == 3
            assert client.send_file(file.fileno(), 8, 1000) == 2
            assert client.send_file(file.fileno(), 10, 1000) == 0
            assert file.tell() == 0
            assert server.read_exact(5) == b"23489"
            server.close()

            def send_on() -> None:
                while True:
                    client.send_file(file.fileno(), 0, 10)

            with pytest.raises(NetworkError):  # BrokenPipe or a reset, and no signal
                send_on()
            client.close()
            with pytest.raises(NetworkError) as caught:
                client.send_file(file.fileno(), 0, 10)
            assert caught.value.errno == errno.EBADF
    finally:
        signal.signal(signal.SIGPIPE, before)
