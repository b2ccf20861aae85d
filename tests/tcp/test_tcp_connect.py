"""Happy eyeballs on loopback; names resolve to whatever a test says."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from flare.errors import IoError
from flare.net import (
    ConnectionRefused,
    ConnectionTimeout,
    DnsError,
    IpAddr,
    NetworkError,
    RawSocket,
    SocketAddr,
)
from flare.tcp import TcpStream, connect
from flare.utils import pool

DEADLINE = 10.0


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let every name resolve to the given addresses, in this order."""

    def answer(*ips: str) -> None:
        def getaddrinfo(*args: object) -> list[Any]:
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, 0, 0, 0))
                if ":" in ip
                else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 0))
                for ip in ips
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return answer


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "ATTEMPT_DELAY_MS", 10)


@contextmanager
def listening(ip: str) -> Iterator[socket.socket]:
    with reserved(ip) as (_, (sock,)):
        sock.listen()
        yield sock


@contextmanager
def filled(server: socket.socket) -> Iterator[None]:
    """Make a bound socket answer nobody: its queue is full and stays so."""
    server.listen(0)
    with ExitStack() as stack:
        for _ in range(64):
            filler = stack.enter_context(socket.socket(server.family, socket.SOCK_STREAM))
            filler.settimeout(0.05)
            try:
                filler.connect(server.getsockname())
            except TimeoutError:
                break
        else:
            pytest.skip("this system's listen queue does not fill up")
        yield


@contextmanager
def black_hole(ip: str) -> Iterator[int]:
    """A port that answers nobody."""
    with reserved(ip) as (port, (server,)), filled(server):
        yield port


@contextmanager
def reserved(*ips: str) -> Iterator[tuple[int, list[socket.socket]]]:
    """One port bound, and not listening, at each of *ips*."""
    for _ in range(50):
        with ExitStack() as stack:
            socks: list[socket.socket] = []
            port = 0
            try:
                for ip in ips:
                    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
                    sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                    sock.bind((ip, port))
                    port = sock.getsockname()[1]
                    socks.append(sock)
            except OSError:
                continue
            yield port, socks
            return
    pytest.fail("no port is free at all of these addresses")


def test_v6_refused_v4_alive(names: Callable[..., None]) -> None:
    names("::1", "127.0.0.1")
    with reserved("::1", "127.0.0.1") as (port, (_, v4)):
        v4.listen()
        with TcpStream.connect("two.test", port) as stream:
            assert stream.peer_addr() == SocketAddr.localhost(port)


def test_v6_silent_v4_alive(names: Callable[..., None], quick: None) -> None:
    names("127.0.0.1", "::1")
    with reserved("127.0.0.1", "::1") as (port, (v4, v6)):
        v4.listen()
        with filled(v6), TcpStream.connect("two.test", port) as stream:
            assert stream.peer_addr() == SocketAddr.localhost(port)


def test_v6_is_tried_first(names: Callable[..., None]) -> None:
    names("127.0.0.1", "::1")
    with reserved("127.0.0.1", "::1") as (port, socks):
        for sock in socks:
            sock.listen()
        with TcpStream.connect("two.test", port) as stream:
            assert stream.peer_addr() == SocketAddr.localhost_v6(port)


