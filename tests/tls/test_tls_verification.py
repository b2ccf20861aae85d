"""Who answers has to be who was asked for, and each way not to be has its own error."""

from __future__ import annotations

import ssl
import sys
import warnings

import pytest
import trustme
from tls_peers import EC, Background, Pki, connection, engines, shake, tcp_pair

from flare.tls import (
    CertificateExpired,
    CertificateHostnameMismatch,
    CertificateUntrusted,
    TlsAcceptor,
    TlsConfig,
    TlsEngine,
    TlsHandshakeError,
    TlsServerConfig,
    TlsServerError,
    TlsStream,
    TlsVerify,
)
from flare.tls.client_context import client_context

# The chain of a failed handshake can be asked for since Python 3.13.
KNOWS_SUBJECT = sys.version_info >= (3, 13)


def fail(pki: Pki, acceptor: TlsAcceptor, host: str = "localhost") -> TlsHandshakeError:
    """What a client's handshake with *acceptor* ends with."""
    context = client_context(pki.client_config()).context
    with pytest.raises(TlsHandshakeError) as caught:
        shake(*engines(acceptor, context, host))
    return caught.value


@pytest.mark.parametrize(
    ("days", "code", "verdict"),
    [((-10, -1), 10, "certificate has expired"), ((1, 10), 9, "certificate is not yet valid")],
)
def test_out_of_its_time(pki: Pki, days: tuple[int, int], code: int, verdict: str) -> None:
    server = pki.issue("localhost", days=days, common_name="late")
    error = fail(pki, pki.acceptor(cert_file=server))
    assert type(error) is CertificateExpired
    assert (error.verify_code, error.verify_message) == (code, verdict)
    assert error.reason == "CERTIFICATE_VERIFY_FAILED"
    assert verdict in str(error)
    assert error.subject.endswith("/CN=late") is KNOWS_SUBJECT


@pytest.mark.parametrize(
    ("host", "code"), [("other.example", 62), ("sub.localhost", 62), ("127.0.0.2", 64), ("::2", 64)]
)
def test_for_somebody_else(pki: Pki, host: str, code: int) -> None:
    error = fail(pki, pki.acceptor(), host)
    assert type(error) is CertificateHostnameMismatch
    assert (error.expected, error.verify_code) == (host, code)
    assert f"expected={host}" in str(error)
    assert error.subject.startswith("/O=trustme") is KNOWS_SUBJECT


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "::1"])
def test_the_right_one(pki: Pki, host: str) -> None:
    client, server = engines(pki.acceptor(), client_context(pki.client_config()).context, host)
    shake(client, server)
    assert server.sni_host() == ("localhost" if host.lower() == "localhost" else "")
    assert client.sni_host() == server.sni_host()


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("a.wild.example", True),
        ("wild.example", False),
        ("a.b.wild.example", False),
        ("xn--bcher-kva.example", True),
        ("bücher.example", True),
    ],
)
def test_wildcards_and_international_names(pki: Pki, host: str, fits: bool) -> None:
    acceptor = pki.acceptor(cert_file=pki.issue("*.wild.example", "xn--bcher-kva.example"))
    context = client_context(pki.client_config()).context
    if fits:
        shake(*engines(acceptor, context, host))
    else:
        assert type(fail(pki, acceptor, host)) is CertificateHostnameMismatch


def test_a_common_name_is_not_a_host_name(pki: Pki) -> None:
    acceptor = pki.acceptor(cert_file=pki.issue("else@where.example", common_name="localhost"))
    assert type(fail(pki, acceptor)) is CertificateHostnameMismatch


def test_by_somebody_unknown(pki: Pki) -> None:
    error = fail(pki, pki.acceptor(cert_file=pki.issue("localhost", by=pki.stranger)))
    assert type(error) is CertificateUntrusted
    assert error.verify_code in (19, 20, 21)
    assert error.verify_message in str(error)
    assert "localhost" in str(error)


def test_by_itself(pki: Pki) -> None:
    alone = trustme.CA(key_type=EC)
    path = pki.folder / "alone.pem"
    path.write_bytes(alone.private_key_pem.bytes() + alone.cert_pem.bytes())
    error = fail(pki, pki.acceptor(cert_file=path))
    assert type(error) is CertificateUntrusted
    assert error.verify_code == 18


def test_one_except_catches_each(pki: Pki) -> None:
    for settings in ({}, {"cert_file": pki.issue("localhost", by=pki.stranger)}):
        error = fail(pki, pki.acceptor(**settings), "elsewhere.example")
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert isinstance(error, OSError)


