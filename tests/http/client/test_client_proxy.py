"""Proxies: which one, what it is asked, what it is told of us, and what the server is not."""

from __future__ import annotations

import base64
import pickle
import ssl
import threading
from pathlib import Path

import pytest
from scripted import Body, Eof, Head, ScriptedServer, Send, StartTls, Whole, answers, response
from scripted_h2 import H2Peer, Wire, handling

from flare.errors import ConnectionRefused, ConnectionTimeout, NetworkError, ValidationError
from flare.http import HttpClient, ProxyError
from flare.http.client.proxy import Proxies, Proxy
from flare.http.client.target import Origin, Target
from flare.http.client.transport import TcpTransport
from flare.http.client.tunnel import open_tunnel
from flare.http2 import build_settings
from flare.tls import CertificateUntrusted
from flare.uds import UnixListener

MADE = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture
def server_tls(pki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.issue("origin.example"))
    return context


# -- which ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://p:3128", Proxy("http", "p", 3128)),
        ("http://p", Proxy("http", "p", 80)),
        ("http://p:80/", Proxy("http", "p", 80)),
        ("p:3128", Proxy("http", "p", 3128)),
        ("p", Proxy("http", "p", 80)),
        ("HTTP://P.Example:3128/", Proxy("http", "p.example", 3128)),
        ("http://u:p%40ss@p:1", Proxy("http", "p", 1, "u", "p@ss")),
        ("u:pw@p:1", Proxy("http", "p", 1, "u", "pw")),
        ("http://[::1]:8080", Proxy("http", "::1", 8080)),
        ("socks5://p", Proxy("socks5", "p", 1080)),
        ("socks5h://u:x@p:9", Proxy("socks5h", "p", 9, "u", "x")),
        ("socks5://p:80", Proxy("socks5", "p", 80)),
    ],
)
def test_what_a_proxy_is_written_as(text, expected):
    assert Proxy.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://p", "ftp://p", "socks4://p", "http://", "http://p/path", "http://p?x", "p:port",
        "http://a b", "http://p\r\nX: y", "socks5://u@p", f"socks5://u:{'x' * 256}@p",
        "http://u%3Ax:secret@p", "http://secret:secret@p:99999",
    ],
)  # fmt: skip
def test_what_is_no_proxy(text):
    with pytest.raises(ValidationError, match="proxy") as caught:
        Proxy.parse(text)
    assert "secret" not in str(caught.value)
    with pytest.raises(ValidationError):
        HttpClient(proxy=text)


def test_a_proxy_does_not_show_its_password():
    proxy = Proxy.parse("http://user:secret@p:1")
    assert repr(proxy) == "Proxy(http://p:1)"
    assert "secret" not in str(proxy)


ENVIRONMENT = {
    "HTTP_PROXY": "http://plain:1",
    "https_proxy": "secure:2",
    "ALL_PROXY": "socks5h://all:3",
    "NO_PROXY": "example.com, .dot.example ,10.0.0.0/8,[::1]:8080,fd00::/8,"
    "port.example:81,127.0.0.1",
}


@pytest.mark.parametrize(
    ("scheme", "host", "port", "proxy"),
    [
        ("http", "other.example", 80, "plain"),
        ("https", "other.example", 443, "secure"),
        ("http", "example.com", 80, None),
        ("http", "EXAMPLE.com.", 80, None),
        ("http", "www.example.com", 80, None),
        ("http", "badexample.com", 80, "plain"),
        ("http", "example.com.evil", 80, "plain"),
        ("http", "a.dot.example", 80, None),
        ("http", "dot.example", 80, None),
        ("http", "port.example", 80, "plain"),
        ("http", "port.example", 81, None),
        ("http", "10.1.2.3", 80, None),
        ("http", "11.1.2.3", 80, "plain"),
        ("http", "127.0.0.1", 80, None),
        ("http", "::1", 8080, None),
        ("http", "::1", 80, "plain"),
        ("http", "fd12::1", 80, None),
        ("http", "10.example", 80, "plain"),
    ],
)
def test_the_environment(scheme, host, port, proxy):
    found = Proxies(None, ENVIRONMENT).before(Origin(scheme, host, port))
    assert (found and found.host) == proxy


