"""Redirects over the wire: methods, bodies, limits, and credentials that stay at home."""

from __future__ import annotations

import io

import pytest
from scripted import Drip, ScriptedServer, Whole, answers, response

from flare.errors import NetworkError
from flare.http import Request, RetryPolicy
from flare.http.client import (
    BearerAuth,
    CallTimeout,
    DigestAuth,
    HttpClient,
    RedirectPolicy,
    get,
)
from flare.http.errors import CrossOriginRedirect, TooManyRedirects
from flare.http.proto.url import UrlParseError

OK = response(b"done")


def to(location: str, status: int = 302, body: bytes = b"") -> bytes:
    return response(body, f"{status} Moved", f"Location: {location}")


def test_a_chain_is_followed_on_one_connection_with_its_history():
    script = answers(to("/b", 301, b"moved"), to("c?x=1", 307), OK)
    with ScriptedServer([script]) as server, HttpClient(server.base) as client:
        got = client.get("/a#top")
        assert got.body == b"done"
        assert got.url == f"{server.base}/c?x=1#top"
        assert [(hop.status, hop.url) for hop in got.history] == [
            (301, f"{server.base}/a#top"), (307, f"{server.base}/b#top"),
        ]  # fmt: skip
        assert got.history[0].body == b"moved"
        assert len(got.history[1].history) == 1
        assert got.request is not None
        assert got.request.url == got.url
        assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "method", "after"),
    [
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "PUT", "GET"),
        (301, "PUT", "PUT"), (302, "DELETE", "DELETE"), (307, "POST", "POST"),
        (308, "PATCH", "PATCH"), (303, "HEAD", "HEAD"), (301, "HEAD", "HEAD"),
    ],
)  # fmt: skip
def test_method_and_body_after_a_redirect(status, method, after):
    last = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" if method == "HEAD" else OK
    body = None if method in ("HEAD", "DELETE") else b"payload"
    headers = {"Content-Type": "text/x", "Content-Language": "en", "X-Kept": "1"}
    with ScriptedServer([answers(to("/next", status), last)]) as server:
        with HttpClient(server.base) as client:
            client.request(method, "/", body, headers=headers)
        second = bytes(server.seen[0]).rpartition(after.encode() + b" /next")[2]
    assert second.startswith(b" HTTP/1.1\r\n")
    assert b"X-Kept: 1" in second
    kept = after == method
    assert (b"Content-Type" in second) == kept
    assert (b"Content-Language" in second) == kept
    assert second.endswith(b"payload") == (kept and body is not None)


@pytest.mark.parametrize("where", ["port", "name"])
@pytest.mark.parametrize(
    "how",
    ["auth", "header", "call auth", "userinfo", "client header", "own header", "own client's"],
)
def test_credentials_do_not_follow_to_another_origin_nor_come_back(how, where):
    with ScriptedServer([]) as first, ScriptedServer([]) as second:
        there = second.base if where == "port" else f"http://localhost:{first.port}"
        elsewhere = second if where == "port" else first
        # Without keep-alive every hop has a connection of its own.
        first.scripts += [answers(to("/stay")), answers(to(f"{there}/away"))]
        elsewhere.scripts.append(answers(to(f"{first.base}/back")))
        first.scripts.append(answers(OK))
        arguments = {
            "auth": ({"auth": BearerAuth("secret")}, {}),
            "header": ({}, {"headers": {"Authorization": "secret", "Proxy-Authorization": "secret",
                                        "Cookie": "a=secret"}}),
            "call auth": ({}, {"auth": BearerAuth("secret")}),
            "userinfo": ({}, {}),
            "own header": ({}, {"headers": {"X-Api-Key": "secret", "X-Auth-Token": "secret"}}),
            "own client's": ({"headers": {"X-API-KEY": "secret", "Session-Id": "secret"}}, {}),
            "client header": ({"headers": {"Cookie": "a=secret", "Authorization": "secret"}}, {}),
        }[how]  # fmt: skip
        userinfo = "secret:secret@" if how == "userinfo" else ""
        with HttpClient(pool=False, **arguments[0]) as client:
            got = client.get(f"http://{userinfo}{first.peer}/", **arguments[1])
        seen = [bytes(raw) for raw in first.seen + second.seen]
        secret = b"c2VjcmV0OnNlY3JldA==" if how == "userinfo" else b"secret"
        assert got.body == b"done"
        assert {raw.split(b" ")[1]: secret in raw for raw in seen} == {
            b"/": True, b"/stay": True, b"/away": False, b"/back": False,
        }  # fmt: skip


