"""Which HTTP is spoken: ALPN over TLS, prior knowledge, and the upgrade in the clear."""

from __future__ import annotations

import os
import ssl
import threading
from base64 import urlsafe_b64decode

import pytest
from scripted import ScriptedServer, answers, response
from scripted_h2 import H2Peer, Reply, Wire, data, handling, head

from flare.errors import ValidationError
from flare.http import HttpClient
from flare.http.errors import HttpProtocolError
from flare.http2 import Http2Config, Http2Connection, build_goaway, build_settings
from flare.tls import TlsConfig


def context(pki, *alpn: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pki.server)
    if alpn:
        made.set_alpn_protocols(alpn)
    return made


def test_h2_is_agreed_on_by_alpn(pki):
    with (
        H2Peer(handling(), tls=context(pki, "h2", "http/1.1")) as peer,
        HttpClient(peer.base, verify=pki.bundle) as client,
    ):
        got = client.get("/a")
        assert (got.version, got.body, got.tls_info.alpn_protocol) == ("HTTP/2", b"/a", "h2")
        assert client.get("/b").ok
        assert (peer.connections, client.idle_count()) == (1, 1)


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
def test_other_servers_speak_http_1_1(pki, alpn):
    script = answers(response(b"a"), response(b"b"))
    with (
        ScriptedServer([script], tls=context(pki, *alpn)) as server,
        HttpClient(server.base, verify=pki.bundle) as client,
    ):
        for body in (b"a", b"b"):
            got = client.get("/")
            assert (got.version, got.body) == ("HTTP/1.1", body)
            assert got.tls_info.alpn_protocol == "".join(alpn)
        assert server.connections == 1


def test_alpn_can_be_chosen(pki):
    with ScriptedServer([answers(response(b"a"))], tls=context(pki, "h2", "http/1.1")) as server:
        config = TlsConfig(ca_bundle=pki.bundle, alpn=["http/1.1"])
        with HttpClient(server.base, tls=config) as client:
            assert client.get("/").version == "HTTP/1.1"


def test_a_protocol_that_is_not_http(pki):
    with ScriptedServer([[]], tls=context(pki, "smtp")) as server:
        config = TlsConfig(ca_bundle=pki.bundle, alpn=["smtp"])
        with HttpClient(server.base, tls=config) as client:
            with pytest.raises(HttpProtocolError, match="'smtp', which is not HTTP"):
                client.get("/")
            assert client._pool.counts() == (0, 0, 0)


def test_a_context_of_the_callers_own(pki):
    own = ssl.create_default_context(cafile=str(pki.bundle))
    own.set_alpn_protocols(["h2"])
    with (
        H2Peer(handling(), tls=context(pki, "h2")) as peer,
        HttpClient(peer.base, tls=TlsConfig(ssl_context=own)) as client,
    ):
        assert client.get("/").version == "HTTP/2"


def test_forty_threads_over_tls(pki):
    with (
        H2Peer(handling(), tls=context(pki, "h2")) as peer,
        HttpClient(peer.base, verify=pki.bundle, timeout_ms=60_000) as client,
    ):
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for turn in range(50):
                    path = f"/{number}/{turn}"
                    assert client.get(path).text() == path
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert peer.connections == 1


@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
def test_bodies_over_tls(pki, size):
    body = os.urandom(size)
    with (
        H2Peer(handling(lambda request: Reply(body=request.body)), tls=context(pki, "h2")) as peer,
        HttpClient(peer.base, verify=pki.bundle) as client,
    ):
        assert client.post("/", body).body == body


def test_sessions_are_resumed(pki):
    resumed = []

    def once(wire: Wire) -> None:
        resumed.append(wire.sock.session_reused)
        wire.begin()
        sid, _ = wire.request()
        wire.send(build_goaway(sid, 0))
        wire.answer(sid, b"x")
        wire.rest()

    with (
        H2Peer(once, tls=context(pki, "h2")) as peer,
        HttpClient(peer.base, verify=pki.bundle) as client,
    ):
        for _ in range(3):
            assert client.get("/").body == b"x"
    assert resumed == [False, True, True]


