"""A session shortens the next handshake, with the same server and configuration only."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tls_peers import Pki, answering, connection, exchange

from flare.net import SocketAddr
from flare.tls import TlsAcceptor, TlsConfig, TlsServerConfig, TlsSession, TlsStream


@pytest.fixture
def acceptor(pki: Pki) -> Iterator[TlsAcceptor]:
    config = TlsServerConfig(pki.issue("localhost", "127.0.0.1", "other.example"), alpn=["h2"])
    with TlsAcceptor.bind(SocketAddr.localhost(0), config) as acceptor:
        yield acceptor


def session_with(acceptor: TlsAcceptor, config: TlsConfig) -> TlsSession:
    with connection(acceptor, config) as (client, server, _):
        server.write_all(b"x")
        client.read()
        return client.session()


def resumes(
    acceptor: TlsAcceptor, config: TlsConfig, session: TlsSession, host: str = "localhost"
) -> bool:
    with connection(acceptor, config, host, session=session) as (client, server, _):
        assert client.was_session_reused() == server.was_session_reused()
        return client.was_session_reused()


def versions() -> list[Any]:
    return [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", versions())
def test_a_session_is_resumed(pki: Pki, acceptor: TlsAcceptor, version: ssl.TLSVersion) -> None:
    config = TlsConfig(ssl_context=pki.context(maximum_version=version))
    session = session_with(acceptor, config)
    assert session
    assert session.session_addr() != 0
    assert session.lifetime_s == 7200
    assert abs(session.created_at - time.time()) < 60
    assert "localhost" in repr(session)
    assert resumes(acceptor, config, session)


def test_connect_resumed_keeps_the_protocol(pki: Pki, acceptor: TlsAcceptor) -> None:
    server = answering(acceptor, 2)
    config = pki.client_config(alpn=["h2"])
    port = acceptor.local_addr().port
    with TlsStream.connect("localhost", port, config) as client:
        assert not client.was_session_reused()
        exchange(client)
        session = client.session()
    # An equal configuration is as good as the same.
    again = pki.client_config(alpn=["h2"])
    with TlsStream.connect_resumed("localhost", port, again, session) as client:
        assert client.was_session_reused()
        assert client.alpn_selected() == "h2"
        assert client.peer_cert_subject().startswith("/O=trustme")
        exchange(client)
    server.result()


def test_in_tls_13_there_is_no_session_before_something_was_read(
    pki: Pki, acceptor: TlsAcceptor
) -> None:
    with connection(acceptor, pki.client_config()) as (client, server, _):
        assert not client.session()
        assert client.session().session_addr() == 0
        server.write_all(b"x")
        client.read()
        assert client.session()
        assert not server.session()


def test_none_is_kept_where_none_is_wanted(pki: Pki, acceptor: TlsAcceptor) -> None:
    assert not session_with(acceptor, pki.client_config(enable_session_resumption=False))


def test_an_empty_session_is_a_full_handshake(pki: Pki, acceptor: TlsAcceptor) -> None:
    empty = TlsSession()
    assert not empty
    assert (empty.session_addr(), empty.lifetime_s, empty.created_at) == (0, 0, 0.0)
    assert repr(empty) == "<TlsSession empty>"
    assert not resumes(acceptor, pki.client_config(), empty)


def test_a_session_is_not_for_another_host(pki: Pki, acceptor: TlsAcceptor) -> None:
    # A resumed handshake shows no certificate: the name would go unverified.
    config = pki.client_config()
    session = session_with(acceptor, config)
    assert not resumes(acceptor, config, session, "other.example")
    assert resumes(acceptor, config, session)


def test_a_session_is_not_for_another_configuration(pki: Pki, acceptor: TlsAcceptor) -> None:
    session = session_with(acceptor, pki.client_config())
    assert not resumes(acceptor, pki.client_config(alpn=["h2"]), session)
    assert not resumes(acceptor, TlsConfig(ssl_context=pki.context()), session)


def test_an_old_session_is_not_tried(pki: Pki, acceptor: TlsAcceptor) -> None:
    session = session_with(acceptor, pki.client_config())
    session.created_at -= 7300
    assert not resumes(acceptor, pki.client_config(), session)


def test_a_server_that_does_not_know_the_session_does_a_full_handshake(
    pki: Pki, acceptor: TlsAcceptor
) -> None:
    session = session_with(acceptor, pki.client_config())
    assert not resumes(pki.acceptor(), pki.client_config(), session)


@pytest.mark.parametrize("version", versions())
def test_without_tickets_there_is_none(pki: Pki, version: ssl.TLSVersion) -> None:
    config = TlsConfig(ssl_context=pki.context(maximum_version=version))
    without = pki.acceptor(enable_session_tickets=False)
    session = session_with(without, config)
    assert bool(session) is (version == ssl.TLSVersion.TLSv1_2)  # a session of the server's memory
    assert session._session is None or not session._session.has_ticket


def test_a_resumed_client_is_still_known_by_its_certificate(pki: Pki) -> None:
    acceptor = pki.acceptor(require_client_cert=True, client_ca_bundle=pki.bundle)
    config = pki.client_config(cert_file=pki.client)
    session = session_with(acceptor, config)
    with connection(acceptor, config, session=session) as (client, _, info):
        assert client.was_session_reused()
        assert info.client_cert_subject.endswith("/CN=client")


def test_ticket_keys_are_renewed(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    acceptor = pki.acceptor(ticket_lifetime_s=100)
    session = session_with(acceptor, pki.client_config())
    assert resumes(acceptor, pki.client_config(), session)
    now = time.monotonic()
    monkeypatch.setattr("flare.tls.acceptor.time.monotonic", lambda: now + 101)
    first = acceptor.context
    assert acceptor.context is first
    monkeypatch.undo()
    assert not resumes(acceptor, pki.client_config(), session)


def test_old_keys_stay_where_the_files_are_gone(pki: Pki, tmp_path: Any) -> None:
    path = tmp_path / "server.pem"
    path.write_bytes(pki.server.read_bytes())
    acceptor = pki.acceptor(cert_file=path, ticket_lifetime_s=1000)
    before = acceptor.context
    path.unlink()
    acceptor._born -= 1001
    with pytest.warns(RuntimeWarning, match="ticket keys not renewed"):
        assert acceptor.context is before
    with connection(acceptor, pki.client_config()) as (client, _, _):
        assert client.tls_version() == "TLSv1.3"


def test_a_lifetime_that_openssl_does_not_have_is_warned_of(pki: Pki) -> None:
    with pytest.warns(RuntimeWarning, match="7200"):
        pki.acceptor(ticket_lifetime_s=7201)