def test_other_headers_of_the_caller_go_along():
    with ScriptedServer([answers(OK)]) as other, ScriptedServer([]) as server:
        server.scripts.append(answers(to(other.base)))
        headers = {"X-Author": "1", "Idempotency-Key": "2", "Accept-Language": "en"}
        with HttpClient() as client:
            client.get(server.base, headers=headers)
        for name, value in headers.items():
            assert f"{name}: {value}\r\n".encode() in bytes(other.seen[0])


CALLS = {
    "get": lambda client, url: client.get(url, follow_redirects=False),
    "post": lambda client, url: client.post(url, b"x", follow_redirects=False),
    "request": lambda client, url: client.request("PUT", url, b"x", follow_redirects=False),
    "send": lambda client, url: client.send(Request("GET", url), follow_redirects=False),
    "chunked": lambda client, url: client.send_chunked(
        "POST", url, iter([b"x"]), follow_redirects=False
    ),
    "streaming": lambda client, url: client.get_streaming(url, follow_redirects=False),
    "retried": lambda client, url: client.get(url, retry=RetryPolicy(3), follow_redirects=False),
    "digest": lambda client, url: client.get(
        url, auth=DigestAuth("u", "p"), follow_redirects=False
    ),
    "one call": lambda client, url: get(url, follow_redirects=False),
}


@pytest.mark.parametrize("how", CALLS)
def test_a_redirect_is_the_answer_on_every_way_in(how):
    with ScriptedServer([answers(to("/elsewhere"))]) as server, HttpClient() as client:
        with CALLS[how](client, f"{server.base}/") as got:
            assert (got.status, got.history) == (302, [])
            got.body
        assert b"elsewhere" not in b"".join(bytes(raw) for raw in server.seen)
        assert server.connections == 1


def test_user_name_and_password_in_a_location_are_not_used():
    with ScriptedServer([]) as server, HttpClient() as client:
        server.scripts.append(answers(to(f"http://evil:pw@{server.peer}/x"), OK))
        client.get(server.base)
        assert b"Authorization" not in server.seen[0]


def test_a_host_set_by_the_caller_stays_within_the_origin():
    with ScriptedServer([answers(OK)]) as other, ScriptedServer([]) as server:
        server.scripts.append(answers(to("/y"), to(other.base)))
        with HttpClient() as client:
            client.get(server.base, headers={"Host": "virtual"})
        assert [b"Host: virtual" in raw for raw in server.requests()] == [True, True]
        assert b"virtual" not in other.seen[0]


def test_a_loop_ends_after_ten_hops():
    with ScriptedServer([answers(*[to("/again")] * 11)]) as server:
        with HttpClient(server.base) as client, pytest.raises(TooManyRedirects) as caught:
            client.get("/again")
        assert caught.value.count == 10
        assert server.peer in str(caught.value)
        assert len(server.requests()) == 11
        assert isinstance(caught.value, OSError)


@pytest.mark.parametrize(
    ("client", "call", "followed"),
    [
        ({"max_redirects": 0}, {}, None),
        ({"max_redirects": 1}, {}, 1),
        ({"max_redirects": 0, "redirect_policy": RedirectPolicy.follow_all(1)}, {}, 1),
        ({"redirect_policy": RedirectPolicy.deny()}, {}, 0),
        ({}, {"follow_redirects": False}, 0),
        ({"redirect_policy": RedirectPolicy.deny()}, {"follow_redirects": True}, 1),
        ({"max_redirects": 0}, {"follow_redirects": True}, None),
    ],
)
def test_limits_and_denial(client, call, followed):
    with ScriptedServer([answers(to("/x"), OK)]) as server:
        with HttpClient(server.base, **client) as caller:
            if followed is None:
                with pytest.raises(TooManyRedirects) as caught:
                    caller.get("/", **call)
                assert caught.value.count == 0
                return
            got = caller.get("/", **call)
        assert got.status == (200 if followed else 302)
        assert len(got.history) == followed
        assert len(server.requests()) == followed + 1


