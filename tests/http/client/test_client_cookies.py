"""Cookies over the wire: kept, sent back, and never where they do not belong."""

from __future__ import annotations

import threading

import pytest
from scripted import ScriptedServer, Step, answers, response

from flare.errors import ValidationError
from flare.http.client import ClientCookieJar, HttpClient
from flare.http.client.api import get
from flare.http.proto.headers import HeaderInjectionError

OK = response(b"done")


def setting(*cookies: str) -> bytes:
    return response(b"", "200 OK", *(f"Set-Cookie: {cookie}" for cookie in cookies))


def to(location: str, *fields: str) -> bytes:
    return response(b"", "302 Found", f"Location: {location}", *fields)


def cookies_in(head: bytes) -> list[str]:
    return [
        line.partition(b": ")[2].decode("latin-1")
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"cookie:")
    ]


def test_a_cookie_is_kept_and_sent_back_and_can_be_replaced_and_removed():
    script = answers(setting("a=1", "b=2; Path=/x"), setting("a=3"), setting("a=; Max-Age=0"), OK)
    with ScriptedServer([script]) as server, HttpClient(server.base) as client:
        first = client.get("/")
        assert [cookie.name for cookie in first.cookies()] == ["a", "b"]
        client.get("/x")
        assert client.cookies.to_dict() == {"a": "3", "b": "2"}
        assert client.cookie_header("/x/y") == "b=2; a=3"
        client.get("/")
        client.get("/")
    assert [cookies_in(head) for head in server.requests()] == [[], ["b=2; a=1"], ["a=3"], []]


def test_a_client_that_keeps_none_keeps_none_until_told():
    script = answers(setting("a=1"), OK, setting("a=1"), OK)
    with ScriptedServer([script]) as server, HttpClient(server.base, cookies=False) as client:
        client.get("/")
        client.get("/")
        assert client.cookie_header() == ""
        client.with_cookies()
        client.get("/")
        client.get("/")
    assert [cookies_in(head) for head in server.requests()] == [[], [], [], ["a=1"]]


def test_a_cookie_set_on_the_way_is_sent_on_the_next_hop():
    with ScriptedServer([answers(to("/in", "Set-Cookie: sid=7"), OK)]) as server:
        with HttpClient(server.base) as client:
            assert client.get("/login").body == b"done"
        assert [cookies_in(head) for head in server.requests()] == [[], ["sid=7"]]


def test_a_single_call_keeps_cookies_for_its_own_redirects_alone():
    scripts = [answers(to("/in", "Set-Cookie: sid=7")), answers(OK), answers(OK)]
    with ScriptedServer(scripts) as server:
        get(f"{server.base}/login")
        get(f"{server.base}/again")
        assert [cookies_in(bytes(raw)) for raw in server.seen] == [[], ["sid=7"], []]


def test_the_cookies_of_a_call_join_those_kept_and_win():
    with ScriptedServer([answers(setting("a=1", "b=2"), OK, OK, OK)]) as server:
        with HttpClient(server.base) as client:
            client.get("/")
            client.get("/", cookies={"b": "own", "c": "3"})
            client.get("/", headers={"Cookie": "only=this"})
            client.get("/")
            assert client.cookies.to_dict() == {"a": "1", "b": "2"}
        sent = [cookies_in(head) for head in server.requests()]
    assert sent == [[], ["a=1; b=own; c=3"], ["only=this"], ["a=1; b=2"]]


def test_bad_cookies_of_a_call_are_refused_before_anything_is_sent():
    with ScriptedServer([]) as server, HttpClient(server.base) as client:
        for cookies, error in (
            ({"a": "x;y"}, ValidationError),
            ({"a\r\n": "x"}, HeaderInjectionError),
            ({"a": "1\r\nX: y"}, HeaderInjectionError),
        ):
            with pytest.raises(error):
                client.get("/", cookies=cookies)
        with pytest.raises(ValidationError):
            client.get("/", cookies={"a": "1"}, headers={"Cookie": "b=2"})
        assert server.connections == 0