def upgrading(rest: bytes = b""):
    """A server that switches to HTTP/2, and answers by flare's own codec."""

    def serve(wire: Wire) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += wire.sock.recv(65536)
        seen.append(received)
        fields = dict(
            line.lower().split(": ", 1) for line in received.decode().split("\r\n")[1:] if line
        )
        raw = received.split(b"HTTP2-Settings: ")[1].split(b"\r\n")[0]
        settings = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
        assert fields["connection"] == "upgrade, http2-settings"

        class Asked:
            method = received.split(b" ")[0].decode()
            url = received.split(b" ")[1].decode()
            headers = ()
            body = b""
            trailers = None

        server = Http2Connection.from_h2c_upgrade(Http2Config(), Asked(), settings)
        switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        for sid in server.take_completed_streams():
            server.emit_response(sid, Reply(body=b"upgraded " + Asked.url.encode()))
        wire.sock.sendall(switch + server.drain())
        while received := wire.sock.recv(65536):
            server.feed(received)
            for sid in server.take_completed_streams():
                request = server.take_request(sid)
                server.emit_response(sid, Reply(body=request.url.encode() + request.body))
            wire.sock.sendall(server.drain())

    seen: list[bytes] = []
    serve.seen = seen  # type: ignore[attr-defined]
    return serve


def test_an_upgrade_in_the_clear():
    script = upgrading()
    with H2Peer(script) as peer, HttpClient(peer.base, h2c_upgrade=True) as client:
        got = client.get("/a")
        assert (got.version, got.body) == ("HTTP/2", b"upgraded /a")
        got = client.post("/b", b"body")
        assert (got.version, got.body) == ("HTTP/2", b"/bbody")
        assert client.get("/c").body == b"/c"
        assert (peer.connections, client._pool.counts()) == (1, (0, 1, 0))
        assert script.seen[0].count(b"Upgrade: h2c") == 1


def test_a_server_that_does_not_upgrade_answers_by_http_1_1():
    with ScriptedServer([answers(response(b"a"), response(b"b"))]) as server:
        with HttpClient(server.base, h2c_upgrade=True) as client:
            assert client.get("/").version == "HTTP/1.1"
            assert client.get("/").body == b"b"
        first, second = server.requests()
        assert b"Upgrade: h2c" in first
        assert b"Upgrade" not in second


def test_a_request_with_a_body_asks_for_no_upgrade():
    with ScriptedServer([answers(response(b"a"))]) as server:
        with HttpClient(server.base, h2c_upgrade=True) as client:
            assert client.post("/", b"body").body == b"a"
        assert b"Upgrade" not in server.seen[0]


@pytest.mark.parametrize("upgrade", ["", "Upgrade: websocket\r\n"])
def test_an_upgrade_to_something_else(upgrade):
    switch = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{upgrade}\r\n".encode()
    with (
        ScriptedServer([answers(switch)]) as server,
        HttpClient(server.base, h2c_upgrade=True) as client,
    ):
        with pytest.raises(HttpProtocolError, match="101"):
            client.get("/")
        assert client._pool.counts() == (0, 0, 0)


def test_an_upgrade_that_fails_half_way():
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    broken = build_settings() + head(1, [("x", "no status")], end=False) + data(1, b"x", end=True)
    with (
        ScriptedServer([answers(switch + broken)]) as server,
        HttpClient(server.base, h2c_upgrade=True) as client,
    ):
        with pytest.raises(HttpProtocolError):
            client.get("/")
        client.close()
        assert client._pool.counts() == (0, 0, 0)


def test_https_is_left_alone_by_the_settings_of_http(pki):
    with H2Peer(handling(), tls=context(pki, "h2")) as peer:
        settings = {"prefer_h2c": True, "h2c_upgrade": True}
        with HttpClient(peer.base, verify=pki.bundle, **settings) as client:
            assert client.get("/").version == "HTTP/2"


def test_streams_in_memory_cannot_be_shared():
    from scripted import MemoryTransport

    transport = MemoryTransport(lambda stream: None)
    with (
        HttpClient("http://a.example", prefer_h2c=True, transport=transport) as client,
        pytest.raises(ValidationError, match="descriptor"),
    ):
        client.get("/")
    transport.join()