def test_server_name_is_what_is_asked_for_and_verified(pki: Pki) -> None:
    server = pki.issue("inside.example")
    config = pki.client_config(server_name="inside.example")
    with connection(pki.acceptor(cert_file=server), config, "127.0.0.1") as (_, _, info):
        assert info.sni_host == "inside.example"
    with pytest.raises(CertificateHostnameMismatch) as caught, connection(pki.acceptor(), config):
        pass
    assert caught.value.expected == "inside.example"


def test_a_name_may_end_with_the_root_dot(pki: Pki) -> None:
    with connection(pki.acceptor(), pki.client_config(), "localhost.") as (_, _, info):
        assert info.sni_host == "localhost"


def test_a_zone_is_no_part_of_the_address(pki: Pki) -> None:
    with connection(pki.acceptor(), pki.client_config(), "::1%lo"):
        pass


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64 + ".example", ".example", "nul\0.example"])
def test_what_is_no_host_name_is_a_failed_handshake(pki: Pki, host: str) -> None:
    one, other = tcp_pair()
    with other, pytest.raises(TlsHandshakeError):
        TlsStream.connect_over_tcp(one, host, pki.client_config())
    assert one.closed


def test_without_verification_anybody_will_do(pki: Pki) -> None:
    server = pki.issue("else.example", by=pki.stranger, days=(-10, -1), common_name="old")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = TlsConfig(verify=TlsVerify.NONE, alpn=["h2"])
        with connection(pki.acceptor(cert_file=server, alpn=["h2"]), config) as (client, _, _):
            assert client.peer_cert_subject().endswith("/CN=old")
            assert client.peer_cert_der() == ssl.PEM_cert_to_DER_cert(
                "-----BEGIN CERT" + server.read_text().split("-----BEGIN CERT")[1]
            )
            assert client.alpn_selected() == "h2"


def test_the_server_learns_why_it_was_refused(pki: Pki) -> None:
    context = client_context(pki.client_config()).context
    client, server = engines(pki.acceptor(), context, "other.example")
    client.handshake()
    server.receive(client.pending_output())
    server.handshake()
    client.receive(server.pending_output())
    with pytest.raises(CertificateHostnameMismatch):
        client.handshake()
    server.receive(client.pending_output())
    with pytest.raises(TlsServerError) as caught:
        server.handshake()
    assert "CERTIFICATE" in caught.value.reason
    assert str(caught.value).startswith("TlsServerError(TLS handshake failed: ")


def test_no_version_in_common(pki: Pki) -> None:
    from flare.tls import TLS_PROTOCOL_TLS13

    old = pki.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    client, server = engines(pki.acceptor(min_protocol=TLS_PROTOCOL_TLS13), old)
    client.handshake()
    server.receive(client.pending_output())
    with pytest.raises(TlsServerError) as refused:
        server.handshake()
    assert refused.value.reason == "UNSUPPORTED_PROTOCOL"
    client.receive(server.pending_output())
    with pytest.raises(TlsHandshakeError) as caught:
        client.handshake()
    assert type(caught.value) is TlsHandshakeError
    assert "PROTOCOL_VERSION" in caught.value.reason
    assert "localhost" in str(caught.value)


def test_a_client_may_insist_on_tls_13(pki: Pki) -> None:
    from flare.tls import TLS_PROTOCOL_TLS13

    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pki.server)
    server_context.maximum_version = ssl.TLSVersion.TLSv1_2
    acceptor = TlsAcceptor(TlsServerConfig(ssl_context=server_context))
    with connection(acceptor, pki.client_config()) as (client, _, info):
        assert client.tls_version() == info.protocol == "TLSv1.2"
        assert info.sni_host == ""
    with (
        pytest.raises(TlsHandshakeError, match="PROTOCOL_VERSION"),
        connection(acceptor, pki.client_config(min_protocol=TLS_PROTOCOL_TLS13)),
    ):
        pass


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b""])
def test_a_peer_that_does_not_speak_tls(pki: Pki, answer: bytes) -> None:
    one, other = tcp_pair()

    def serve() -> None:
        with other:
            other.read()
            other.write_all(answer)

    server = Background(serve)
    with pytest.raises(TlsHandshakeError) as caught:
        TlsStream.connect_over_tcp(one, "localhost", pki.client_config())
    server.result()
    assert one.closed
    expected = "does not speak TLS" if answer else "the server closed the connection"
    assert expected in str(caught.value)


def test_a_handshake_without_end_is_cut_off(pki: Pki) -> None:
    server = TlsEngine(pki.acceptor().context, server_side=True)
    record = b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(0x4000 - 4)

    def flood() -> None:
        for _ in range(6):
            server.receive(record)
            assert not server.handshake()

    with pytest.raises(TlsServerError):
        flood()
