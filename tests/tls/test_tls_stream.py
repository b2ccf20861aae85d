"""What a TLS stream does beyond what every stream does (tests/streams)."""

from __future__ import annotations

import gc
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from tls_peers import DEADLINE, Background, Pki, answering, connection, exchange, tcp_pair

from flare.errors import ConnectionTimeout, NetworkError, Timeout, UnexpectedEof, ValidationError
from flare.io import BufReader, Readable
from flare.net import ConnectionRefused, SocketAddr
from flare.tcp import TcpListener, TcpStream
from flare.tls import (
    CertificateHostnameMismatch,
    TlsAcceptor,
    TlsConfig,
    TlsEngine,
    TlsServerConfig,
    TlsStream,
    TlsTruncated,
)
from flare.uds import UnixStream


@contextmanager
def listening(pki: Pki, **settings: Any) -> Iterator[TlsAcceptor]:
    config = TlsServerConfig(pki.server, **settings)
    with TlsAcceptor.bind(SocketAddr.localhost(0), config) as acceptor:
        yield acceptor


@contextmanager
def by_hand(pki: Pki) -> Iterator[tuple[TlsStream, TlsEngine, TcpStream]]:
    """A client, and the server's engine and bare connection, to send what no server would."""
    one, other = tcp_pair()
    engine = pki.acceptor().engine()

    def serve() -> None:
        while not engine.handshake():
            other.write_all(engine.pending_output())
            engine.receive(other.read())

    with other:
        server = Background(serve)
        with TlsStream.connect_over_tcp(one, "localhost", pki.client_config()) as client:
            server.result()
            other.write_all(engine.pending_output())
            yield client, engine, other


# -- connecting -------------------------------------------------------------------------


def test_connect_by_name(pki: Pki) -> None:
    with listening(pki, alpn=["http/1.1", "h2"]) as acceptor:
        server = answering(acceptor)
        port = acceptor.local_addr().port
        with TlsStream.connect("localhost", port, pki.client_config(alpn=["h2"])) as client:
            assert exchange(client) == b"ping"
            assert client.peer_addr().port == port
            assert client.local_addr().ip.is_loopback()
            assert isinstance(client, Readable)
            assert client.tls_version() == "TLSv1.3"
            assert client.cipher_suite().startswith("TLS_")
            assert client.alpn_selected() == "h2"
            assert client.info().protocol == "TLSv1.3"
            assert client.info().sni_host == "localhost"
            assert client.peer_cert_subject().startswith("/O=trustme")
            assert "TLSv1.3 over <TcpStream fd=" in repr(client)
        [info] = server.result()
    assert (info.protocol, info.cipher) == ("TLSv1.3", client.cipher_suite())
    assert (info.sni_host, info.alpn_protocol) == ("localhost", "h2")
    assert info.client_cert_subject == ""
    assert repr(client) == "<TlsStream closed>"


def test_connect_trusts_what_is_trusted_by_default(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.bundle))
    with listening(pki) as acceptor:
        server = answering(acceptor)
        with TlsStream.connect("127.0.0.1", acceptor.local_addr().port) as client:
            assert exchange(client) == b"ping"
        server.result()


def test_nobody_listens(pki: Pki) -> None:
    with TcpListener.bind(SocketAddr.localhost(0)) as gone:
        port = gone.local_addr().port
    with pytest.raises(ConnectionRefused):
        TlsStream.connect("127.0.0.1", port, pki.client_config())


@pytest.mark.parametrize("timeout_ms", [0, -1])
def test_connect_timeout_wants_a_time(pki: Pki, timeout_ms: int) -> None:
    with pytest.raises(ValidationError):
        TlsStream.connect_timeout("127.0.0.1", 1, pki.client_config(), timeout_ms)


