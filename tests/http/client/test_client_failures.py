"""Servers that misbehave: each gets its typed error, in time, and costs its connection."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from scripted import (
    Drip,
    Eof,
    Head,
    Reset,
    ScriptedServer,
    Send,
    Wait,
    Whole,
    answers,
    response,
    wait_for_input,
)

from flare.errors import (
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimeout,
    NetworkError,
    Timeout,
)
from flare.http.client import CallTimeout, ConnectTimeout, HttpClient
from flare.http.errors import HttpProtocolError
from flare.http.proto.errors import HttpParseError
from flare.net import DnsError

OK = response(b"hello")
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "variant"),
    [
        (b"", "TRUNCATED"),
        (b"HTTP/1.1 200 O", "TRUNCATED"),
        (HEAD + b"Content-Le", "TRUNCATED"),
        (HEAD + b"Content-Length: 10\r\n\r\nshort", "TRUNCATED"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "TRUNCATED"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", "TRUNCATED"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "TRUNCATED"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "TRUNCATED"),
        (b"nonsense\r\n\r\n", "BAD_STATUS_LINE"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "BAD_STATUS_LINE"),
        (b"HTTP/1.1 99 Low\r\n\r\n", "BAD_STATUS_LINE"),
        (b"HTTP/1.1 099 Low\r\n\r\n", "BAD_STATUS_LINE"),
        (b"HTTP/1.1 1000 High\r\n\r\n", "BAD_STATUS_LINE"),
        (b"ICY 200 OK\r\n\r\n", "BAD_STATUS_LINE"),
        (HEAD + b"no colon\r\n\r\n", "BAD_FIELD_LINE"),
        (HEAD + b"Bad Name: x\r\n\r\n", "BAD_FIELD_LINE"),
        (HEAD + b"X: a\0b\r\n\r\n", "BAD_FIELD_VALUE"),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "BAD_TRANSFER_ENCODING"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "UNSUPPORTED_TRANSFER_CODING"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "BAD_CONTENT_LENGTH"),
        (HEAD + b"Content-Length: -1\r\n\r\n", "BAD_CONTENT_LENGTH"),
        (HEAD + b"Content-Length: +1\r\n\r\n", "BAD_CONTENT_LENGTH"),
        (HEAD + b"Content-Length: 1_0\r\n\r\n", "BAD_CONTENT_LENGTH"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n", "BAD_CHUNK"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n", "BAD_CHUNK"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", "BAD_TRAILER"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 40, "TOO_MANY_INTERIM"),
        (b"HTTP/1.1 200 " + b"O" * 100_000, "BAD_STATUS_LINE"),
        (HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n", "FIELDS_TOO_LARGE"),
        (HEAD + b"X: y\r\n" * 300 + b"\r\n", "FIELDS_TOO_LARGE"),
    ],
)  # fmt: skip
def test_a_malformed_response_is_a_protocol_error(answer, variant):
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        with pytest.raises(HttpProtocolError) as caught:
            client.get("/", timeout=5)
        cause = caught.value.__cause__
        assert isinstance(cause, HttpParseError)
        assert cause.variant_name() == variant
        assert server.peer in str(caught.value)
        assert isinstance(caught.value, NetworkError)
        assert isinstance(caught.value, ValueError)
        assert "active=0 idle=0" in repr(client)


def test_an_endless_head_is_bounded():
    endless = Send(HEAD + b"X-Filler: 0123456789\r\n" * 200_000)
    with (
        ScriptedServer([[Whole(), endless]]) as server,
        HttpClient(server.base) as client,
        pytest.raises(HttpProtocolError),
    ):
        client.get("/", timeout=5)


def test_a_101_nobody_asked_for_is_an_error():
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    with ScriptedServer([answers(switching)] * 2) as server, HttpClient(server.base) as client:
        with pytest.raises(HttpProtocolError, match="101"):
            client.get("/")
        got = client.get("/", headers={"Connection": "upgrade", "Upgrade": "x"})
        assert got.status == 101
        assert client.idle_count() == 0


@pytest.mark.parametrize(
    "answer",
    [
        response(b"x" * 11),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nb\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n",
        HEAD + b"\r\n" + b"x" * 11,
    ],
)
def test_a_body_past_the_limit_is_an_error(answer):
    with (
        ScriptedServer([answers(answer)]) as server,
        HttpClient(server.base, max_response_bytes=10) as client,
    ):
        with pytest.raises(NetworkError, match=f"{server.peer}.*max_response_bytes, 10"):
            client.get("/")
        assert client.idle_count() == 0


def test_a_body_at_the_limit_is_none():
    with (
        ScriptedServer([answers(response(b"x" * 10))]) as server,
        HttpClient(server.base, max_response_bytes=10) as client,
    ):
        assert len(client.get("/").body) == 10


def test_refused_names_the_peer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with HttpClient() as client:
        with pytest.raises(ConnectionRefused, match=f"127.0.0.1:{port}"):
            client.get(f"http://user:secret@127.0.0.1:{port}/")
        assert "active=0" in repr(client)


def test_a_name_that_is_not_found_is_a_dns_error():
    with HttpClient() as client, pytest.raises(DnsError, match=r"no-such-host\.invalid"):
        client.get("http://no-such-host.invalid/", timeout=10)


def test_a_reset_names_peer_and_phase():
    with (
        ScriptedServer([[Head(), Reset()]]) as server,
        HttpClient(server.base) as client,
        pytest.raises(ConnectionReset, match=f"{server.peer} .waiting for the response"),
    ):
        client.get("/")
    cut = [Head(), Send(HEAD + b"Content-Length: 9\r\n\r\nabc"), Reset()]
    with (
        ScriptedServer([cut]) as server,
        HttpClient(server.base) as client,
        pytest.raises((ConnectionReset, HttpProtocolError), match=server.peer),
    ):
        client.get("/")


def test_connect_runs_into_its_timeout():
    # A listener whose queue is full lets no more connections through.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        try:
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(address)
                fillers.append(filler)
            with HttpClient(connect_timeout_ms=60) as client:
                with pytest.raises(ConnectTimeout) as caught:
                    client.get(f"http://127.0.0.1:{address[1]}/")
                assert "active=0" in repr(client)
        finally:
            for filler in fillers:
                filler.close()
    assert caught.value.phase == "connect"
    assert isinstance(caught.value, ConnectionTimeout)
    assert "connect" in str(caught.value)
    assert f"127.0.0.1:{address[1]}" in str(caught.value)


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\nX: ", HEAD + b"Content-Length: 3\r\n\r\na"]
)
@pytest.mark.parametrize(
    ("client", "call"),
    [({"read_timeout_ms": 60}, {}), ({"timeout_ms": 60}, {}), ({}, {"timeout": 0.06}),
     ({}, {"timeout_ms": 60}), ({}, {"timeout": (5, 0.06)})],
)  # fmt: skip
def test_silence_runs_into_the_read_timeout(sent, client, call, monkeypatch):
    # On a kept connection and by a clock that stands still, so that none of the call's time goes
    # to anything else.
    script = [Whole(), Send(HEAD + b"Content-Length: 0\r\n\r\n"), Whole(), Send(sent), Eof()]
    with ScriptedServer([script]) as server, HttpClient(server.base, **client) as caller:
        assert caller.get("/", timeout_ms=10_000).status == 200
        now = time.monotonic()
        monkeypatch.setattr("flare.http.client.timeouts.monotonic", lambda: now)
        with pytest.raises(CallTimeout) as caught:
            caller.get("/", **call)
        assert caught.value.phase == "read"
        assert "read" in str(caught.value)
        assert server.peer in str(caught.value)
        assert isinstance(caught.value, Timeout)
        assert "active=0 idle=0" in repr(caller)


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_slow_drip_runs_into_the_total(where, ticking):
    ticking(0.5)
    drip = Drip(b"X" * 10_000, 0.005)
    head = HEAD + (b"X: " if where == "head" else b"Content-Length: 10000\r\n\r\n")
    with ScriptedServer([[Whole(), Send(head), drip]]) as server:
        with (
            HttpClient(server.base, timeout_ms=10_000, read_timeout_ms=8_000) as client,
            pytest.raises(CallTimeout) as caught,
        ):
            client.get("/")
        assert caught.value.phase == "total"
        assert server.peer in str(caught.value)


def test_a_server_that_does_not_read_runs_into_the_write_timeout():
    stop = threading.Event()
    with ScriptedServer([[Wait(stop)]]) as server:
        with (
            HttpClient(server.base, write_timeout_ms=60) as client,
            pytest.raises(CallTimeout) as caught,
        ):
            client.post("/", bytes(20_000_000))
        stop.set()
        assert caught.value.phase == "write"
        assert server.peer in str(caught.value)


def test_a_full_pool_runs_into_the_pool_timeout():
    script = [Whole(), Send(response(b"x", "200 OK", "Content-Length: 1")), Eof()]
    with (
        ScriptedServer([script, answers(OK)]) as server,
        HttpClient(server.base, max_connections=1, pool_timeout_ms=60) as client,
    ):
        with client.get_streaming("/"):
            with pytest.raises(CallTimeout) as caught:
                client.get("/")
            assert "waiting=0" in repr(client)
        assert caught.value.phase == "pool"
        assert client.get("/").ok
    assert str(caught.value) == (
        f"Timeout (pool): no connection became free for {server.peer} in 60 ms"
    )


class TestStaleConnections:
    """A kept connection that died is replaced where that cannot do anything twice."""

    @pytest.mark.parametrize("end", [[], [Send(b"stray bytes")], [Reset()]])
    def test_one_that_ended_or_got_bytes_while_idle_is_not_used(self, end):
        first = [*answers(OK), *end]
        with ScriptedServer([first, answers(OK)]) as server, HttpClient(server.base) as client:
            client.get("/")
            server.wait_played(0)
            wait_for_input(client)
            assert client.post("/", b"x").ok
            assert server.connections == 2

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
    @pytest.mark.parametrize("end", [[], [Reset()]])
    def test_an_idempotent_request_is_sent_again_once(self, method, end):
        head_only = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        scripts = [[*answers(OK), Head(), *end], answers(head_only)]
        with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
            client.get("/")
            assert client.request(method, "/again").ok
            assert server.connections == 2
            assert server.requests(1)[0].startswith(method.encode())

    @pytest.mark.parametrize("method", ["POST", "PATCH", "X-OWN"])
    def test_another_one_is_not(self, method):
        scripts = [[*answers(OK), Whole()], answers(OK)]
        with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
            client.get("/")
            with pytest.raises(NetworkError):
                client.request(method, "/", b"x")
            assert server.connections == 1

    def test_only_once(self):
        scripts = [[*answers(OK), Head()], [Head()], answers(OK)]
        with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
            client.get("/")
            with pytest.raises(HttpProtocolError):
                client.get("/")
            assert server.connections == 2

    def test_not_after_a_byte_of_the_response(self):
        scripts = [[*answers(OK), Head(), Send(b"H")], answers(OK)]
        with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
            client.get("/")
            with pytest.raises(HttpProtocolError):
                client.get("/")
            assert server.connections == 1

    def test_not_on_a_fresh_connection(self):
        with ScriptedServer([[Head()], answers(OK)]) as server, HttpClient(server.base) as client:
            with pytest.raises(HttpProtocolError):
                client.get("/")
            assert server.connections == 1

    def test_not_after_a_timeout(self):
        scripts = [[*answers(OK), Eof()], answers(OK)]
        with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
            client.get("/")
            with pytest.raises(CallTimeout):
                client.get("/", timeout_ms=40)
            assert server.connections == 1

    def test_not_with_a_body_that_is_used_up(self):
        scripts = [[*answers(OK), Whole()], answers(OK)]
        with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
            client.get("/")
            with pytest.raises(NetworkError):
                client.put("/", iter([b"once"]))
            assert server.connections == 1
