"""Hooks, headers of a client that change, the event log."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from scripted import ScriptedServer, answers, response

from flare.errors import ValidationError
from flare.http import HttpError, Request, Response
from flare.http.client import BasicAuth, HttpClient, HttpDownload
from flare.http.errors import masked_url
from flare.http.proto.headers import HeaderInjectionError

OK = response(b"done")
MOVED = response(b"", "302 Found", "Location: /there?token=abc")


def test_a_request_hook_may_change_headers_and_sees_each_request():
    seen: list[str] = []

    def sign(request: Request) -> None:
        seen.append(f"{request.method} {request.url}")
        request.headers.set("X-Signature", f"{len(request.body)}")
        request.headers.remove("User-Agent")

    with ScriptedServer([answers(MOVED, OK)]) as server:
        with HttpClient(server.base, on_request=sign) as client:
            got = client.post("/here", b"abc")
        heads = bytes(server.seen[0])
    assert seen == [f"POST {server.base}/here", f"GET {server.base}/there?token=abc"]
    assert heads.count(b"X-Signature: 3") == 1
    assert heads.count(b"X-Signature: 0") == 1
    assert b"User-Agent" not in heads
    assert got.request is not None
    assert got.request.headers["X-Signature"] == "0"


def test_a_hook_cannot_break_the_framing():
    def meddle(request: Request) -> None:
        request.headers.set("Content-Length", "0")
        request.headers.set("Transfer-Encoding", "chunked")

    with ScriptedServer([answers(OK)]) as server:
        with HttpClient(server.base, on_request=meddle) as client:
            client.post("/", b"abc")
        head = bytes(server.seen[0])
    assert head.count(b"Content-Length: 3\r\n") == 1
    assert b"Transfer-Encoding" not in head
    assert head.endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda request: request.headers.set("X", "a\r\nb"), HeaderInjectionError),
        (lambda request: request.headers.remove("Host"), ValidationError),
        (lambda request: request.headers.append("Host", "other"), ValidationError),
        (lambda request: 1 / 0, ZeroDivisionError),
    ],
)
def test_what_a_request_hook_raises_ends_the_call_before_anything_is_sent(change, error):
    with ScriptedServer([]) as server, HttpClient(server.base, on_request=change) as client:
        with pytest.raises(error):
            client.get("/")
        assert server.connections == 0


def test_response_hooks_see_every_response_in_order():
    seen: list[object] = []
    hooks = [
        lambda got: seen.append((got.status, got.body)),
        lambda got: seen.append(len(got.history)),
    ]
    with ScriptedServer([answers(MOVED, OK, OK)]) as server:
        with HttpClient(server.base, on_response=hooks) as client:
            client.get("/")
            with client.get("/", stream=True) as download:
                assert isinstance(download, HttpDownload)
    assert seen == [(302, b""), 0, (200, b"done"), 1, (200, b"done"), 0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_hook_may_raise_and_nothing_leaks(stream):
    with ScriptedServer([answers(response(b"gone", "404 Not Found"))]) as server:
        with HttpClient(server.base, on_response=Response.raise_for_status) as client:
            with pytest.raises(HttpError) as caught:
                client.get("/", stream=stream)
            assert caught.value.response is not None
            assert "active=0" in repr(client)


@pytest.mark.parametrize("hooks", [3, "abc", [print, 3]])
def test_a_hook_must_be_callable(hooks):
    with pytest.raises(TypeError):
        HttpClient(on_request=hooks)


def test_headers_of_a_client_can_change_between_calls():
    with ScriptedServer([answers(*[OK] * 4)]) as server:
        with HttpClient(server.base, headers={"X-One": "1"}) as client:
            client.get("/")
            client.headers["X-One"] = "2"
            client.headers.append("User-Agent", "mine")
            client.get("/")
            client.headers = {"X-Three": "3"}
            client.get("/")
            client.headers.clear()
            client.get("/")
        heads = server.requests()
    assert [head.count(b"X-One") for head in heads] == [1, 1, 0, 0]
    assert b"X-One: 2" in heads[1]
    assert heads[1].count(b"User-Agent") == 1
    assert b"User-Agent: mine" in heads[1]
    assert b"X-Three: 3" in heads[2]
    assert b"User-Agent: flare/" in heads[3]


def test_changed_headers_hold_back_credentials_as_given_ones_do():
    with ScriptedServer([answers(OK)]) as other, ScriptedServer([]) as server:
        server.scripts.append(answers(response(b"", "302 Found", f"Location: {other.base}/")))
        with HttpClient(server.base) as client:
            client.headers["Authorization"] = "secret"
            client.get("/")
        assert b"secret" in bytes(server.seen[0])
        assert b"secret" not in bytes(other.seen[0])


def test_framing_fields_are_refused_also_when_they_come_later():
    with ScriptedServer([]) as server, HttpClient(server.base) as client:
        client.headers["Content-Length"] = "3"
        with pytest.raises(ValidationError):
            client.get("/")


def test_the_log_tells_what_happens_and_no_secret(caplog):
    with ScriptedServer([answers(MOVED, response(b"done", "200 OK", "Set-Cookie: id=cookie7",
                                                 "X-Odd: \x9b31m"))]) as server:  # fmt: skip
        caplog.set_level(logging.DEBUG, "flare.http.client")
        with HttpClient(server.base, BasicAuth("user", "hunter2")) as client:
            client.get(
                f"http://me:hunter3@{server.peer}/here",
                params={"api_key": "hunter4", "page": "2"},
                headers={"X-Auth-Token": "hunter5", "Accept": "text/x"},
                cookies={"a": "hunter6"},
            )
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "/here?api_key=***&page=2" in text
    assert "302" in text
    assert "200" in text
    assert "text/x" in text
    assert "/there?token=***" in text
    assert "hunter" not in text
    assert "cookie7" not in text
    assert "aHVudGVy" not in text
    assert "\x9b" not in text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


def test_what_a_first_call_has_no_use_for_is_not_imported():
    code = "import sys; from flare.http import HttpClient; HttpClient(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    late = {"logging", "random", "ssl", "email", "http.cookies", "asyncio"}
    late |= {f"flare.http.client.{name}" for name in (
        "auth", "cookie_file", "cookie_jar", "digest", "in_process", "netrc_auth", "retries",
    )}  # fmt: skip
    assert not late & set(done.stdout.split())
    assert "flare.http.client.sender" in done.stdout


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/p", "http://h/p"),
        ("http://h/p?a=1&Token=x&b=2#f", "http://h/p?a=1&Token=***&b=2#f"),
        ("http://h/?X-Amz-Signature=x;sid=y", "http://h/?X-Amz-Signature=***;sid=***"),
        (
            "http://h/;jsessionid=x#access_token=y&n=1",
            "http://h/;jsessionid=***#access_token=***&n=1",
        ),
        ("http://h/?token=&p=1&page=2", "http://h/?token=&p=***&page=2"),
        ("http://h/?next=/in?code=x&key=y?z=1", "http://h/?next=/in?code=***&key=***"),
        ("http://h/" + "x" * 5000, "http://h/" + "x" * 1991 + "..."),
    ],
)
def test_urls_in_the_log(url, expected):
    assert masked_url(url) == expected