@pytest.mark.parametrize(
    ("explicit", "environment", "expected"),
    [
        (None, {}, None),
        (None, {"ALL_PROXY": "socks5h://all"}, "all"),
        (None, {"HTTP_PROXY": "upper", "http_proxy": "lower"}, "upper"),
        (None, {"HTTP_PROXY": "", "http_proxy": "lower"}, "lower"),
        (None, {"HTTP_PROXY": "upper", "REQUEST_METHOD": "GET"}, None),
        (None, {"HTTP_PROXY": "upper", "http_proxy": "lower", "REQUEST_METHOD": "GET"}, "lower"),
        (None, {"HTTP_PROXY": "p", "NO_PROXY": "*"}, None),
        (None, {"HTTP_PROXY": "p", "NO_PROXY": "a.example"}, None),
        ("mine", {"HTTP_PROXY": "p"}, "mine"),
        ("mine", {"NO_PROXY": "a.example"}, None),
        ("", {"HTTP_PROXY": "p", "ALL_PROXY": "q"}, None),
    ],
)
def test_who_has_the_last_word(explicit, environment, expected):
    found = Proxies(explicit, environment).before(Origin("http", "a.example", 80))
    assert (found and found.host) == expected


# -- asked for everything ---------------------------------------------------------------


def test_http_is_asked_of_the_proxy_itself():
    with ScriptedServer([answers(response(b"a"), response(b"b"))]) as proxy:
        with HttpClient(proxy=f"http://u:p@{proxy.peer}") as client:
            assert client.get("http://one.example/x?y#z").body == b"a"
            assert client.get("http://two.example:81/").body == b"b"  # by the same connection
            assert client.idle_count() == 1
        first, second = proxy.requests()
        assert first.startswith(
            b"GET http://one.example/x?y HTTP/1.1\r\n"
            b"Proxy-Authorization: Basic " + base64.b64encode(b"u:p") + b"\r\n"
            b"Host: one.example\r\n"
        )
        assert second.startswith(b"GET http://two.example:81/ HTTP/1.1\r\n")
        assert b"\r\nHost: two.example:81\r\n" in second


def test_the_callers_own_proxy_authorization_is_for_the_proxy():
    with ScriptedServer([answers(response(b"a"))]) as proxy:
        with HttpClient(proxy=f"u:p@{proxy.peer}") as client:
            client.get("http://a.example/", headers={"Proxy-Authorization": "mine"})
        assert proxy.seen[0].count(b"Proxy-Authorization") == 1
        assert b"Proxy-Authorization: mine\r\n" in proxy.seen[0]


def test_the_environment_is_seen_and_can_be_left_out(monkeypatch):
    with (
        ScriptedServer([answers(response(b"by proxy"))]) as proxy,
        ScriptedServer([answers(response(b"direct"))] * 2) as server,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.peer)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with HttpClient() as client:
            assert client.get(server.base).body == b"by proxy"
        with HttpClient(trust_env=False) as client:
            assert client.get(server.base).body == b"direct"
        with HttpClient(transport=TcpTransport()) as client:
            assert client.get(server.base).body == b"direct"


def test_a_proxy_that_is_not_there():
    with HttpClient(proxy="127.0.0.1:1") as client:
        with pytest.raises(ConnectionRefused) as caught:
            client.get("http://a.example/")
        assert "while connecting to the proxy 127.0.0.1:1" in caught.value.__notes__


# -- led through ------------------------------------------------------------------------


def test_https_goes_through_a_tunnel(pki, server_tls):
    script = [Head(), Send(MADE), StartTls(server_tls), *answers(response(b"a"), response(b"b"))]
    with ScriptedServer([script]) as proxy:
        with HttpClient(proxy=f"http://u:p@{proxy.peer}", verify=pki.bundle) as client:
            headers = {"Proxy-Authorization": "mine", "X": "1"}
            got = client.get("https://origin.example/x", headers=headers)
            assert (got.body, got.tls_info.protocol) == (b"a", "TLSv1.3")
            assert client.get("https://origin.example/y").body == b"b"
        connect, first, second = proxy.requests()
        assert connect == (
            b"CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\n"
            b"Proxy-Authorization: Basic " + base64.b64encode(b"u:p")
        )
        assert first.startswith(b"GET /x HTTP/1.1\r\nHost: origin.example\r\n")
        assert b"\r\nX: 1" in first
        for request in (first, second):
            assert b"proxy" not in request.lower()


def test_http_2_goes_through_a_tunnel(pki, server_tls):
    server_tls.set_alpn_protocols(["h2"])

    def leading(wire: Wire) -> None:
        asked.append(wire.sock.recv(65536))
        wire.sock.sendall(MADE)
        wire.sock = server_tls.wrap_socket(wire.sock, server_side=True)
        try:
            handling()(wire)
        finally:
            wire.sock.close()

    asked: list[bytes] = []
    with H2Peer(leading) as proxy:
        settings = {"proxy": f"localhost:{proxy.port}", "verify": pki.bundle}
        with HttpClient(**settings) as client:
            got = client.get("https://origin.example/x")
            assert (got.version, got.body) == ("HTTP/2", b"/x")
            assert client.get("https://origin.example/y").ok
        assert [line.split(b"\r\n")[0] for line in asked] == [
            b"CONNECT origin.example:443 HTTP/1.1"
        ]


