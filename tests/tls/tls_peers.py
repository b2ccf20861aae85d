"""Certificates, and both ends of connections, for the tests of TLS."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme

from flare.net import SocketAddr
from flare.tcp import TcpListener, TcpStream
from flare.tls import TlsAcceptor, TlsConfig, TlsEngine, TlsInfo, TlsServerConfig, TlsStream

DEADLINE = 10.0
EC = trustme.KeyType.ECDSA


class Pki:
    """An authority, another that nobody trusts, and certificates by either, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA(key_type=EC)
        self.stranger = trustme.CA(key_type=EC)
        self.bundle = folder / "ca.pem"
        self.bundle.write_bytes(self.ca.cert_pem.bytes())
        self.stranger_bundle = folder / "stranger.pem"
        self.stranger_bundle.write_bytes(self.stranger.cert_pem.bytes())
        self.server = self.issue("localhost", "127.0.0.1", "::1")
        self.client = self.issue("client.example", common_name="client")

    def issue(
        self,
        *names: str,
        by: trustme.CA | None = None,
        days: tuple[int, int] = (-1, 30),
        **more: Any,
    ) -> Path:
        """Key and certificate in one file, good from one to the other day relative to today."""
        now = datetime.datetime.now(datetime.UTC)
        made = (by or self.ca).issue_cert(
            *names,
            key_type=EC,
            not_before=now + datetime.timedelta(days=days[0]),
            not_after=now + datetime.timedelta(days=days[1]),
            **more,
        )
        path = self.folder / f"{len(list(self.folder.iterdir()))}.pem"
        path.write_bytes(made.private_key_and_cert_chain_pem.bytes())
        return path

    def client_config(self, **settings: Any) -> TlsConfig:
        return TlsConfig(ca_bundle=self.bundle, **settings)

    def acceptor(self, **settings: Any) -> TlsAcceptor:
        return TlsAcceptor(TlsServerConfig(settings.pop("cert_file", self.server), **settings))

    def context(self, **attributes: Any) -> ssl.SSLContext:
        """A client's context of the standard library, trusting the authority."""
        context = ssl.create_default_context(cafile=str(self.bundle))
        for name, value in attributes.items():
            setattr(context, name, value)
        return context


class Background(threading.Thread):
    """Work on another thread, whose result or exception can be asked for."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as exc:
            self._error = exc

    def result(self) -> Any:
        self.join(DEADLINE)
        assert not self.is_alive(), "still busy"
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result


def tcp_pair() -> tuple[TcpStream, TcpStream]:
    with TcpListener.bind(SocketAddr.localhost(0)) as listener:
        return TcpStream.connect(listener.local_addr()), listener.accept()


@contextmanager
def connection(
    acceptor: TlsAcceptor, config: TlsConfig, host: str = "localhost", **options: Any
) -> Iterator[tuple[TlsStream, TlsStream, TlsInfo]]:
    """Both ends of a TLS connection, and what the server knows of it."""
    one, other = tcp_pair()
    server = Background(lambda: acceptor.handshake(other))
    try:
        client = TlsStream.connect_over_tcp(one, host, config, **options)
    except BaseException:
        try:
            server.result()[0].close()
        except OSError:
            pass
        raise
    with client:
        stream, info = server.result()
        with stream:
            yield client, stream, info


def answering(acceptor: TlsAcceptor, count: int = 1) -> Background:
    """Serve *count* clients of *acceptor*, which is bound: each gets back what it sends."""

    def serve() -> list[TlsInfo]:
        infos = []
        for _ in range(count):
            stream, info = acceptor.accept()
            infos.append(info)
            with stream:
                while data := stream.read():
                    stream.write_all(data)
        return infos

    return Background(serve)


def exchange(stream: TlsStream, data: bytes = b"ping") -> bytes:
    stream.write_all(data)
    return stream.read_exact(len(data))


def engines(
    acceptor: TlsAcceptor, context: ssl.SSLContext, host: str = "localhost"
) -> tuple[TlsEngine, TlsEngine]:
    """A client's and a server's engine, before their handshake."""
    return TlsEngine(context, host=host), acceptor.engine()


def pass_on(one: TlsEngine, other: TlsEngine) -> bool:
    """Hand each what the other wrote; whether there was anything."""
    moved = False
    for source, target in ((one, other), (other, one)):
        if data := source.pending_output():
            target.receive(data)
            moved = True
    return moved


def shake(one: TlsEngine, other: TlsEngine) -> None:
    """Both sides of a handshake, to the end."""
    for _ in range(10):
        both = [one.handshake(), other.handshake()]
        pass_on(one, other)
        if all(both):
            return
    raise AssertionError("the handshake does not end")
