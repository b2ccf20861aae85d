from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from flare.errors import ValidationError
from flare.net import NetworkError, RawSocket, SocketAddr
from flare.net.raw_socket import MAX_TIMEOUT_MS

TCP4 = (socket.AF_INET, socket.SOCK_STREAM)


@pytest.fixture
def raw() -> Iterator[RawSocket]:
    with RawSocket(*TCP4) as raw:
        yield raw


def option(raw: RawSocket, level: int, name: int) -> int:
    return raw.sock.getsockopt(level, name)


@pytest.mark.parametrize(
    ("setter", "level", "name"),
    [
        ("set_reuse_addr", socket.SOL_SOCKET, socket.SO_REUSEADDR),
        ("set_reuse_port", socket.SOL_SOCKET, socket.SO_REUSEPORT),
        ("set_keepalive", socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        ("set_tcp_nodelay", socket.IPPROTO_TCP, socket.TCP_NODELAY),
        ("set_broadcast", socket.SOL_SOCKET, socket.SO_BROADCAST),
    ],
)
def test_switches(raw: RawSocket, setter: str, level: int, name: int) -> None:
    assert not option(raw, level, name)
    getattr(raw, setter)(True)
    assert option(raw, level, name)
    getattr(raw, setter)(False)
    assert not option(raw, level, name)


def test_v6only() -> None:
    with RawSocket(socket.AF_INET6, socket.SOCK_STREAM) as raw:
        for enabled in (True, False):
            raw.set_v6only(enabled)
            assert option(raw, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == enabled


def test_buffer_sizes_are_requests(raw: RawSocket) -> None:
    raw.set_recv_buffer(32768)
    raw.set_send_buffer(32768)
    assert option(raw, socket.SOL_SOCKET, socket.SO_RCVBUF) > 0
    assert option(raw, socket.SOL_SOCKET, socket.SO_SNDBUF) > 0


def test_options_that_do_not_fit_are_network_errors() -> None:
    one, other = socket.socketpair()
    with other, RawSocket.from_socket(one) as raw, pytest.raises(NetworkError) as caught:
        raw.set_tcp_nodelay(True)
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.ENOPROTOOPT)


@pytest.mark.parametrize("ms", [-1, MAX_TIMEOUT_MS + 1, 10**30])
def test_timeouts_out_of_range_are_value_errors(raw: RawSocket, ms: int) -> None:
    for setter in (raw.set_recv_timeout, raw.set_send_timeout):
        with pytest.raises(ValueError):
            setter(ms)


@pytest.mark.parametrize("ms", [0.5, 1500.0, "1", None])
def test_timeouts_are_whole_milliseconds(raw: RawSocket, ms: Any) -> None:
    for setter in (raw.set_recv_timeout, raw.set_send_timeout):
        with pytest.raises(ValidationError, match="whole milliseconds"):
            setter(ms)


def test_the_longest_timeout_is_taken(raw: RawSocket) -> None:
    raw.set_recv_timeout(MAX_TIMEOUT_MS)
    assert raw.recv_timeout_ms == MAX_TIMEOUT_MS


def test_the_same_timeout_again_costs_no_system_call(raw: RawSocket) -> None:
    calls = []

    class Counting:
        def setsockopt(self, *args: object) -> None:
            calls.append(args)

    sock, raw.sock = raw.sock, Counting()  # type: ignore[assignment]
    try:
        for ms in (0, 250, 250, 1500, 1500, 0):
            raw.set_recv_timeout(ms)
    finally:
        raw.sock = sock
    assert len(calls) == 3


def test_an_unconnected_socket_has_no_peer(raw: RawSocket) -> None:
    with pytest.raises(NetworkError) as caught:
        raw.peer_addr()
    assert caught.value.errno == errno.ENOTCONN
    assert raw.local_addr() == SocketAddr.unspecified(0)


def test_it_is_blocking_whatever_the_default_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    socket.setdefaulttimeout(3)
    try:
        with RawSocket(*TCP4) as raw:
            assert raw.sock.gettimeout() is None
            assert os.get_blocking(raw.fd)
    finally:
        socket.setdefaulttimeout(None)


def test_descriptors_are_not_inherited(raw: RawSocket) -> None:
    assert not os.get_inheritable(raw.fd)


def test_set_nonblocking(raw: RawSocket) -> None:
    raw.set_nonblocking(True)
    assert not os.get_blocking(raw.fd)
    raw.set_nonblocking(False)
    assert os.get_blocking(raw.fd)


def test_close_is_idempotent_and_final(raw: RawSocket) -> None:
    number = raw.fd
    assert raw.fileno() == number
    raw.close()
    raw.close()
    assert raw.closed
    assert raw.fd == raw.fileno() == -1
    assert repr(raw) == "<RawSocket closed>"
    with pytest.raises(OSError):
        os.fstat(number)
    for operation in (
        raw.local_addr,
        raw.peer_addr,
        raw.detach,
        raw.accept,
        lambda: raw.set_keepalive(True),
        lambda: raw.set_recv_timeout(0),
        lambda: raw.set_nonblocking(True),
    ):
        with pytest.raises(NetworkError) as caught:
            operation()
        assert caught.value.errno == errno.EBADF


def test_a_leaked_socket_warns_and_closes() -> None:
    leaked = [RawSocket(*TCP4)]
    number = leaked[0].fd
    with pytest.warns(ResourceWarning, match="unclosed <RawSocket fd="):
        leaked.clear()
    with pytest.raises(OSError):
        os.fstat(number)


def test_detach_gives_the_descriptor_away(raw: RawSocket) -> None:
    number = raw.detach()
    assert raw.closed
    os.close(number)


@pytest.mark.parametrize("blocking", [True, False])
def test_from_fd_owns_the_descriptor_and_keeps_its_mode(blocking: bool) -> None:
    with socket.socket(*TCP4) as sock:
        sock.setblocking(blocking)
        number = sock.detach()
    with RawSocket.from_fd(number) as raw:
        assert raw.fd == number
        assert (raw.family, raw.kind) == TCP4
        assert raw.sock.getblocking() == os.get_blocking(number) == blocking
    with pytest.raises(OSError):
        os.fstat(number)


def test_from_fd_refuses_what_is_no_socket() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(NetworkError) as caught:
            RawSocket.from_fd(reader)
        assert caught.value.errno == errno.ENOTSOCK
        os.fstat(reader)
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(NetworkError) as caught:
        RawSocket.from_fd(reader)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("timeout", "blocking", "ms"), [(None, True, 0), (0, False, 0), (0.25, True, 250)]
)
def test_from_socket_takes_the_descriptor_and_the_mode(
    timeout: float | None, blocking: bool, ms: int
) -> None:
    sock = socket.socket(*TCP4)
    sock.settimeout(timeout)
    number = sock.fileno()
    with RawSocket.from_socket(sock) as raw:
        assert sock.fileno() == -1
        assert raw.fd == number
        assert os.get_blocking(number) == blocking
        assert raw.recv_timeout_ms == raw.send_timeout_ms == ms