def test_prior_knowledge_goes_through_a_tunnel_and_bytes_of_the_server_may_be_early():
    def leading(wire: Wire) -> None:
        assert wire.sock.recv(65536).startswith(b"CONNECT origin.example:80 HTTP/1.1\r\n")
        wire.sock.sendall(MADE + build_settings())  # as if the server were quick
        wire.begin()
        wire.answer(wire.request()[0], b"hello")
        wire.rest()

    with H2Peer(leading) as proxy:
        settings = {"proxy": f"localhost:{proxy.port}", "prefer_h2c": True}
        with HttpClient(**settings) as client:
            assert client.get("http://origin.example/").body == b"hello"


def test_the_server_behind_a_proxy_is_verified(pki, server_tls):
    script = [Head(), Send(MADE), StartTls(server_tls)]
    with ScriptedServer([script]) as proxy, HttpClient(proxy=proxy.peer) as client:
        with pytest.raises(CertificateUntrusted):
            client.get("https://origin.example/")
        assert client._pool.counts() == (0, 0, 0)


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
            407,
            "407 Pro",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, "502 Bad Gateway"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://evil/\r\n\r\n", 301, "301"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, "101"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", 0, "not an HTTP proxy"),
        (b"", 0, "not an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000, 0, "not an HTTP proxy"),
        (MADE + b"HTTP/1.1 200 early\r\n\r\n", 0, "bytes came that nobody has asked for"),
    ],
)
def test_a_proxy_that_does_not_lead_there(answer, status, text):
    with ScriptedServer([[Head(), Send(answer)]]) as proxy:
        with HttpClient(proxy=proxy.peer) as client:
            with pytest.raises(ProxyError, match=text) as caught:
                client.get("https://origin.example/")
            assert (caught.value.status, caught.value.proxy) == (status, proxy.peer)
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
            assert client._pool.counts() == (0, 0, 0)
        assert proxy.connections == 1


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_silent_proxy_runs_into_the_connect_timeout(scheme):
    with (
        ScriptedServer([[Eof()]]) as proxy,
        HttpClient(proxy=f"{scheme}://{proxy.peer}", connect_timeout_ms=100) as client,
    ):
        with pytest.raises(ConnectionTimeout) as caught:
            client.get("https://origin.example/")
        assert caught.value.phase == "connect"


@pytest.mark.parametrize("host", ["a\r\nX: y", "a b", "", "ä", "x" * 300])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_host_that_would_be_more_than_a_host_is_not_asked_for(host, scheme):
    class Deaf:
        def write(self, data):
            raise AssertionError(data)

    with pytest.raises(ValidationError, match="host"):
        open_tunnel(Deaf(), Proxy(scheme, "p", 1), host, 443, None)


def test_connections_are_kept_by_the_proxys_credentials():
    """A password that is wrong now must not ride on a connection that was made with a right one."""
    scripts = [answers(response(b"a"), response(b"never"))] * 2
    with ScriptedServer(scripts) as proxy:
        for user in ("one", "two"):
            with HttpClient(proxy=f"{user}:p@{proxy.peer}") as client:
                assert client.get("http://a.example/").body == b"a"
    routes = set()
    for text in ("p:1", "u:x@p:1", "u:y@p:1", "socks5://p:1"):
        with HttpClient(proxy=text) as client:
            routes.add(client._sender._routes.to(Target.parse("https://a/"), client._tls))
    assert len(routes) == 4


# -- SOCKS5 -----------------------------------------------------------------------------

GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"
NAMED = b"\x05\x01\x00\x03\x0eorigin.example\x00\x50"


def test_socks5h_looks_the_name_up():
    script = [Body(3), Send(b"\x05\x00"), Body(len(NAMED)), Send(GRANTED), *answers(response(b"a"))]
    with ScriptedServer([script]) as proxy:
        with HttpClient(proxy=f"socks5h://{proxy.peer}") as client:
            assert client.get("http://origin.example/x").body == b"a"
        assert proxy.seen[0].startswith(b"\x05\x01\x00" + NAMED + b"GET /x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", b"\x01\x7f\x00\x00\x01"),
        ("[::1]", b"\x04" + bytes(15) + b"\x01"),
        ("localhost", b"\x01\x7f\x00\x00\x01"),
    ],
)
def test_socks5_is_given_an_address(host, address):
    script = [Body(3), Send(b"\x05\x00"), Body(5 + len(address)), Send(GRANTED)]
    with ScriptedServer([[*script, *answers(response(b"a"))]]) as proxy:
        with HttpClient(proxy=f"socks5://{proxy.peer}") as client:
            assert client.get(f"http://{host}:81/").body == b"a"
        assert proxy.seen[0][3:].startswith(b"\x05\x01\x00" + address + b"\x00\x51")


