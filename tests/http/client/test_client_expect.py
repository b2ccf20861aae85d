"""Expect: 100-continue: the body waits until the server wants it, and not for ever."""

from __future__ import annotations

import threading

import pytest
from scripted import Body, Head, ScriptedServer, Send, Set, Wait, answers, response

from flare.errors import ConnectionReset, NetworkError, ValidationError
from flare.http.client import CallTimeout, HttpClient
from flare.http.errors import HttpProtocolError

OK = response(b"hello")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = {"Expect": "100-continue"}
BODIES = {
    "small": lambda: b"small",
    "large": lambda: b"x" * 300_000,
    "stream": lambda: iter([b"stre", b"am"]),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("interim", [CONTINUE, b"HTTP/1.1 102 Processing\r\n\r\n" + CONTINUE])
def test_the_body_follows_the_100(kind, interim):
    headed, go_on = threading.Event(), threading.Event()
    wire = {"small": 5, "large": 300_000, "stream": 21}[kind]
    script = [Head(), Set(headed), Wait(go_on), Send(interim), Body(wire), Send(OK)]
    with (
        ScriptedServer([[*script, *answers(OK)]]) as server,
        HttpClient(server.base, expect_timeout_ms=10_000) as client,
    ):

        def watch():
            assert headed.wait(5)
            seen.append(bytes(server.seen[0]))
            go_on.set()

        seen: list[bytes] = []
        watcher = threading.Thread(target=watch)
        watcher.start()
        assert client.post("/", BODIES[kind](), headers=EXPECT).body == b"hello"
        watcher.join()
        assert client.get("/").ok
        assert server.connections == 1
    assert seen[0].endswith(b"\r\n\r\n")
    assert b"Expect: 100-continue" in seen[0]


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("status", ["417 Expectation Failed", "401 Unauthorized", "200 OK"])
def test_a_final_answer_instead_means_that_no_body_is_sent(kind, status):
    refusal = response(b"no", status)
    with (
        ScriptedServer([[Head(), Send(refusal)]]) as server,
        HttpClient(server.base, expect_timeout_ms=10_000) as client,
    ):
        got = client.post("/", BODIES[kind](), headers=EXPECT)
        assert (str(got.status), got.body) == (status[:3], b"no")
        assert client.idle_count() == 0
        assert bytes(server.seen[0]).endswith(b"\r\n\r\n")


def test_a_server_that_does_not_know_it_gets_the_body_after_a_while():
    with (
        ScriptedServer([[Head(), Body(5), Send(OK), *answers(OK)]]) as server,
        HttpClient(server.base, expect_timeout_ms=30) as client,
    ):
        assert client.post("/", b"small", headers=EXPECT).body == b"hello"
        assert client.get("/").ok
        assert server.connections == 1


def test_a_100_that_comes_late_is_skipped():
    with (
        ScriptedServer([[Head(), Body(5), Send(CONTINUE + OK)]]) as server,
        HttpClient(server.base, expect_timeout_ms=30) as client,
    ):
        assert client.post("/", b"small", headers=EXPECT).body == b"hello"


def test_a_100_and_the_answer_at_once():
    with (
        ScriptedServer([[Head(), Send(CONTINUE + OK)]]) as server,
        HttpClient(server.base, expect_timeout_ms=10_000) as client,
    ):
        assert client.post("/", b"small", headers=EXPECT).body == b"hello"
        assert client.idle_count() == 0


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", NetworkError),
        (b"nonsense\r\n\r\n", HttpProtocolError),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40, HttpProtocolError),
    ],
)
def test_an_answer_that_is_none_is_an_error(sent, error):
    with (
        ScriptedServer([[Head(), Send(sent)]]) as server,
        HttpClient(server.base, expect_timeout_ms=10_000) as client,
    ):
        with pytest.raises((error, ConnectionReset)):
            client.post("/", b"small", headers=EXPECT)
        assert "active=0 idle=0" in repr(client)


def test_the_call_has_its_own_deadline():
    stop = threading.Event()
    with ScriptedServer([[*answers(OK), Head(), Wait(stop)]]) as server:
        with HttpClient(server.base, expect_timeout_ms=10_000) as client:
            assert client.get("/").ok  # so that the time does not go to connecting
            with pytest.raises(CallTimeout):
                client.post("/", b"small", headers=EXPECT, timeout_ms=60)
        stop.set()


def test_there_must_be_something_to_wait_with():
    with HttpClient("http://127.0.0.1:1") as client:
        for method in ("GET", "POST"):
            with pytest.raises(ValidationError, match="Expect"):
                client.request(method, "/", headers=EXPECT)
    with pytest.raises(ValidationError, match="expect_timeout_ms"):
        HttpClient(expect_timeout_ms=0)


def test_a_redirect_that_drops_the_body_drops_the_expectation():
    moved = response(b"", "303 See Other", "Location: /there")
    with (
        ScriptedServer([[Head(), Send(moved)], answers(OK)]) as server,
        HttpClient(server.base) as client,
    ):
        assert client.post("/", b"small", headers=EXPECT).body == b"hello"
        assert b"Expect" not in bytes(server.seen[1])
