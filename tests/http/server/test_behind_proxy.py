"""Who a request is from, behind proxies that are trusted and behind others (attacks 49, 50)."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from serving import Connect, Peer, Start

from flare.http import Request, Response, ok
from flare.http.server import HttpServer, ServerConfig


def who(request: Request) -> Response:
    return ok(json.dumps([str(request.client), request.scheme, request.host]))


def ask(peer: Peer, *lines: str) -> list[str]:
    peer.get("/", *lines)
    found: list[str] = json.loads(peer.read().body)
    return found


FORGED = (
    "X-Forwarded-For: 203.0.113.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 8443",
    "Forwarded: for=203.0.113.7;proto=https;host=evil.example",
    "X-Real-IP: 203.0.113.7",
)
CUSTOM = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")


@pytest.mark.parametrize(
    "trusted", [[], ["10.0.0.0/8"], ["unix"], ["127.0.0.2"]], ids=lambda t: ",".join(t) or "none"
)
@pytest.mark.parametrize("fields", [CUSTOM, ("forwarded",)], ids=["custom", "standard"])
def test_a_stranger_is_not_believed(
    start: Start, connect: Connect, trusted: list[str], fields: Any
) -> None:
    config = ServerConfig(trusted_proxies=trusted, forwarded_headers=fields)
    peer = connect(start(who, config).address)
    host, port = peer.sock.getsockname()
    assert ask(peer, *FORGED) == [f"{host}:{port}", "http", "h"]


def test_a_trusted_proxy_is_believed(start: Start, connect: Connect) -> None:
    config = ServerConfig(trusted_proxies=["127.0.0.0/8"], forwarded_headers=CUSTOM)
    peer = connect(start(who, config).address)
    assert ask(
        peer,
        "X-Forwarded-For: 203.0.113.7, 192.0.2.1, 127.0.0.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example",
        "X-Forwarded-Port: 8443",
    ) == ["192.0.2.1:0", "https", "shop.example:8443"]
    # The next request on the same connection is another client's.
    assert ask(peer, "X-Forwarded-For: 198.51.100.1")[0] == "198.51.100.1:0"
    assert ask(peer) == [":".join(map(str, peer.sock.getsockname())), "http", "h"]


def test_by_default_the_proxys_word_about_the_host_is_not_taken(
    start: Start, connect: Connect
) -> None:
    peer = connect(start(who, ServerConfig(trusted_proxies=["127.0.0.1"])).address)
    assert ask(peer, *FORGED) == ["203.0.113.7:0", "https", "h"]


@pytest.mark.parametrize(
    ("fields", "client"),
    [(("x-forwarded-for",), "192.0.2.1:0"), (("forwarded",), "198.51.100.9:0")],
)
def test_a_field_that_the_proxy_only_passes_through_cannot_forge_the_address(
    start: Start, connect: Connect, fields: tuple[str, ...], client: str
) -> None:
    config = ServerConfig(trusted_proxies=["127.0.0.1"], forwarded_headers=fields)
    peer = connect(start(who, config).address)
    found = ask(peer, "Forwarded: for=198.51.100.9", "X-Forwarded-For: 192.0.2.1")
    assert found[0] == client


@pytest.mark.parametrize(
    "line",
    [
        "X_Forwarded_For: 203.0.113.7",
        "X-Forwarded_For: 203.0.113.7",
        "x_forwarded-for: 203.0.113.7",
    ],
)
def test_a_name_with_underscores_is_another_name(start: Start, connect: Connect, line: str) -> None:
    def names(request: Request) -> Response:
        return ok(f"{request.client} {request.headers.get_all('x-forwarded-for')}")

    peer = connect(start(names, ServerConfig(trusted_proxies=["127.0.0.1"])).address)
    peer.get("/", line, "X-Forwarded-For: 192.0.2.1")
    assert peer.read().body == b"192.0.2.1:0 ['192.0.2.1']"
    peer.get("/", line)
    host, port = peer.sock.getsockname()
    assert peer.read().body.decode() == f"{host}:{port} []"


def test_the_access_log_shows_the_client(
    start: Start, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flare.access")
    running = start(who, ServerConfig(trusted_proxies=["127.0.0.1"], access_log=True))
    ask(connect(running.address), "X-Forwarded-For: 192.0.2.1")
    running.stop()
    assert caplog.messages[0].startswith('192.0.2.1:0 "GET / HTTP/1.1" 200 ')


def test_the_peer_stays_the_sockets(start: Start, connect: Connect) -> None:
    def peers(request: Request) -> Response:
        return ok(f"{request.peer} {request.headers.get('x-forwarded-for')}")

    peer = connect(start(peers, ServerConfig(trusted_proxies=["127.0.0.1"])).address)
    peer.get("/", "X-Forwarded-For: 192.0.2.1")
    host, port = peer.sock.getsockname()
    assert peer.read().body.decode() == f"{host}:{port} 192.0.2.1"


@pytest.mark.parametrize(
    ("trusted", "client"),
    [(["unix"], "192.0.2.1:0"), (["127.0.0.1", "0.0.0.0/0"], "0.0.0.0:0"), ([], "0.0.0.0:0")],
)
def test_peers_on_unix_sockets_are_trusted_by_their_own_word(
    tmp_path_factory: pytest.TempPathFactory,
    start: Start,
    connect: Connect,
    trusted: list[str],
    client: str,
) -> None:
    path = str(tmp_path_factory.mktemp("s") / "s")
    config = ServerConfig(trusted_proxies=trusted)
    start(who, server=HttpServer.bind_unix(path, config))
    assert ask(connect(path), "X-Forwarded-For: 192.0.2.1")[0] == client


def test_a_proxy_on_a_unix_socket_may_begin_with_its_header(
    tmp_path_factory: pytest.TempPathFactory, start: Start, connect: Connect
) -> None:
    path = str(tmp_path_factory.mktemp("s") / "s")
    config = ServerConfig(trusted_proxies=["unix"], proxy_protocol=True)
    start(who, server=HttpServer.bind_unix(path, config))
    peer = connect(path)
    peer.send(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n")
    assert ask(peer)[0] == "192.0.2.1:56324"
    local = connect(path)
    local.send(b"PROXY UNKNOWN\r\n")
    assert ask(local, "X-Forwarded-For: 192.0.2.7")[0] == "192.0.2.7:0"