@pytest.fixture
def sure_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the time, and long a pause of the machine, there will be a connection."""
    real = TcpStream.connect
    monkeypatch.setattr(TcpStream, "connect", lambda host, port, _: real(host, port, 20_000))


@pytest.mark.usefixtures("sure_to_connect")
def test_a_silent_server_is_given_up_in_time(pki: Pki) -> None:
    with TcpListener.bind(SocketAddr.localhost(0)) as silent:
        port = silent.local_addr().port
        with pytest.raises(Timeout) as caught:
            TlsStream.connect_timeout("127.0.0.1", port, pki.client_config(), 50)
    assert (caught.value.op, caught.value.ms) == ("tls handshake", 50)
    assert isinstance(caught.value, TimeoutError)
    assert not isinstance(caught.value, ConnectionTimeout)


def test_a_server_that_drips_is_given_up_in_time(pki: Pki) -> None:
    one, other = tcp_pair()
    stop = threading.Event()

    def drip() -> None:
        with other:
            other.read()
            other.write_all(b"\x16\x03\x03\x3f\xff")
            while not stop.wait(0.005):
                other.write_all(b"\x02")

    def drip_until_cut_off() -> None:
        try:
            drip()
        except NetworkError:
            pass

    server = Background(drip_until_cut_off)
    with pytest.raises((Timeout, NetworkError)) as caught:
        TlsStream.connect_over_tcp(one, "localhost", pki.client_config(), timeout_ms=60)
    stop.set()
    server.result()
    assert caught.value.ms == 60 if isinstance(caught.value, Timeout) else True
    assert one.closed


@pytest.mark.usefixtures("sure_to_connect")
def test_one_deadline_covers_connection_and_handshake(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TcpStream.connect

    def slow(host: str, port: int, timeout_ms: int) -> TcpStream:
        stream = real(host, port, timeout_ms)
        time.sleep(0.06)
        return stream

    monkeypatch.setattr(TcpStream, "connect", slow)
    with listening(pki) as acceptor, pytest.raises(Timeout) as caught:
        TlsStream.connect_timeout("127.0.0.1", acceptor.local_addr().port, pki.client_config(), 50)
    assert caught.value.op == "tls handshake"


def test_timeouts_of_the_connection_beneath_stay(pki: Pki) -> None:
    one, other = tcp_pair()
    one.set_recv_timeout(30)
    other.set_recv_timeout(40)
    server = Background(lambda: pki.acceptor().handshake(other))
    with TlsStream.connect_over_tcp(one, "localhost", pki.client_config()) as client:
        stream, _ = server.result()
        with stream:
            for end, ms in ((client, 30), (stream, 40)):
                with pytest.raises(Timeout) as caught:
                    end.read()
                assert caught.value.ms == ms


def test_a_failed_handshake_closes_the_connection(pki: Pki) -> None:
    one, other = tcp_pair()
    server = Background(lambda: pki.acceptor().handshake(other))
    with pytest.raises(CertificateHostnameMismatch):
        TlsStream.connect_over_tcp(one, "other.example", pki.client_config())
    assert one.closed
    with pytest.raises(NetworkError):
        server.result()
    assert other.closed


def test_settings_that_fail_close_the_connection_too(pki: Pki, tmp_path: Any) -> None:
    one, other = tcp_pair()
    with other, pytest.raises(NetworkError):
        TlsStream.connect_over_tcp(one, "localhost", TlsConfig(ca_bundle=tmp_path / "none"))
    assert one.closed
    one, other = tcp_pair()
    with other, pytest.raises(ValidationError):
        TlsStream.connect_over_tcp(one, "localhost", pki.client_config(), timeout_ms=-1)
    assert one.closed


def test_a_non_blocking_connection_becomes_a_blocking_stream(pki: Pki) -> None:
    one, other = tcp_pair()
    one.set_nonblocking(True)
    other.set_nonblocking(True)
    server = Background(lambda: pki.acceptor().handshake(other))
    client = TlsStream.connect_over_tcp(one, "localhost", pki.client_config())
    with client, server.result()[0] as stream:
        reader = Background(client.read)
        stream.write_all(b"x")
        assert reader.result() == b"x"


# -- reading ----------------------------------------------------------------------------


def test_read_returns_one_record_at_most(pki: Pki) -> None:
    with connection(pki.acceptor(), pki.client_config()) as (client, server, _):
        server.write_all(bytes(40_000))
        sizes = []
        while sum(sizes) < 40_000:
            sizes.append(len(client.read(1 << 20)))
        assert sizes == [16384, 16384, 7232]


def test_pending_tells_what_the_descriptor_does_not(pki: Pki) -> None:
    with connection(pki.acceptor(), pki.client_config()) as (client, server, _):
        assert client.pending() == 0
        server.write_all(b"one")
        server.write_all(b"two")
        assert client.read(1) == b"o"
        assert client.pending() == 2
        assert client.read() == b"ne"
        client.set_recv_timeout(5000)
        assert client.read(3) == b"two"
        assert client.pending() == 0
        client.set_nonblocking(True)
        with pytest.raises(Timeout):
            client.read()


def test_pending_finds_a_record_nobody_has_decrypted_yet(pki: Pki) -> None:
    with by_hand(pki) as (client, engine, other):
        engine.write(b"first")
        engine.write(b"second")
        other.write_all(engine.pending_output())
        assert client.read() == b"first"
        assert client.pending() == 6
        into = bytearray(4)
        assert client.read_into(into) == 4
        assert into + client.read() == b"second"


def test_a_negative_size_is_refused(pki: Pki) -> None:
    with connection(pki.acceptor(), pki.client_config()) as (client, _, _):
        with pytest.raises(ValueError, match="n must be >= 0"):
            client.read(-1)
        assert client.read_into(bytearray()) == 0


def test_a_buffered_reader_reads_lines(pki: Pki) -> None:
    with connection(pki.acceptor(), pki.client_config()) as (client, server, _):
        server.write_all(b"one\ntwo\n")
        server.shutdown_write()
        reader = BufReader(client)
        assert [reader.readline(), reader.readline()] == ["one", "two"]


def test_an_end_without_close_notify_is_an_error_every_time(pki: Pki) -> None:
    with by_hand(pki) as (client, engine, other):
        engine.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
        other.write_all(engine.pending_output())
        other.shutdown_write()
        assert client.read_exact(26) == b"HTTP/1.1 200 OK\r\n\r\nhalf of"
        for _ in range(2):
            with pytest.raises(TlsTruncated) as caught:
                client.read()
            assert isinstance(caught.value, ssl.SSLEOFError)
            with pytest.raises(TlsTruncated):
                client.read_into(bytearray(4))


def test_an_end_inside_a_record_is_an_error(pki: Pki) -> None:
    with by_hand(pki) as (client, engine, other):
        engine.write(b"a whole record")
        other.write_all(engine.pending_output()[:-1])
        other.shutdown_write()
        with pytest.raises(TlsTruncated):
            client.read()


def test_an_end_in_the_midst_of_read_exact_tells_which_end(pki: Pki) -> None:
    with connection(pki.acceptor(), pki.client_config()) as (client, server, _):
        server.write_all(b"abc")
        server.close()
        with pytest.raises(UnexpectedEof) as caught:
            client.read_exact(4)
        assert caught.value.partial == b"abc"


def test_a_record_that_was_tampered_with_is_an_error_and_the_peer_is_told(pki: Pki) -> None:
    with by_hand(pki) as (client, engine, other):
        engine.write(b"a whole record")
        record = bytearray(engine.pending_output())
        record[-1] ^= 1
        other.write_all(record)
        for _ in range(2):
            with pytest.raises(NetworkError, match=r"TLS read error: .*BAD_RECORD_MAC"):
                client.read()
        client.close()
        while data := other.read():
            engine.receive(data)
        with pytest.raises(NetworkError, match="ALERT_BAD_RECORD_MAC"):
            engine.read()


def test_a_dripped_record_does_not_outlast_the_timeout(pki: Pki) -> None:
    with by_hand(pki) as (client, engine, other):
        engine.write(bytes(1000))
        record = engine.pending_output()
        client.set_recv_timeout(60)
        stop = threading.Event()

        def drip() -> int:
            sent = 0
            while not stop.wait(0.01):
                other.write_all(record[sent : sent + 1])
                sent += 1
            return sent

        dripping = Background(drip)
        with pytest.raises(Timeout) as caught:
            client.read()
        stop.set()
        sent = dripping.result()
        assert (caught.value.op, caught.value.ms) == ("recv", 60)
        # The timeout is the whole one again, and no byte was lost.
        other.write_all(record[sent:])
        assert client.read() == bytes(1000)
        with pytest.raises(Timeout) as caught:
            client.read()
        assert caught.value.ms == 60


# -- writing ----------------------------------------------------------------------------


def test_a_small_write_is_one_record(pki: Pki) -> None:
    with by_hand(pki) as (client, engine, other):
        client.writev([b"head ", bytearray(b"and "), memoryview(b"body")])
        engine.receive(other.read())
        assert engine.read() == b"head and body"
        assert engine.read() is None


def test_a_time_out_inside_a_record_loses_nothing(pki: Pki) -> None:
    one, other = tcp_pair()
    for end, option in ((one, socket.SO_SNDBUF), (other, socket.SO_RCVBUF)):
        socket_of(end).setsockopt(socket.SOL_SOCKET, option, 4096)
    server = Background(lambda: pki.acceptor().handshake(other))
    client = TlsStream.connect_over_tcp(one, "localhost", pki.client_config())
    with client, server.result()[0] as stream:
        client.set_send_timeout(10)
        sent = hashlib.sha256()
        total = 0
        with suppress(Timeout):
            while True:
                piece = b"%08d" % total * 1000
                client.write(piece)
                sent.update(piece)
                total += len(piece)
        reader = Background(lambda: stream.read_exact(total))
        client.set_send_timeout(0)
        assert client.write(b"") == 0  # sends what is owed
        assert hashlib.sha256(reader.result()).digest() == sent.digest()


def socket_of(stream: TcpStream) -> socket.socket:
    return stream._raw.sock


def test_a_non_blocking_writer_and_reader_get_everything_across(pki: Pki) -> None:
    data = hashlib.shake_128(b"non-blocking").digest(3_000_000)
    with connection(pki.acceptor(), pki.client_config()) as (client, server, _):
        client.set_nonblocking(True)
        server.set_nonblocking(True)
        got = bytearray()
        sent, flushed, deadline = 0, False, time.monotonic() + 3 * DEADLINE
        while len(got) < len(data):
            assert time.monotonic() < deadline
            try:
                if sent < len(data):
                    sent += client.write(memoryview(data)[sent:])
                elif not flushed:
                    client.write(b"")
                    flushed = True
            except Timeout:
                pass
            try:
                while True:
                    got += server.read(1 << 16)
            except Timeout:
                pass
        assert bytes(got) == data


def test_both_directions_at_once_with_both_ends_writing_more_than_fits(pki: Pki) -> None:
    size = 4_000_000
    with connection(pki.acceptor(), pki.client_config()) as (client, server, _):
        writers = [Background(lambda s=s: s.write_all(bytes(size))) for s in (client, server)]
        readers = [Background(lambda s=s: s.read_exact(size)) for s in (client, server)]
        for work in (*writers, *readers):
            work.result()


# -- ending -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_half_close_lets_the_answer_through(pki: Pki, version: ssl.TLSVersion) -> None:
    config = TlsConfig(ssl_context=pki.context(maximum_version=version))
    with connection(pki.acceptor(), config) as (client, server, _):
        client.write_all(b"question")
        server.write_all(b"early ")  # is there, unread, when the close_notify is written
        while not client.pending():
            client.set_recv_timeout(5000)
            client._engine.receive(client._under.read())
        client.shutdown_write()
        client.shutdown_write()
        assert server.read_exact(8) == b"question"
        assert server.read() == b""
        server.write_all(b"answer")
        server.shutdown_write()
        assert client.read_exact(12) == b"early answer"
        assert client.read() == client.read() == b""


def test_what_was_written_before_close_arrives_though_tickets_lie_unread(pki: Pki) -> None:
    # A TLS 1.3 client that never reads has the server's tickets in its receive buffer, and closing
    # a socket with unread bytes sends a reset.
    for _ in range(20):
        with connection(pki.acceptor(), pki.client_config()) as (client, server, _):
            client.write_all(b"all I wanted to say")
            client.close()
            assert server.read_exact(19) == b"all I wanted to say"
            assert server.read() == b""


def test_close_does_not_wait_for_a_peer_that_reads_nothing(pki: Pki) -> None:
    with connection(pki.acceptor(), pki.client_config()) as (client, _, _):
        client.set_nonblocking(True)
        with suppress(Timeout):
            while True:
                client.write(bytes(16384))
        client.set_nonblocking(False)
        closing = Background(client.close)
        closing.result()
        assert client.closed


def test_nothing_but_the_stream_itself_keeps_it_alive(pki: Pki) -> None:
    one, other = tcp_pair()
    with other:
        engine = TlsEngine(pki.context(), host="localhost")
        stream: Any = TlsStream(one, engine)
        gc.disable()
        try:
            with pytest.warns(ResourceWarning, match="unclosed <TlsStream"):
                del stream, engine
            assert one.closed
        finally:
            gc.enable()


# -- TLS inside TLS ---------------------------------------------------------------------


def test_tls_through_tls(pki: Pki) -> None:
    inside = pki.issue("inside.example")
    with connection(pki.acceptor(), pki.client_config()) as (client, server, _):
        inner = Background(lambda: pki.acceptor(cert_file=inside).handshake(server))
        with TlsStream.connect_over_tcp(client, "inside.example", pki.client_config()) as stream:
            answer, info = inner.result()
            with answer:
                assert info.sni_host == "inside.example"
                stream.set_recv_timeout(5000)
                answer.write_all(stream.fileno().to_bytes(4, "big"))
                assert stream.read_exact(4) == client.fileno().to_bytes(4, "big")
                assert stream.peer_addr() == client.peer_addr()
        assert client.closed
        assert server.closed


def test_tls_over_a_unix_socket(pki):
    one, other = UnixStream.pair()
    acceptor = pki.acceptor()
    server = Background(lambda: acceptor.handshake(other))
    with TlsStream.connect_over_tcp(one, "localhost", pki.client_config()) as client:
        stream, _ = server.result()
        with stream:
            client.write_all(b"ping")
            assert stream.read_exact(4) == b"ping"
            for of_tcp in (client.peer_addr, client.local_addr, lambda: client.set_nodelay(True)):
                with pytest.raises(NetworkError, match="not over TCP"):
                    of_tcp()
            stream.close()
            assert client.read() == b""
