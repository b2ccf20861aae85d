"""HTTPS: what a server does over plain connections it does over TLS."""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dispatching import until, worker_of
from serving import PATIENCE, Connect, Peer, Start
from tls_serving import ConnectTls, Pki, StartTls, der_of, secure, tls, tls_server

from flare.errors import ValidationError
from flare.http import Request, Response, StreamingResponse, ok, precompute_response
from flare.http.client import HttpClient
from flare.http.server import HttpServer, ServerConfig
from flare.http.server.kinds import Static
from flare.net import SocketAddr
from flare.tls import TLS_PROTOCOL_TLS13, TlsAcceptor, TlsServerConfig, TlsServerError

BIG = 8 * 1024 * 1024
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def about(request: Request) -> Response:
    """What a handler knows of its connection."""
    info = request.tls_info
    assert info is not None
    return ok(
        "|".join(
            [
                request.scheme,
                info.protocol,
                info.sni_host,
                info.alpn_protocol,
                info.client_cert_subject,
            ]
        )
    )


def _read_all(recv: Callable[[int], bytes]) -> bytes:
    received = b""
    while data := recv(1 << 20):
        received += data
    return received


def fingerprint(request: Request) -> Response:
    assert request.tls_info is not None
    return ok(hashlib.sha256(request.tls_info.client_cert).hexdigest())


def sizes(request: Request) -> Response:
    """The digest of the body, and as many bytes as the path says."""
    _, count = request.url.split("/")
    head = hashlib.sha256(request.body).hexdigest().encode()
    return ok(head + bytes(int(count or 0)))


# -- requests -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_requests_over_both_versions(
    start_tls: StartTls, connect_tls: ConnectTls, version: str
) -> None:
    peer = connect_tls(start_tls(about).address, maximum_version=VERSIONS[version])
    for _ in range(4):  # the later ones take the short lane
        peer.get("/")
        assert peer.read().body.decode() == f"https|{version}|localhost||"


def test_a_body_of_a_request_does_not_make_its_tls_info_go(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    peer = connect_tls(start_tls(about).address)
    peer.post(b"body")
    assert peer.read().body.startswith(b"https|TLSv1.3|localhost")


def test_a_plain_connection_has_no_tls_info(start: Start, connect: Connect) -> None:
    peer = connect(start(lambda request: ok(f"{request.tls_info} {request.scheme}")).address)
    peer.get("/")
    assert peer.read().body == b"None http"


def test_http_1_1_is_agreed_on_where_it_is_offered(
    start_tls: StartTls, connect_tls: ConnectTls, pki: Pki
) -> None:
    running = start_tls(about)
    assert "http/1.1" in running.server.advertised_alpn_protocols()
    context = pki.context()
    context.set_alpn_protocols(["spdy/1", "http/1.1"])
    peer = connect_tls(running.address, context=context)
    assert tls(peer).selected_alpn_protocol() == "http/1.1"
    peer.get("/")
    assert b"|http/1.1|" in peer.read().body


def test_a_client_that_offers_other_protocols_is_served(
    start_tls: StartTls, connect_tls: ConnectTls, pki: Pki
) -> None:
    context = pki.context()
    context.set_alpn_protocols(["spdy/1"])
    peer = connect_tls(start_tls(about).address, context=context)
    assert tls(peer).selected_alpn_protocol() is None
    peer.get("/")
    assert peer.read().status == 200


def test_requests_in_one_record_are_answered_in_order(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    peer = connect_tls(start_tls(lambda request: ok(request.url)).address)
    count = 100  # more than one turn's
    peer.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(count)))
    assert [peer.read().body for _ in range(count)] == [b"/%d" % n for n in range(count)]