def test_from_socket_refuses_closed_and_wrapped_sockets() -> None:
    sock = socket.socket(*TCP4)
    sock.close()
    with pytest.raises(NetworkError) as caught:
        RawSocket.from_socket(sock)
    assert caught.value.errno == errno.EBADF
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with (
        context.wrap_socket(socket.socket(*TCP4), server_hostname="x") as wrapped,
        pytest.raises(ValueError, match="SSLSocket"),
    ):
        RawSocket.from_socket(wrapped)


def test_families_the_system_lacks_are_network_errors() -> None:
    with pytest.raises(NetworkError) as caught:
        RawSocket(9999, socket.SOCK_STREAM)
    assert caught.value.errno in (errno.EAFNOSUPPORT, errno.EINVAL)


def test_aborted_connections_are_skipped_by_accept(raw: RawSocket) -> None:
    outcomes = [OSError(errno.ECONNABORTED, "gone"), OSError(errno.EMFILE, "full")]

    class Flaky:
        def _accept(self) -> object:
            raise outcomes.pop(0)

    sock, raw.sock = raw.sock, Flaky()  # type: ignore[assignment]
    try:
        with pytest.raises(NetworkError) as caught:
            raw.accept()
    finally:
        raw.sock = sock
    assert type(caught.value) is NetworkError
    assert caught.value.errno == errno.EMFILE