@pytest.mark.parametrize("where", ["port", "name"])
@pytest.mark.parametrize("how", ["call", "kept", "client"])
def test_cookies_do_not_follow_a_redirect_to_another_origin(how, where):
    with ScriptedServer([]) as first, ScriptedServer([]) as second:
        there = second.base if where == "port" else f"http://localhost:{first.port}"
        elsewhere = second if where == "port" else first
        first.scripts += [answers(setting("a=secret" if how == "kept" else "b=1"))]
        first.scripts += [answers(to("/stay")), answers(to(f"{there}/away"))]
        elsewhere.scripts.append(answers(OK))
        known = {"cookies": {"a": "secret"}} if how == "client" else {}
        with HttpClient(first.base, pool=False, **known) as client:
            client.get("/set")
            client.get("/", **({"cookies": {"a": "secret"}} if how == "call" else {}))
        seen = [bytes(raw) for raw in first.seen[1:] + second.seen]
    assert {raw.split(b" ")[1]: b"secret" in raw for raw in seen} == {
        b"/": True, b"/stay": True, b"/away": False,
    }  # fmt: skip


def test_cookies_of_the_other_origin_are_sent_there():
    with ScriptedServer([]) as first, ScriptedServer([answers(setting("own=2"), OK)]) as second:
        first.scripts.append(answers(to(second.base)))
        with HttpClient() as client:
            client.get(second.base)
            client.get(first.base)
        assert [cookies_in(head) for head in second.requests()] == [[], ["own=2"]]


def test_strict_cookies_stay_behind_after_a_redirect_from_another_site():
    strict = setting("a=1; SameSite=Strict", "b=1")
    with ScriptedServer([answers(strict, OK, OK)]) as server, ScriptedServer([]) as other:
        other.scripts.append(answers(to(server.base)))
        with HttpClient() as client:
            client.get(server.base)
            client.get(f"http://localhost:{other.port}/")
            client.get(server.base)
        assert [cookies_in(head) for head in server.requests()] == [[], ["b=1"], ["a=1; b=1"]]


def test_clients_may_share_a_jar_and_a_file_brings_it_back(tmp_path):
    path = tmp_path / "cookies"
    jar = ClientCookieJar()
    with ScriptedServer([answers(setting("a=1")), answers(OK), answers(OK)]) as server:
        with HttpClient(server.base, cookies=jar) as client:
            client.get("/")
            assert client.cookies is jar
            assert jar.host == "127.0.0.1"
        with HttpClient(cookies=jar) as client:
            client.get(server.base)
        jar.save(path)
        with HttpClient() as client:
            client.cookies.load(path)
            client.get(server.base)
        assert [cookies_in(bytes(raw)) for raw in server.seen] == [[], ["a=1"], ["a=1"]]


def test_cookies_given_to_a_client_go_to_its_base_alone():
    with ScriptedServer([answers(OK)]) as server:
        with HttpClient(server.base, cookies={"a": "1"}) as client:
            client.get("/")
            with ScriptedServer([answers(OK)]) as other:
                client.get(f"http://localhost:{other.port}/")
                assert cookies_in(bytes(other.seen[0])) == []
        assert cookies_in(bytes(server.seen[0])) == ["a=1"]
    with pytest.raises(ValidationError):
        HttpClient(cookies={"a": "1"})


def test_a_cookie_header_on_the_client_takes_the_place_of_those_kept():
    with ScriptedServer([answers(setting("a=1"), OK)]) as server:
        with HttpClient(server.base, headers={"Cookie": "mine=1"}) as client:
            client.get("/")
            client.get("/")
        assert [cookies_in(head) for head in server.requests()] == [["mine=1"], ["mine=1"]]


def test_an_interim_response_sets_no_cookie():
    script: list[Step] = answers(
        b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: early=1\r\n\r\n" + setting("late=1")
    )
    with ScriptedServer([script]) as server, HttpClient(server.base) as client:
        client.get("/")
        assert client.cookies.to_dict() == {"late": "1"}


def test_threads_that_find_the_first_cookie_at_once_keep_one_jar():
    for _ in range(20):
        with HttpClient("http://e.com") as client:
            barrier = threading.Barrier(4)
            jars: list[ClientCookieJar] = []

            def look(client=client, barrier=barrier, jars=jars) -> None:
                barrier.wait(10)
                jars.append(client.cookies)

            threads = [threading.Thread(target=look) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            assert len({id(jar) for jar in jars}) == 1