def test_a_later_address_wins_and_the_losers_are_closed(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[RawSocket] = []

    class Recorded(RawSocket):
        def __init__(self, family: int, kind: int) -> None:
            super().__init__(family, kind)
            opened.append(self)

    monkeypatch.setattr(connect, "RawSocket", Recorded)
    with (
        black_hole("127.0.0.1") as silent,
        black_hole("::1") as silent6,
        reserved("::1") as (dead, _),
        listening("127.0.0.1") as server,
    ):
        alive = SocketAddr.from_sockaddr(server.getsockname())
        addrs = [
            SocketAddr.localhost(silent),
            SocketAddr.localhost_v6(dead),
            SocketAddr.localhost_v6(silent6),
            alive,
        ]
        raw, winner = connect.connect_any(addrs, 0, "four")
        with raw:
            assert winner == alive
            assert [sock.closed for sock in opened] == [True, True, True, False]
            assert raw.sock.gettimeout() is None


def test_all_refused_is_refused_with_the_attempts(names: Callable[..., None]) -> None:
    names("127.0.0.1", "::1")
    with reserved("127.0.0.1", "::1") as (port, _), pytest.raises(ConnectionRefused) as caught:
        TcpStream.connect("two.test", port)
    assert caught.value.addr == f"two.test:{port}"
    attempts = caught.value.attempts  # type: ignore[attr-defined]
    assert [str(attempt) for attempt in attempts] == [
        f"ConnectionRefused: [::1]:{port}",
        f"ConnectionRefused: 127.0.0.1:{port}",
    ]
    assert caught.value.__notes__ == [str(attempt) for attempt in attempts]


def test_different_failures_are_a_network_error() -> None:
    with reserved("127.0.0.1") as (port, _):
        # TCP cannot connect to a broadcast address: EACCES or ENETUNREACH.
        addrs = [SocketAddr("255.255.255.255", port), SocketAddr.localhost(port)]
        with pytest.raises(NetworkError) as caught:
            connect.connect_any(addrs, 5000, "mixed:1")
    assert type(caught.value) is NetworkError
    assert caught.value.code == 0
    assert caught.value.message == (
        f"all addresses failed for mixed:1: ConnectionRefused: 127.0.0.1:{port}"
    )
    first, second = caught.value.attempts  # type: ignore[attr-defined]
    assert type(first) is NetworkError
    assert first.errno
    assert "255.255.255.255" in str(first)
    assert isinstance(second, ConnectionRefused)


def test_one_address_keeps_its_errno() -> None:
    with pytest.raises(NetworkError) as caught:
        TcpStream.connect_timeout(SocketAddr("255.255.255.255", 9), 5000)
    assert caught.value.errno in (errno.EACCES, errno.ENETUNREACH)
    assert "255.255.255.255:9" in str(caught.value)


def test_one_deadline_for_all_attempts(
    names: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    names("127.0.0.1")
    # All attempts begin, and the name is known, before anybody looks at the clock.
    monkeypatch.setattr(connect, "ATTEMPT_DELAY_MS", 0)
    start_lookup = connect.start_lookup

    def looked_up(host: str, *, wait: float | None) -> Future[list[IpAddr]]:
        found = start_lookup(host, wait=DEADLINE)
        found.exception(DEADLINE)
        return found

    monkeypatch.setattr(connect, "start_lookup", looked_up)
    with black_hole("127.0.0.1") as port:
        for dial in (
            lambda: TcpStream.connect("silent.test", port, timeout_ms=60),
            lambda: TcpStream.connect_timeout(SocketAddr.localhost(port), 60),
            lambda: connect.connect_any([SocketAddr.localhost(port)] * 3, 60, "three"),
        ):
            with pytest.raises(ConnectionTimeout) as caught:
                dial()
            assert caught.value.timeout_ms == 60
            assert caught.value.errno == errno.ETIMEDOUT
            attempts = caught.value.attempts  # type: ignore[attr-defined]
            assert {str(a) for a in attempts} == {f"ConnectionTimeout: 127.0.0.1:{port}"}
        assert caught.value.addr == "three"
        assert len(attempts) == 3


def test_the_next_attempt_waits_for_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "ATTEMPT_DELAY_MS", 60_000)
    with black_hole("127.0.0.1") as port, pytest.raises(ConnectionTimeout) as caught:
        connect.connect_any([SocketAddr.localhost(port)] * 3, 40, "three")
    assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]


def test_the_deadline_ends_a_slow_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = threading.Event(), threading.Event()

    def getaddrinfo(*args: object) -> list[Any]:
        begun.set()
        release.wait(DEADLINE)
        raise socket.gaierror(socket.EAI_NONAME, "late")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        with pytest.raises(ConnectionTimeout) as caught:
            TcpStream.connect("slow.test", 80, timeout_ms=30)
        assert begun.wait(DEADLINE)
    finally:
        release.set()
    assert (caught.value.addr, caught.value.timeout_ms) == ("slow.test:80", 30)
    assert caught.value.attempts == []  # type: ignore[attr-defined]


def test_a_look_up_waits_for_a_pool_thread_until_the_deadline(names: Callable[..., None]) -> None:
    names("127.0.0.1")
    release = threading.Event()
    busy = [
        pool.submit(lambda: release.wait(DEADLINE), wait=DEADLINE)
        for _ in range(pool.MAX_POOL_SIZE)
    ]
    try:
        with pytest.raises(ConnectionTimeout) as caught:
            TcpStream.connect("any.test", 80, timeout_ms=20)
        assert isinstance(caught.value.__cause__, IoError)
    finally:
        release.set()
        for future in busy:
            future.result(DEADLINE)


def test_a_failed_look_up_is_a_dns_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(DnsError, match=r"nowhere\.test"):
        TcpStream.connect("nowhere.test", 80)


def test_a_numeric_host_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with reserved("::1") as (port, _), pytest.raises(ConnectionRefused) as caught:
        TcpStream.connect("::1", port)
    assert caught.value.addr == f"[::1]:{port}"


def test_no_limit_is_possible_below_the_public_face(names: Callable[..., None]) -> None:
    names("127.0.0.1")
    with listening("127.0.0.1") as server:
        port = server.getsockname()[1]
        raw, winner = connect.connect_host("any.test", port, 0)
        raw.close()
        assert winner == SocketAddr.localhost(port)


def test_no_addresses_at_all_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="addrs"):
        connect.connect_any([], 100, "none")