def test_socks5_with_a_password_and_tls(pki, server_tls):
    login = b"\x01\x04user\x06secret"
    named = NAMED[:-2] + b"\x01\xbb"
    script = [
        Body(4), Send(b"\x05\x02"), Body(len(login)), Send(b"\x01\x00"), Body(len(named)),
        Send(b"\x05\x00\x00\x03\x04host\x00\x50"), StartTls(server_tls), *answers(response(b"a")),
    ]  # fmt: skip
    with ScriptedServer([script]) as proxy:
        settings = {"proxy": f"socks5h://user:secret@{proxy.peer}", "verify": pki.bundle}
        with HttpClient(**settings) as client:
            assert client.get("https://origin.example/").body == b"a"
        assert proxy.seen[0].startswith(b"\x05\x02\x00\x02" + login + named)


@pytest.mark.parametrize(
    ("script", "status", "text"),
    [
        ([Body(3), Send(b"\x05\xff")], 255, "another kind of authentication"),
        ([Body(3), Send(b"\x05\x02")], 2, "another kind of authentication"),
        ([Body(3), Send(b"HTTP/1.1 400\r\n")], 0, "not a SOCKS5 proxy"),
        ([Body(3), Send(b"\x05")], 0, "hung up"),
        ([Body(3)], 0, "hung up"),
        ([Body(3), Send(b"\x05\x00"), Body(21), Send(b"\x05\x05\x00\x01")], 5, "refused"),
        ([Body(3), Send(b"\x05\x00"), Body(21), Send(b"\x05\x63\x00\x01")], 99, "unknown"),
        ([Body(3), Send(b"\x05\x00"), Body(21), Send(GRANTED + b"stray")], 0, "nobody has asked"),
    ],
)
def test_a_socks_proxy_that_does_not_lead_there(script, status, text):
    with ScriptedServer([script]) as proxy, HttpClient(proxy=f"socks5h://{proxy.peer}") as client:
        with pytest.raises(NetworkError, match=text) as caught:
            client.get("http://origin.example/")
        if isinstance(caught.value, ProxyError):
            assert caught.value.status == status
        assert client._pool.counts() == (0, 0, 0)


def test_a_wrong_password_for_socks():
    script = [Body(4), Send(b"\x05\x02"), Body(5), Send(b"\x01\x01")]
    with (
        ScriptedServer([script]) as proxy,
        HttpClient(proxy=f"socks5h://u:x@{proxy.peer}") as client,
    ):
        with pytest.raises(ProxyError, match="password were refused"):
            client.get("http://origin.example/")


# -- Unix sockets -----------------------------------------------------------------------


def test_a_unix_socket(tmp_path: Path, monkeypatch):
    path = tmp_path / "socket"
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:1")
    with UnixListener.bind(path) as listener:

        def serve() -> None:
            with listener.accept() as stream:
                for body in (b"a", b"b"):
                    seen.append(stream.read())
                    stream.write_all(response(body))

        seen: list[bytes] = []
        thread = threading.Thread(target=serve)
        thread.start()
        with HttpClient("http://localhost", transport=f"unix:{path}") as client:
            assert client.get("/x").body == b"a"
            assert client.get("/y").body == b"b"
            assert client.idle_count() == 1
        thread.join()
        assert seen[0].startswith(b"GET /x HTTP/1.1\r\nHost: localhost\r\n")


def test_a_unix_socket_where_nobody_listens(tmp_path: Path):
    with (
        HttpClient("http://localhost", transport=f"unix:{tmp_path}/nothing") as client,
        pytest.raises(ConnectionRefused, match=r"nothing \(No such file or directory\)"),
    ):
        client.get("/")


@pytest.mark.parametrize("transport", ["unix:", "/path", "tcp:/path"])
def test_what_is_no_unix_socket(transport):
    with pytest.raises(ValidationError, match="transport"):
        HttpClient(transport=transport)


def test_whole_bodies_pass_through_a_forwarding_proxy():
    with (
        ScriptedServer([[Whole(), Send(response(b"x" * 100_000))]]) as proxy,
        HttpClient(proxy=proxy.peer) as client,
    ):
        assert len(client.post("http://a.example/", bytes(200_000)).body) == 100_000
