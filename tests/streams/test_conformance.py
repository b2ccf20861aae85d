"""The promises of streams, kept by every kind there is. A new kind is one line in ``KINDS``."""

from __future__ import annotations

import functools
import os
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from flare.net import SocketAddr
from flare.tcp import TcpListener, TcpStream
from flare.testing.memory import MemoryStream

pytest.register_assert_rewrite("conformance")
from conformance import StreamConformance  # noqa: E402


def tcp_pair(addr: SocketAddr) -> tuple[TcpStream, TcpStream]:
    with TcpListener.bind(addr) as listener:
        return TcpStream.connect(listener.local_addr()), listener.accept()


def unix_pair() -> Any:
    from flare.uds import UnixStream

    return UnixStream.pair()


@functools.cache
def tls_sides() -> tuple[Any, Any]:
    """An acceptor for localhost, and the configuration of a client that trusts it."""
    import trustme

    from flare.tls import TlsAcceptor, TlsConfig, TlsServerConfig

    ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server = ca.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    with ca.cert_pem.tempfile() as bundle, server.private_key_and_cert_chain_pem.tempfile() as pem:
        config = TlsConfig(ssl_context=ssl.create_default_context(cafile=bundle))
        return TlsAcceptor(TlsServerConfig(pem)), config


def tls_over(one: Any, other: Any) -> tuple[Any, Any]:
    from flare.tls import TlsStream

    acceptor, config = tls_sides()
    accepted: list[Any] = []
    server = threading.Thread(target=lambda: accepted.append(acceptor.handshake(other)[0]))
    server.start()
    client = TlsStream.connect_over_tcp(one, "localhost", config)
    server.join()
    return client, accepted[0]


def tls_pair() -> tuple[Any, Any]:
    return tls_over(*tcp_pair(SocketAddr.localhost(0)))


KINDS: dict[str, Callable[[], Any]] = {
    "tcp4": lambda: tcp_pair(SocketAddr.localhost(0)),
    "tcp6": lambda: tcp_pair(SocketAddr.localhost_v6(0)),
    "unix": unix_pair,
    "tls": tls_pair,
    "tls from the server": lambda: tls_pair()[::-1],
    "tls in tls": lambda: tls_over(*tls_pair()),
    "memory": MemoryStream.pair,
}
SOCKETS = ["tcp4", "tcp6", "unix"]


class TestEveryStream(StreamConformance):
    @pytest.fixture(params=KINDS)
    def make_pair(self, request: pytest.FixtureRequest) -> Callable[[], Any]:
        return KINDS[request.param]


@pytest.fixture(params=SOCKETS)
def sockets(request: pytest.FixtureRequest) -> Any:
    one, other = KINDS[request.param]()
    with one, other:
        yield one, other


def test_fileno_is_the_descriptor(sockets: Any) -> None:
    one, other = sockets
    assert one.fileno() == one.as_raw_fd() >= 0
    assert os.write(one.fileno(), b"raw") == 3
    assert other.read() == b"raw"


def test_descriptors_are_not_inherited(sockets: Any) -> None:
    assert not any(os.get_inheritable(stream.fileno()) for stream in sockets)


def test_close_leaves_a_shared_socket_connected(sockets: Any) -> None:
    # A duplicate shares the socket just as a forked process does.
    one, other = sockets
    shared = os.dup(one.fileno())
    try:
        one.close()
        os.write(shared, b"from the child")
        assert other.read_exact(14) == b"from the child"
    finally:
        os.close(shared)


def test_close_frees_the_descriptor_at_once(sockets: Any) -> None:
    one, _ = sockets
    number = one.fileno()
    one.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