def test_same_origin_only_refuses_another_origin():
    with ScriptedServer([answers(to("/x"), to("http://127.0.0.1:1/?code=s3cret"))]) as server:
        policy = RedirectPolicy.same_origin_only()
        with HttpClient(server.base, redirect_policy=policy) as client:
            with pytest.raises(CrossOriginRedirect) as caught:
                client.get("/")
            assert caught.value.status == 302
            assert "http://127.0.0.1:1/?code=***" in str(caught.value)
            assert client.idle_count() == 0


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("ftp://x/", UrlParseError),
        ("http://a\\@b/", UrlParseError),
        ("file:///etc/passwd", UrlParseError),
    ],
)
def test_a_location_we_cannot_go_to_is_an_error(location, error):
    with ScriptedServer([answers(to(location))]) as server, HttpClient(server.base) as client:
        with pytest.raises(error):
            client.get("/")
        assert "active=0" in repr(client)


@pytest.mark.parametrize(
    "answer",
    [response(b"x", "302 Found"), response(b"", "304 Not Modified", "Location: /x"),
     response(b"x", "300 Choices", "Location: /x"), response(b"x", "305 P", "Location: /x")],
)  # fmt: skip
def test_a_3xx_that_leads_nowhere_is_the_answer(answer):
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        got = client.get("/")
        assert got.is_redirect()
        assert got.history == []


def test_a_large_redirect_body_costs_its_connection_but_not_the_call():
    big = b"x" * 100_000
    chunked = (
        b"HTTP/1.1 302 F\r\nLocation: /y\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"8000\r\n" + b"z" * 0x8000 + b"\r\n") * 3
        + b"0\r\n\r\n"
    )
    scripts = [answers(to("/x", 302, big)), answers(chunked), answers(OK)]
    with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
        got = client.get("/")
        assert got.body == b"done"
        assert [hop.body for hop in got.history] == [b"", b""]
        assert server.connections == 3


def test_a_redirect_with_a_body_cut_short_is_still_followed():
    cut = b"HTTP/1.1 302 F\r\nLocation: /y\r\nContent-Length: 10\r\n\r\nabc"
    with ScriptedServer([answers(cut), answers(OK)]) as server, HttpClient(server.base) as client:
        assert client.get("/").body == b"done"


def test_a_file_is_sent_again_and_an_iterator_cannot_be():
    script = answers(to("/y", 307), OK)
    with ScriptedServer([script]) as server, HttpClient(server.base) as client:
        file = io.BytesIO(b"--content")
        file.seek(2)
        assert client.post("/", file).ok
        assert bytes(server.seen[0]).count(b"\r\n\r\ncontent") == 2
    with ScriptedServer([answers(to("/y", 307))]) as server, HttpClient(server.base) as client:
        with pytest.raises(NetworkError, match="cannot be sent again"):
            client.post("/", iter([b"content"]))
        assert "active=0" in repr(client)
    with ScriptedServer([answers(to("/y", 303), OK)]) as server, HttpClient(server.base) as client:
        assert client.post("/", iter([b"content"])).body == b"done"


def test_one_deadline_for_the_whole_chain(ticking):
    # Each hop is quick, some ten seconds of the clock; all of them together are not.
    ticking(0.15)
    slow = [step for _ in range(200) for step in (Whole(), Drip(to("/again"), 0.002))]
    with ScriptedServer([slow]) as server, HttpClient(server.base, max_redirects=200) as client:
        with pytest.raises(CallTimeout) as caught:
            client.get("/again", timeout_ms=20_000)
        assert caught.value.phase == "total"
