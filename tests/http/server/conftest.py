"""Fixtures that start servers and connect to them, and see both ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from dispatching import Asleep
from h2_peer import H2Peer
from programs import Begin, Program
from serving import PATIENCE, Address, Connect, Peer, Running, Serve, Start
from tls_serving import ConnectTls, Pki, StartTls, secure, tls_server

from flare.http.server import ServerConfig


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server for a handler; its ``Running`` is stopped at the end of the test."""
    with ExitStack() as stack:

        def begin(handler: Any, config: ServerConfig | None = None, **options: Any) -> Running:
            running = Running(handler, config, **options)
            stack.callback(running.stop)
            return running

        yield begin


@pytest.fixture
def serve(start: Start) -> Serve:
    """Start a server for a handler and return where it listens."""
    return lambda handler, config=None: start(handler, config).address


@pytest.fixture
def program() -> Iterator[Begin]:
    """Start a server as a program of its own; ended with the test."""
    with ExitStack() as stack:

        def begin(**options: Any) -> Program:
            made = Program(**options)
            stack.callback(made.end)
            return made

        yield begin


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to a server; closed at the end of the test, before the server is."""
    with ExitStack() as stack:

        def begin(address: Address, **options: Any) -> Peer:
            peer = Peer(address, **options)
            stack.callback(peer.close)
            return peer

        yield begin


@pytest.fixture
def speak_h2() -> Iterator[Callable[..., H2Peer]]:
    """Connect to a server in HTTP/2; closed at the end of the test, before the server is."""
    with ExitStack() as stack:

        def begin(address: Address, *settings: Any, **options: Any) -> H2Peer:
            peer = H2Peer(address, *settings, **options)
            stack.callback(peer.close)
            return peer

        yield begin


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """No takeover but those the test makes."""
    dog = Asleep()
    monkeypatch.setattr("flare.http.server.worker.watchdog", lambda: dog)


@pytest.fixture
def no_exile(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a handler is overtaken, its next call begins on the loop."""
    monkeypatch.setattr("flare.http.server.dispatch._TAKEOVERS", 1 << 30)


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that is exiled stays so."""
    monkeypatch.setattr("flare.http.server.dispatch._PROBE_MS", 1 << 30)
    monkeypatch.setattr("flare.http.server.dispatch._LONGEST_PROBE_MS", 1 << 30)


@pytest.fixture
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has its time for what it gets a second for otherwise: to stop sending after the
    last answer, and to ask when a drain has begun."""
    monkeypatch.setattr("flare.http.server.socket_connection._LINGER_MS", int(PATIENCE * 1000))
    monkeypatch.setattr("flare.http.server.connection._LAST_MS", int(PATIENCE * 1000))


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority and certificates by it."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def start_tls(start: Start, pki: Pki) -> StartTls:
    """Start a server with TLS for a handler; see ``tls_server``."""

    def begin(handler: Any, config: ServerConfig | None = None, **settings: Any) -> Running:
        return start(handler, server=tls_server(pki, config, **settings))

    return begin


@pytest.fixture
def connect_tls(connect: Connect, pki: Pki) -> ConnectTls:
    """Connect to such a server and shake hands, with *attributes* of the ``ssl.SSLContext``."""

    def begin(
        address: Address,
        *,
        host: str = "localhost",
        session: Any = None,
        context: Any = None,
        options: dict[str, Any] | None = None,
        **attributes: Any,
    ) -> Peer:
        context = context or pki.context(**attributes)
        return secure(connect(address, **(options or {})), context, host, session)

    return begin