def test_requests_in_many_records_at_once_are_answered(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    peer = connect_tls(start_tls(lambda request: ok(request.url)).address)
    for n in range(50):
        peer.get(f"/{n}")
    assert [peer.read().body for _ in range(50)] == [b"/%d" % n for n in range(50)]


def test_a_request_byte_by_byte(start_tls: StartTls, connect_tls: ConnectTls) -> None:
    peer = connect_tls(start_tls(lambda request: ok(request.url)).address)
    for byte in b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n":
        peer.send(bytes([byte]))
    assert peer.read().body == b"/slow"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_big_bodies_both_ways(
    start_tls: StartTls, connect_tls: ConnectTls, coding: str, version: str
) -> None:
    peer = connect_tls(start_tls(sizes).address, maximum_version=VERSIONS[version])
    body = bytes(range(256)) * (BIG // 256)
    if coding == "length":
        peer.post(body, target=f"/{BIG}")
    else:
        peer.send(f"POST /{BIG} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for at in range(0, BIG, 1 << 20):
            peer.send(b"100000\r\n" + body[at : at + (1 << 20)] + b"\r\n")
        peer.send(b"0\r\n\r\n")
    reply = peer.read()
    assert reply.body == hashlib.sha256(body).hexdigest().encode() + bytes(BIG)


def test_a_streamed_response(start_tls: StartTls, connect_tls: ConnectTls) -> None:
    def handler(request: Request) -> Any:
        return StreamingResponse(200, (b"%d," % n for n in range(2000)))

    peer = connect_tls(start_tls(handler).address)
    peer.get("/")
    assert peer.read().body == b"".join(b"%d," % n for n in range(2000))


def test_expect_100_continue(start_tls: StartTls, connect_tls: ConnectTls) -> None:
    peer = connect_tls(start_tls(sizes).address)
    peer.send(b"POST /0 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert peer.read().status == 100
    peer.send(b"hi")
    assert peer.read().body == hashlib.sha256(b"hi").hexdigest().encode()


def test_serve_static(connect_tls: ConnectTls, start_tls: StartTls) -> None:
    answer = precompute_response(status=200, content_type="text/plain", body="static")
    peer = connect_tls(start_tls(Static(answer)).address)
    for _ in range(3):
        peer.get("/")
        assert peer.read().body == b"static"


def test_the_access_log(
    start_tls: StartTls, connect_tls: ConnectTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flare.access")
    running = start_tls(lambda request: ok("hello"), ServerConfig(access_log=True))
    peer = connect_tls(running.address)
    peer.get("/path")
    peer.read()
    peer.close()
    running.stop()
    (line,) = [r.getMessage() for r in caplog.records if r.name == "flare.access"]
    assert line.startswith("127.0.0.1:")
    assert '"GET /path HTTP/1.1" 200 5 ' in line


def test_over_a_unix_socket(start: Start, connect: Connect, pki: Pki, tmp_path: Path) -> None:
    config = TlsServerConfig(pki.server)
    server = HttpServer.bind_unix(tmp_path / "s", tls=config)
    peer = secure(connect(start(about, server=server).address), pki.context())
    peer.get("/")
    assert peer.read().body.startswith(b"https|TLSv1.3|localhost")


def test_over_io_uring(start_tls: StartTls, connect_tls: ConnectTls) -> None:
    from flare.runtime.uring import is_bufring_available

    if not is_bufring_available():
        pytest.skip("the system has no io_uring with provided buffers")
    peer = connect_tls(start_tls(sizes, ServerConfig(use_bufring=True)).address)
    for _ in range(3):
        peer.get("/10")
        assert len(peer.read().body) == 74
    body = bytes(range(256)) * (BIG // 256)
    peer.post(body, target=f"/{BIG}")
    assert peer.read().body == hashlib.sha256(body).hexdigest().encode() + bytes(BIG)
    tls(peer).unwrap()


# -- a peer that is slow, or leaves ------------------------------------------------------------


def test_a_peer_that_does_not_read_is_not_read_from_and_loses_nothing(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    peer = connect_tls(start_tls(sizes).address, options={"receive_buffer": 4096})
    for _ in range(6):  # small enough for the socket; a second thread must not use an SSLSocket
        peer.get(f"/{1 << 20}")
    for _ in range(6):
        assert len(peer.read().body) == 64 + (1 << 20)


def test_a_peer_that_never_reads_is_cut_off(start_tls: StartTls, connect_tls: ConnectTls) -> None:
    running = start_tls(sizes, ServerConfig(write_timeout_ms=200))
    peer = connect_tls(running.address, options={"receive_buffer": 4096})
    peer.get(f"/{64 << 20}")
    other = connect_tls(running.address)
    other.get("/0")
    assert other.read().status == 200
    until(lambda: len(worker_of(running).connections) == 1)
    with pytest.raises(OSError):  # a reset, or an end that was not announced
        _read_all(tls(peer).recv)


def test_a_response_is_followed_by_a_close_notify(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    peer = connect_tls(start_tls(sizes).address)
    peer.get("/0", "Connection: close")
    assert peer.read().status == 200
    assert tls(peer).recv(1) == b""  # and no SSLEOFError


@pytest.mark.parametrize("version", VERSIONS)
def test_a_close_notify_is_answered(
    start_tls: StartTls, connect_tls: ConnectTls, version: str
) -> None:
    peer = connect_tls(start_tls(sizes).address, maximum_version=VERSIONS[version])
    peer.get("/0")
    peer.read()
    peer.sock = tls(peer).unwrap()  # waits for the server's
    assert peer.sock.recv(1) == b""


def test_a_close_notify_right_behind_a_request(
    start_tls: StartTls, connect: Connect, pki: Pki
) -> None:
    """Both come in one piece, and nothing more to tell the reactor of the end."""
    peer = connect(start_tls(sizes).address)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = pki.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            peer.send(outgoing.read())
            incoming.write(peer.sock.recv(65536))
    client.write(b"GET /0 HTTP/1.1\r\nHost: h\r\n\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        client.unwrap()
    peer.send(outgoing.read())
    incoming.write(_read_all(peer.sock.recv))
    assert client.read(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(ssl.SSLZeroReturnError):
        client.read(65536)


def test_a_peer_that_leaves_without_a_close_notify(
    start_tls: StartTls, connect_tls: ConnectTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flare.error")
    running = start_tls(sizes)
    for half in (
        b"",
        b"GET /0 HT",
        b"POST /0 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
    ):
        peer = connect_tls(running.address)
        peer.get("/0")
        peer.read()
        if half:
            peer.send(half)
        peer.close()
    peer = connect_tls(running.address)
    peer.get("/0")
    assert peer.read().status == 200
    assert not caplog.records


def test_bytes_that_were_tampered_with_end_the_connection(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    running = start_tls(sizes)
    peer = connect_tls(running.address)
    peer.get("/0")
    peer.read()
    plain = tls(peer).detach()
    with socket.socket(fileno=plain) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert sock.recv(100)[:1] in (b"\x15", b"\x17")  # an alert, encrypted in TLS 1.3
        assert sock.recv(100) == b""
    other = connect_tls(running.address)
    other.get("/0")
    assert other.read().status == 200


# -- certificates -------------------------------------------------------------------------------


def test_the_certificate_is_the_one_of_the_name_asked_for(
    start_tls: StartTls, connect_tls: ConnectTls, pki: Pki
) -> None:
    one, wild = pki.issue("one.example"), pki.issue("*.two.example")
    running = start_tls(about, sni_certs={"one.example": (one, ""), "*.two.example": (wild, "")})
    for host in ("one.example", "a.two.example", "localhost"):
        peer = connect_tls(running.address, host=host)  # verifies the name
        peer.get("/")
        assert f"|{host}|" in peer.read().body.decode()


def test_a_client_certificate_shows_in_the_request(
    start_tls: StartTls, connect_tls: ConnectTls, pki: Pki
) -> None:
    running = start_tls(about, client_ca_bundle=pki.bundle, client_cert_mode="optional")
    context = pki.context()
    context.load_cert_chain(pki.client)
    peer = connect_tls(running.address, context=context)
    peer.get("/")
    assert peer.read().body.endswith(b"/CN=client")
    peer = connect_tls(running.address)
    peer.get("/")
    assert peer.read().body.endswith(b"||")


def test_the_client_certificate_itself_is_there(
    start_tls: StartTls, connect_tls: ConnectTls, pki: Pki
) -> None:
    running = start_tls(fingerprint, client_ca_bundle=pki.bundle, require_client_cert=True)
    context = pki.context()
    context.load_cert_chain(pki.client)
    expected = hashlib.sha256(der_of(pki.client)).hexdigest()
    session = None
    for _ in range(2):  # the second time resumed
        peer = connect_tls(running.address, context=context, session=session)
        peer.get("/")
        assert peer.read().body.decode() == expected
        assert tls(peer).session_reused == (session is not None)
        session = tls(peer).session


def test_without_a_certificate_that_is_required_nobody_gets_in(
    start_tls: StartTls, connect_tls: ConnectTls, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flare.error")
    running = start_tls(about, require_client_cert=True, client_ca_bundle=pki.bundle)
    peer = connect_tls(running.address)  # in TLS 1.3 the client is done before it is judged
    peer.get("/")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        peer.read()
    running.stop()
    (record,) = caplog.records
    assert "TLS handshake failed: the client has no certificate to show" in record.getMessage()


def test_tls_1_2_is_refused_where_1_3_is_the_least(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    running = start_tls(about, min_protocol=TLS_PROTOCOL_TLS13)
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        connect_tls(running.address, maximum_version=ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed(
    start_tls: StartTls, connect_tls: ConnectTls, pki: Pki, version: str
) -> None:
    running = start_tls(about)
    context = pki.context(maximum_version=VERSIONS[version])
    peer = connect_tls(running.address, context=context)
    peer.get("/")
    peer.read()
    session = tls(peer).session
    again = connect_tls(running.address, context=context, session=session)
    again.get("/")
    assert again.read().status == 200
    assert tls(again).session_reused


def test_the_secrets_are_logged_on_request(
    start_tls: StartTls, connect_tls: ConnectTls, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    peer = connect_tls(start_tls(about, keylog_file=path).address)
    peer.get("/")
    peer.read()
    assert "SERVER_TRAFFIC_SECRET_0" in path.read_text()


# -- settings ---------------------------------------------------------------------------------


def test_an_acceptor_will_do(start: Start, connect: Connect, pki: Pki) -> None:
    acceptor = TlsAcceptor(TlsServerConfig(pki.server))
    server = HttpServer.bind(SocketAddr.localhost(0), tls=acceptor)
    assert server.advertised_alpn_protocols() == []
    peer = secure(connect(start(about, server=server).address), pki.context())
    peer.get("/")
    assert peer.read().status == 200


def test_a_protocol_that_the_server_does_not_speak_is_refused(pki: Pki) -> None:
    with pytest.raises(ValidationError) as caught:
        tls_server(pki, alpn=["http/1.1", "spdy/1"])
    assert caught.value.field == "tls"
    assert "spdy/1" in str(caught.value)


def test_files_that_cannot_be_used_are_told_before_anything_is_bound(
    pki: Pki, tmp_path: Path
) -> None:
    with pytest.raises(TlsServerError, match="certificate load failed"):
        tls_server(pki, cert_file=tmp_path / "none.pem")


def test_something_else_for_tls_is_refused() -> None:
    with pytest.raises(ValidationError):
        HttpServer.bind(SocketAddr.localhost(0), tls="cert.pem")  # type: ignore[arg-type]


def test_without_tls_there_is_nothing_to_reload_or_offer() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        assert server.advertised_alpn_protocols() == []
        with pytest.raises(ValidationError):
            server.reload_tls()


def test_peers_that_speak_tls_to_a_plain_port_are_refused(
    start: Start, connect: Connect, pki: Pki
) -> None:
    running = start(about)
    with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
        secure(connect(running.address), pki.context())
    peer = Peer(running.address)
    try:
        peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506) + b"\r\n\r\n")
        assert peer.read().status == 400
    finally:
        peer.close()


# -- HTTP/2 -----------------------------------------------------------------------------------


def test_http_2_is_spoken_with_clients_that_agree_on_it(start_tls: StartTls, pki: Pki) -> None:
    running = start_tls(lambda request: ok(f"{request.version} {about(request).text()}"))
    assert running.server.advertised_alpn_protocols() == ["h2", "http/1.1"]
    with HttpClient(f"https://localhost:{running.address[1]}", verify=pki.bundle) as client:
        for _ in range(3):
            assert client.get("/").text() == "HTTP/2 https|TLSv1.3|localhost|h2|"


def test_big_bodies_over_http_2(start_tls: StartTls, pki: Pki) -> None:
    body = bytes(range(256)) * (BIG // 256)
    running = start_tls(sizes)
    with HttpClient(f"https://localhost:{running.address[1]}", verify=pki.bundle) as client:
        answer = client.post(f"/{BIG}", body)
    assert answer.body == hashlib.sha256(body).hexdigest().encode() + bytes(BIG)


def test_a_static_answer_over_http_2(start_tls: StartTls, pki: Pki) -> None:
    answer = precompute_response(status=200, content_type="text/plain", body="static")
    running = start_tls(Static(answer))
    with HttpClient(f"https://localhost:{running.address[1]}", verify=pki.bundle) as client:
        assert client.get("/").text() == "static"


def test_http_2_may_be_switched_off(start_tls: StartTls, pki: Pki) -> None:
    running = start_tls(lambda request: ok(request.version), ServerConfig(http2=False))
    assert running.server.advertised_alpn_protocols() == ["http/1.1"]
    with HttpClient(f"https://localhost:{running.address[1]}", verify=pki.bundle) as client:
        assert client.get("/").text() == "HTTP/1.1"


def test_an_upgrade_to_http_2_is_for_plain_connections(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    peer = connect_tls(start_tls(lambda request: ok(request.version)).address)
    peer.get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    reply = peer.read()
    assert (reply.status, reply.body) == (200, b"HTTP/1.1")


def test_the_preface_of_http_2_without_agreement_is_refused(
    start_tls: StartTls, connect_tls: ConnectTls
) -> None:
    peer = connect_tls(start_tls(about).address)
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    assert peer.read().status in (400, 505)
