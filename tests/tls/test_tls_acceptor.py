"""The server's side: clients let in and kept out, certificates chosen and exchanged."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tls_peers import Background, Pki, answering, connection, exchange, tcp_pair

from flare.errors import NetworkError
from flare.net import AddressInUse, SocketAddr
from flare.runtime import INTEREST_READ, INTEREST_WRITE, Reactor
from flare.tcp import TcpListener, TcpStream
from flare.tls import (
    TLS_PROTOCOL_TLS13,
    CertificateHostnameMismatch,
    CertificateUntrusted,
    TlsAcceptor,
    TlsConfig,
    TlsHandshakeError,
    TlsInfo,
    TlsServerConfig,
    TlsServerError,
    TlsStream,
)

# How a server does a handshake with a client: each way has to come to the same.
Shake = Callable[[TlsAcceptor, TcpStream], tuple[TlsStream, TlsInfo]]


def by_thread(acceptor: TlsAcceptor, stream: TcpStream) -> tuple[TlsStream, TlsInfo]:
    return acceptor.handshake(stream)


def by_descriptor(acceptor: TlsAcceptor, stream: TcpStream) -> tuple[TlsStream, TlsInfo]:
    return acceptor.handshake_fd(stream._raw.detach())


def by_reactor(acceptor: TlsAcceptor, stream: TcpStream) -> tuple[TlsStream, TlsInfo]:
    handshake = acceptor.begin(stream)
    with Reactor() as reactor:
        while interest := handshake.step():
            reactor.register(handshake, token=1, interest=interest)
            events = reactor.poll(10_000)
            reactor.unregister(handshake)
            if not events:
                handshake.close()
                raise TimeoutError("no event")
    client, info = handshake.result()
    client.set_nonblocking(False)
    return client, info


@pytest.fixture(params=[by_thread, by_descriptor, by_reactor])
def way(request: pytest.FixtureRequest) -> Shake:
    return request.param


def refused(way: Shake, acceptor: TlsAcceptor, sent: bytes) -> tuple[TlsServerError, bytes]:
    """What becomes of a client that sends *sent* and no more: our error, and what it is told."""
    one, other = tcp_pair()
    with one:
        one.write_all(sent)
        one.shutdown_write()
        with pytest.raises(TlsServerError) as caught:
            way(acceptor, other)
        answer = b""
        while data := one.read():
            answer += data
    assert other.closed
    return caught.value, answer


def test_a_client_is_let_in(pki: Pki, way: Shake) -> None:
    one, other = tcp_pair()
    acceptor = pki.acceptor(alpn=["h2", "http/1.1"])
    server = Background(lambda: way(acceptor, other))
    config = pki.client_config(alpn=["http/1.1", "h2"])
    with TlsStream.connect_over_tcp(one, "LOCALHOST", config) as client:
        stream, info = server.result()
        with stream:
            assert info == stream.info()
            assert (info.sni_host, info.alpn_protocol) == ("localhost", "h2")
            assert stream.peer_addr() == client.local_addr()
            client.write_all(b"hello")
            assert stream.read_exact(5) == b"hello"
            with pytest.raises(NetworkError, match="no certificate"):
                stream.peer_cert_subject()
            assert not stream.session()


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PATCH", "CONNECT", "PRI"])
def test_plain_http_is_told_that_this_is_https(pki: Pki, way: Shake, method: str) -> None:
    request = f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    error, answer = refused(way, pki.acceptor(), request)
    assert "plain HTTP" in str(error)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close" in head
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert b"https://" in body


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x00\x05hello", b"\x00" * 50, b"SSH-2.0-client\r\n", b"ABC\r\nDEF\r\n"]
)
def test_other_noise_is_refused(pki: Pki, way: Shake, sent: bytes) -> None:
    error, answer = refused(way, pki.acceptor(), sent)
    assert error.code == 1
    assert not answer.startswith(b"HTTP")


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_a_client_that_leaves_is_an_error_of_its_own(pki: Pki, way: Shake, sent: bytes) -> None:
    error, _ = refused(way, pki.acceptor(), sent)
    assert "the client closed the connection" in str(error)


def test_a_client_that_is_cut_off(pki: Pki, way: Shake) -> None:
    one, other = tcp_pair()
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    one._raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    one.write_all(b"\x16")
    one.close()
    with pytest.raises(TlsServerError, match="TLS handshake failed: "):
        way(pki.acceptor(), other)
    assert other.closed


def test_a_handshake_larger_than_any_is_refused(pki: Pki, way: Shake) -> None:
    # A hello of 16 MiB, in whole records.
    first = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(0x4000 - 4)
    error, _ = refused(way, pki.acceptor(), first + (b"\x16\x03\x01\x40\x00" + bytes(0x4000)) * 8)
    assert isinstance(error, TlsServerError)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02"])
def test_a_silent_client_is_given_up(pki: Pki, sent: bytes) -> None:
    one, other = tcp_pair()
    with one:
        one.write_all(sent)
        with pytest.raises(TlsServerError) as caught:
            pki.acceptor(handshake_timeout_ms=30).handshake(other)
        assert str(caught.value) == "TlsServerError(TLS handshake timed out (30ms) code=0)"
        assert other.closed


def test_a_step_after_the_time_is_up_ends_it(pki: Pki) -> None:
    one, other = tcp_pair()
    with one:
        handshake = pki.acceptor(handshake_timeout_ms=60_000).begin(other)
        assert handshake.step() == INTEREST_READ
        assert handshake._end is not None
        handshake._end -= 60  # as if that had passed
        with pytest.raises(TlsServerError, match=r"timed out \(60000ms\)"):
            handshake.step()
        assert handshake.fileno() == -1


def test_no_cap_is_no_cap(pki: Pki) -> None:
    with connection(pki.acceptor(handshake_timeout_ms=0), pki.client_config(), timeout_ms=0):
        pass


def test_a_handshake_under_way_can_be_closed(pki: Pki) -> None:
    one, other = tcp_pair()
    with one:
        handshake = pki.acceptor().begin(other)
        with pytest.raises(RuntimeError, match="not done"):
            handshake.result()
        handshake.close()
        handshake.close()
        assert one.read() == b""


def test_a_client_that_reads_nothing_is_waited_for_to_be_writable(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tcp_pair()
    handshake = pki.acceptor().begin(other)
    real, full = TcpStream.write, [True]

    def write(self: TcpStream, data: Any) -> int:
        if self is other and full[0]:
            full[0] = False
            return real(self, data[:10])
        if self is other and len(full) == 1:
            full.append(True)
            from flare.errors import Timeout

            raise Timeout("send")
        return real(self, data)

    monkeypatch.setattr(TcpStream, "write", write)
    client = Background(lambda: TlsStream.connect_over_tcp(one, "localhost", pki.client_config()))
    seen = set()
    with Reactor() as reactor:
        while interest := handshake.step():
            seen.add(interest)
            reactor.register(handshake, token=1, interest=interest)
            assert reactor.poll(10_000)
            reactor.unregister(handshake)
    with handshake.result()[0], client.result():
        assert INTEREST_WRITE in seen


def test_a_descriptor_that_is_no_connection_is_closed(pki: Pki) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(TlsServerError):
            pki.acceptor().handshake_fd(reading)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reading)
    finally:
        os.close(writing)
    with pytest.raises(TlsServerError):
        pki.acceptor().handshake_fd(socket.socket().detach())


# -- listening --------------------------------------------------------------------------


def test_iterating_passes_over_clients_that_fail(pki: Pki) -> None:
    config = TlsServerConfig(pki.server)
    with TlsAcceptor.bind(SocketAddr.localhost(0), config) as acceptor:
        served: list[bytes] = []

        def serve() -> None:
            for stream, _ in acceptor:
                with stream:
                    served.append(stream.read())

        server = Background(serve)
        addr = acceptor.local_addr()
        assert acceptor.fileno() >= 0
        assert "TcpListener" in repr(acceptor)
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03", b""):
            with TcpStream.connect(addr) as noise:
                noise.write_all(sent)
                noise.shutdown_write()
                while noise.read():
                    pass
        with TlsStream.connect("127.0.0.1", addr.port, pki.client_config()) as client:
            client.write_all(b"at last")
            assert client.read() == b""
        acceptor.close()
        acceptor.close()
        server.result()
    assert served == [b"at last"]
    with pytest.raises(NetworkError) as caught:
        acceptor.accept()
    assert caught.value.code == errno.EBADF


def test_an_address_that_is_taken(pki: Pki) -> None:
    with TcpListener.bind(SocketAddr.localhost(0)) as taken, pytest.raises(AddressInUse):
        TlsAcceptor.bind(taken.local_addr(), TlsServerConfig(pki.server))


def test_without_a_listener_there_is_nothing_to_accept(pki: Pki) -> None:
    with pki.acceptor() as acceptor, pytest.raises(TypeError, match=r"TlsAcceptor\.bind"):
        acceptor.accept()
    assert acceptor.info_placeholder() == TlsInfo("", "", "", "", "")


UNUSABLE = [
    ({"cert_file": "missing.pem"}, "certificate load failed"),
    ({"cert_file": "noise.pem"}, "certificate load failed"),
    ({"key_file": "noise.pem"}, "certificate load failed"),
    ({"sni_certs": {"a.example": ("noise.pem", "")}}, "certificate load failed"),
    ({"client_cert_mode": "optional", "client_ca_bundle": "noise.pem"}, "client CA bundle"),
    ({"keylog_file": "missing/log"}, "key log file load failed"),
]


@pytest.mark.parametrize(("settings", "text"), UNUSABLE, ids=str)
def test_files_are_loaded_at_once(
    pki: Pki, tmp_path: Path, settings: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nnoise\n")
    with pytest.raises(TlsServerError, match=text):
        pki.acceptor(**settings)


def test_a_key_of_another_certificate_is_refused(pki: Pki) -> None:
    with pytest.raises(TlsServerError, match="certificate load failed"):
        pki.acceptor(key_file=pki.client)


# -- what is agreed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (["h2", "http/1.1"], ["http/1.1", "h2"], "h2"),
        (["http/1.1"], ["h2", "http/1.1"], "http/1.1"),
        (["h2"], ["http/1.1"], ""),
        (["h2"], [], ""),
        ([], ["h2"], ""),
    ],
)
def test_the_first_protocol_of_ours_that_the_client_offers(
    pki: Pki, ours: list[str], theirs: list[str], agreed: str
) -> None:
    config = pki.client_config(alpn=theirs)
    with connection(pki.acceptor(alpn=ours), config) as (client, server, info):
        assert client.alpn_selected() == server.alpn_selected() == info.alpn_protocol == agreed


def test_a_minimum_version_is_kept(pki: Pki) -> None:
    acceptor = pki.acceptor(min_protocol=TLS_PROTOCOL_TLS13)
    old = TlsConfig(ssl_context=pki.context(maximum_version=ssl.TLSVersion.TLSv1_2))
    with pytest.raises(TlsHandshakeError, match="PROTOCOL_VERSION"), connection(acceptor, old):
        pass
    with connection(acceptor, pki.client_config()) as (_, _, info):
        assert info.protocol == "TLSv1.3"


def test_a_context_of_the_callers_serves(pki: Pki) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.server)
    acceptor = TlsAcceptor(TlsServerConfig(ssl_context=context))
    assert acceptor.context is context
    with connection(acceptor, pki.client_config()) as (_, _, info):
        assert info.protocol == "TLSv1.3"
    acceptor.reload()
    assert acceptor.context is context


# -- several certificates ---------------------------------------------------------------


def names_of(stream: TlsStream) -> list[str]:
    from cryptography import x509

    found = x509.load_der_x509_certificate(stream.peer_cert_der())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("one.example", "one.example"),
        ("ONE.example", "one.example"),
        ("two.example", "two.example"),
        ("a.two.example", "*.two.example"),
        ("special.two.example", "special.two.example"),
        ("a.b.two.example", "localhost"),
        ("unknown.example", "localhost"),
        ("127.0.0.1", "localhost"),
    ],
)
def test_the_certificate_is_the_host_s(pki: Pki, asked: str, shown: str) -> None:
    hosts = ["one.example", "two.example", "*.two.example", "special.two.example"]
    certificates = {host.upper(): (pki.issue(host), "") for host in hosts}
    acceptor = pki.acceptor(sni_certs=certificates, alpn=["h2"])
    config = pki.client_config(server_name=asked, alpn=["h2"])
    if shown == "localhost" and asked != "127.0.0.1":
        with pytest.raises(CertificateHostnameMismatch), connection(acceptor, config):
            pass
        return
    with connection(acceptor, config) as (client, _, info):
        assert shown in names_of(client)
        assert info.sni_host == ("" if asked == "127.0.0.1" else asked.lower())
        assert info.alpn_protocol == "h2"


def test_client_certificates_are_asked_for_whatever_the_host(pki: Pki) -> None:
    acceptor = pki.acceptor(
        sni_certs={"one.example": (pki.issue("one.example"), "")},
        require_client_cert=True,
        client_ca_bundle=pki.bundle,
    )
    config = pki.client_config(cert_file=pki.client)
    for host in ("one.example", "localhost"):
        with connection(acceptor, config, host) as (_, _, info):
            assert info.client_cert_subject.endswith("/CN=client")
        with pytest.raises(TlsServerError, match="no certificate"):
            reject(acceptor, pki.client_config(), host)


# -- client certificates ----------------------------------------------------------------


def reject(acceptor: TlsAcceptor, config: TlsConfig, host: str = "localhost") -> None:
    """Have a client refused after its own handshake, which succeeds in TLS 1.3."""
    one, other = tcp_pair()
    server = Background(lambda: acceptor.handshake(other))
    client = TlsStream.connect_over_tcp(one, host, config)
    with client, pytest.raises(TlsHandshakeError, match=f"{host} refused our certificate"):
        client.read()
    server.result()


@pytest.fixture(params=["required", "optional"])
def asking(request: pytest.FixtureRequest, pki: Pki) -> TlsAcceptor:
    return pki.acceptor(client_cert_mode=request.param, client_ca_bundle=pki.bundle)


def test_a_client_with_a_certificate_is_known(pki: Pki, asking: TlsAcceptor) -> None:
    config = pki.client_config(cert_file=pki.client)
    with connection(asking, config) as (client, server, info):
        assert info.client_cert_subject.endswith("/CN=client")
        assert server.peer_cert_subject() == info.client_cert_subject
        assert client.info().client_cert_subject == ""
        client.write_all(b"x")
        assert server.read() == b"x"


def test_a_client_with_its_key_in_another_file(pki: Pki, tmp_path: Path) -> None:
    acceptor = pki.acceptor(require_client_cert=True, client_ca_bundle=pki.bundle)
    text = pki.client.read_text()
    at = text.index("-----BEGIN CERT")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.write_text(text[:at])
    cert.write_text(text[at:])
    with connection(acceptor, pki.client_config(cert_file=cert, key_file=str(key))) as (_, _, info):
        assert info.client_cert_subject.endswith("/CN=client")


def test_a_client_without_one(pki: Pki, asking: TlsAcceptor) -> None:
    if asking.config.client_cert_mode == "optional":
        with connection(asking, pki.client_config()) as (_, _, info):
            assert info.client_cert_subject == ""
    else:
        with pytest.raises(TlsServerError, match="no certificate to show"):
            reject(asking, pki.client_config())


def test_a_client_with_one_of_a_stranger(pki: Pki, asking: TlsAcceptor) -> None:
    config = pki.client_config(cert_file=pki.issue("client.example", by=pki.stranger))
    with pytest.raises(TlsServerError, match="the client's certificate was refused") as caught:
        reject(asking, config)
    assert caught.value.verify_code in (19, 20, 21)
    assert caught.value.verify_message


def test_a_client_with_one_that_has_expired(pki: Pki, asking: TlsAcceptor) -> None:
    config = pki.client_config(cert_file=pki.issue("client.example", days=(-9, -2)))
    with pytest.raises(TlsServerError, match="expired") as caught:
        reject(asking, config)
    assert caught.value.verify_code == 10


def test_in_tls_12_a_client_learns_it_in_the_handshake(pki: Pki, asking: TlsAcceptor) -> None:
    context = pki.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.load_cert_chain(pki.issue("client.example", by=pki.stranger))
    with (
        pytest.raises(TlsHandshakeError, match="UNKNOWN_CA"),
        connection(asking, TlsConfig(ssl_context=context)),
    ):
        pass


# -- reload -----------------------------------------------------------------------------


def test_reload_serves_the_new_certificate_and_drops_nobody(pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    shutil.copy(pki.issue("localhost", common_name="old"), path)
    acceptor = pki.acceptor(cert_file=path)
    config = pki.client_config()
    with connection(acceptor, config) as (before, server, _):
        server.write_all(b"x")
        before.read()
        session = before.session()
        shutil.copy(pki.issue("localhost", common_name="new"), path)
        assert acceptor.reload_if_changed()
        assert not acceptor.reload_if_changed()
        with connection(acceptor, config) as (after, _, _):
            assert after.peer_cert_subject().endswith("/CN=new")
        assert before.peer_cert_subject().endswith("/CN=old")
        before.write_all(b"still here")
        assert server.read_exact(10) == b"still here"
    # Tickets from before stay good.
    with connection(acceptor, config, session=session) as (client, _, _):
        assert client.was_session_reused()


def test_reload_exchanges_every_host_s_certificate(pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "one.pem"
    shutil.copy(pki.issue("one.example", common_name="old"), path)
    acceptor = pki.acceptor(sni_certs={"one.example": (path, "")})
    shutil.copy(pki.issue("one.example", common_name="new"), path)
    acceptor.reload()
    with connection(acceptor, pki.client_config(), "one.example") as (client, _, _):
        assert client.peer_cert_subject().endswith("/CN=new")


@pytest.mark.parametrize("content", [None, b"noise"])
def test_a_reload_that_fails_changes_nothing(
    pki: Pki, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "server.pem"
    shutil.copy(pki.issue("localhost", common_name="old"), path)
    acceptor = pki.acceptor(cert_file=path)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(TlsServerError, match="certificate load failed"):
            acceptor.reload_if_changed()
    with connection(acceptor, pki.client_config()) as (client, _, _):
        assert client.peer_cert_subject().endswith("/CN=old")


def test_reload_takes_a_new_client_authority_and_forgets_those_it_let_in(
    pki: Pki, tmp_path: Path
) -> None:
    bundle = tmp_path / "clients.pem"
    shutil.copy(pki.bundle, bundle)
    acceptor = pki.acceptor(require_client_cert=True, client_ca_bundle=bundle)
    config = pki.client_config(cert_file=pki.client)
    with connection(acceptor, config) as (client, server, _):
        server.write_all(b"x")
        client.read()
        session = client.session()
    shutil.copy(pki.stranger_bundle, bundle)
    acceptor.reload()
    one, other = tcp_pair()
    server_side = Background(lambda: acceptor.handshake(other))
    client = TlsStream.connect_over_tcp(one, "localhost", config, session=session)
    with client, pytest.raises(TlsHandshakeError):
        client.read()
    with pytest.raises(TlsServerError, match="refused"):
        server_side.result()


def test_reload_while_clients_come_fails_for_none(pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    versions = [pki.issue("127.0.0.1", common_name=name).read_bytes() for name in "ab"]
    path.write_bytes(versions[0])
    config = TlsServerConfig(path)
    with TlsAcceptor.bind(SocketAddr.localhost(0), config) as acceptor:
        server = answering(acceptor, 40)
        stop, twice = threading.Event(), threading.Event()

        def reload() -> int:
            count = 0
            while not stop.is_set():
                if count == 2:
                    twice.set()
                count += 1
                fresh = tmp_path / "fresh.pem"
                fresh.write_bytes(versions[count % 2])
                fresh.replace(path)
                acceptor.reload()
            return count

        reloading = Background(reload)
        try:
            for number in range(40):
                if number == 20:
                    assert twice.wait(10)
                port = acceptor.local_addr().port
                with TlsStream.connect("127.0.0.1", port, pki.client_config()) as client:
                    assert exchange(client) == b"ping"
        finally:
            stop.set()
        assert reloading.result() > 1
        server.result()


def test_a_certificate_nobody_trusts_is_the_clients_to_refuse(pki: Pki) -> None:
    acceptor = pki.acceptor(cert_file=pki.issue("localhost", by=pki.stranger))
    one, other = tcp_pair()
    server = Background(lambda: acceptor.handshake(other))
    with pytest.raises(CertificateUntrusted):
        TlsStream.connect_over_tcp(one, "localhost", pki.client_config())
    with pytest.raises(TlsServerError, match="ALERT_UNKNOWN_CA"):
        server.result()
