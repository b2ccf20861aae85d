"""HttpClient: what it puts on the wire, and what comes back."""

from __future__ import annotations

import pytest
from scripted import MemoryTransport, ScriptedServer, answers, response

import flare.http.client as http
from flare._version import __version__
from flare.errors import NetworkError, ValidationError
from flare.http.client import BasicAuth, BearerAuth, HttpClient
from flare.http.decoding import accepted_codings
from flare.http.errors import HttpError
from flare.http.proto.headers import HeaderInjectionError, HeaderMap
from flare.http.proto.url import UrlParseError
from flare.http.request import Request

OK = response(b"hello")


def exchange(*, client=None, method="GET", url="/", body=None, **kwargs):
    """Make one call to a scripted server; the response and the bytes of the request."""
    with ScriptedServer([answers(OK)]) as server:
        client = client or {}
        base = client.pop("base_url", "")
        with HttpClient(server.base + base, **client) as caller:
            got = caller.request(method, url, body, **kwargs)
        return got, bytes(server.seen[0]), server


def fields(raw: bytes) -> dict[str, str]:
    lines = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    found = dict(line.split(": ", 1) for line in lines)
    assert len(found) == len(lines), "a field was sent twice"
    return found


def test_a_get_on_the_wire():
    got, raw, server = exchange(url="/items?x=1#frag")
    assert (
        raw
        == (
            f"GET /items?x=1 HTTP/1.1\r\nHost: {server.peer}\r\nUser-Agent: flare/{__version__}\r\n"
            "Connection: keep-alive\r\nAccept: */*\r\n"
            f"Accept-Encoding: {accepted_codings()}\r\n\r\n"
        ).encode()
    )
    assert (got.status, got.reason, got.body, got.text()) == (200, "OK", b"hello", "hello")
    assert got.ok
    assert got.ok()
    assert got.version == "HTTP/1.1"
    assert got.url == f"{server.base}/items?x=1#frag"
    assert got.history == []
    assert got.elapsed_ms > 0
    assert got.request is not None
    assert (got.request.method, got.request.url) == ("GET", got.url)
    assert got.request.headers["host"] == server.peer


def test_a_post_of_json_on_the_wire():
    _, raw, server = exchange(
        method="POST", url="/items", body='{"name": "new"}', client={"auth": BearerAuth("tok_abc")}
    )
    assert (
        raw
        == (
            f"POST /items HTTP/1.1\r\nHost: {server.peer}\r\nUser-Agent: flare/{__version__}\r\n"
            f"Connection: keep-alive\r\nAccept: */*\r\nAccept-Encoding: {accepted_codings()}\r\n"
            "Authorization: Bearer tok_abc\r\n"
            'Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{"name": "new"}'
        ).encode()
    )


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"method": "POST"}, {"Content-Length": "0", "Content-Type": None}),
        ({"method": "DELETE"}, {"Content-Length": None}),
        ({"method": "POST", "body": b"raw"}, {"Content-Length": "3", "Content-Type": None}),
        ({"method": "PUT", "json": None}, {"Content-Type": "application/json"}),
        ({"method": "POST", "data": {"a": 1}},
         {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "3"}),
        ({"method": "POST", "body": "{}", "headers": {"content-type": "text/x"}},
         {"content-type": "text/x", "Content-Type": None}),
        ({"headers": {"USER-AGENT": "me"}}, {"USER-AGENT": "me", "User-Agent": None}),
        ({"headers": {"accept": "text/html"}}, {"accept": "text/html", "Accept": None}),
        ({"headers": {"Connection": "close"}}, {"Connection": "close"}),
        ({"headers": {"host": "virtual.example"}}, {"host": "virtual.example", "Host": None}),
        ({"headers": {"Content-Length": "0"}}, {"Content-Length": None}),
        ({"client": {"headers": {"X-Key": "k", "accept": "a"}}}, {"X-Key": "k", "accept": "a"}),
        ({"client": {"headers": {"X-Key": "k"}}, "headers": {"x-key": "other"}},
         {"x-key": "other", "X-Key": None}),
        ({"client": {"user_agent": ""}}, {"User-Agent": None}),
        ({"client": {"pool": False}}, {"Connection": "close"}),
        ({"method": "get"}, {"Accept": "*/*"}),
    ],
)  # fmt: skip
def test_the_callers_fields_replace_the_automatic_ones(kwargs, expected):
    _, raw, _ = exchange(**kwargs)
    sent = fields(raw)
    assert {name: sent.get(name) for name in expected} == expected


ABSENT = dict.fromkeys(
    ("params", "headers", "cookies", "auth", "data", "files", "timeout", "timeout_ms", "retry",
     "follow_redirects", "verify", "cert"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "given", "length", "body", "content_type"),
    [
        ("GET", {}, None, b"", None),
        ("POST", {}, "0", b"", None),
        ("POST", {"data": {"a": 1}}, "3", b"a=1", "application/x-www-form-urlencoded"),
        ("POST", {"data": {"a": 1}, "files": {}}, "3", b"a=1", "application/x-www-form-urlencoded"),
        ("POST", {"json": [1], "files": []}, "3", b"[1]", "application/json"),
        ("POST", {"body": b"raw", "params": {}}, "3", b"raw", None),
    ],
)
def test_none_and_no_files_are_the_same_as_not_given(method, given, length, body, content_type):
    _, raw, _ = exchange(method=method, **{**ABSENT, **given})
    sent = fields(raw)
    assert raw.startswith(f"{method} / HTTP/1.1\r\n".encode())
    assert raw.partition(b"\r\n\r\n")[2] == body
    assert (sent.get("Content-Length"), sent.get("Content-Type")) == (length, content_type)


def test_no_cookies_may_stand_beside_a_cookie_field():
    _, raw, _ = exchange(headers={"Cookie": "a=1"}, cookies={})
    assert fields(raw)["Cookie"] == "a=1"


@pytest.mark.parametrize("other", [{"body": b"x"}, {"data": {"a": 1}}, {"files": {"f": b"x"}}])
def test_the_json_null_is_no_absence_and_the_error_says_so(other):
    with HttpClient("http://h", transport=MemoryTransport(lambda stream: None)) as client:
        with pytest.raises(ValidationError, match="json=None is the JSON null"):
            client.request("POST", "/", json=None, **other)


@pytest.mark.parametrize("form", [dict, lambda headers: list(headers.items())])
def test_a_field_that_is_none_is_left_out(form):
    names = ("user-agent", "Accept", "ACCEPT-ENCODING", "X-Key", "x-not-there")
    client = {"headers": {"X-Key": "k", "X-Kept": "yes"}}
    _, raw, _ = exchange(client=client, headers=form({**dict.fromkeys(names), "X-Own": "1"}))
    assert set(fields(raw)) == {"Host", "Connection", "X-Kept", "X-Own"}


def test_a_field_left_out_of_a_call_stays_out_behind_a_redirect_and_is_in_the_next_call():
    moved = response(b"", "302 Found", "Location: /there")
    with ScriptedServer([answers(moved, OK, OK)]) as server:
        with HttpClient(server.base, headers={"X-Key": "k"}) as client:
            client.get("/", headers={"X-Key": None})
            client.get("/")
        assert [b"X-Key: k" in head for head in server.requests()] == [False, False, True]


def test_no_credentials_are_sent_where_their_field_is_left_out(tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ann password secret\n")
    netrc.chmod(0o600)
    moved = response(b"", "302 Found", "Location: /there")
    for client in ({"auth": ("ann", "secret")}, {"netrc": netrc}):
        with ScriptedServer([answers(moved, OK, OK)]) as server:
            with HttpClient(server.base, **client) as caller:
                caller.get("/", headers={"authorization": None})
                caller.get("/", headers={"Authorization": None}, auth=BearerAuth("own"))
            got = [fields(head).get("Authorization") for head in server.requests()]
        assert got == [None, None, "Bearer own"]


def test_no_cookies_are_sent_that_were_kept_where_their_field_is_left_out():
    moved = response(b"", "302 Found", "Location: /there", "Set-Cookie: b=2")
    with ScriptedServer([answers(moved, OK, OK, OK)]) as server:
        with HttpClient(server.base, cookies={"a": "1"}) as client:
            client.get("/", headers={"cookie": None})
            client.get("/", headers={"Cookie": None}, cookies={"own": "3"})
            client.get("/")
        got = [fields(head).get("Cookie") for head in server.requests()]
    assert got == [None, None, "own=3", "a=1; b=2"]


def test_the_type_of_a_body_may_be_left_out():
    _, raw, _ = exchange(method="POST", json=[1], headers={"Content-Type": None})
    assert "Content-Type" not in fields(raw)


def test_streamed_bodies_and_downloads_leave_fields_out_too(tmp_path):
    given = {"User-Agent": None, "content-type": None}
    with ScriptedServer([answers(OK, OK)]) as server, HttpClient(server.base) as client:
        client.send_chunked("POST", "/", iter([b"x"]), headers=given)
        client.download("/", tmp_path / "file", headers=given)
        first, rest = bytes(server.seen[0]).split(b"0\r\n\r\n", 1)
    for head in (first, rest):
        assert not {"User-Agent", "Content-Type"} & set(fields(head))


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding"])
def test_what_a_request_cannot_be_without_is_not_left_out(name):
    with HttpClient("http://h", transport=MemoryTransport(lambda stream: None)) as client:
        with pytest.raises(ValidationError, match=f"{name.lower()} cannot be left out"):
            client.post("/", b"x", headers={name: None})


def test_repeated_fields_of_the_caller_are_all_sent():
    _, raw, _ = exchange(headers=[("X-A", "1"), ("X-A", "2")])
    assert raw.count(b"X-A: ") == 2


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"auth": ("u", "p")}, "Basic dTpw"),
        ({"auth": BearerAuth("t")}, "Bearer t"),
        ({"auth": lambda headers: headers.set("Authorization", "Mine")}, "Mine"),
        ({"client": {"auth": BearerAuth("client")}}, "Bearer client"),
        ({"client": {"auth": BearerAuth("client")}, "headers": {"Authorization": "own"}}, "own"),
        ({"client": {"auth": BearerAuth("client")}, "headers": {"Authorization": "own"},
          "auth": BearerAuth("call")}, "Bearer call"),
        ({"client": {"auth": BearerAuth("c"), "headers": {"Authorization": "d"}}}, "Bearer c"),
        ({"client": {"headers": {"Authorization": "default"}}}, "default"),
        ({}, None),
    ],
)  # fmt: skip
def test_which_credentials_win(kwargs, expected):
    _, raw, _ = exchange(**kwargs)
    assert fields(raw).get("Authorization") == expected


def test_user_name_and_password_in_the_url_are_the_last_choice():
    with ScriptedServer([answers(OK, OK, OK)]) as server:
        url = f"http://u:p@{server.peer}/"
        with HttpClient() as client:
            got = client.get(url)
            client.get(url, headers={"authorization": "own"})
        with HttpClient(url) as client:
            assert "u:p" not in repr(client) + client.base_url
            assert client.idle_count() == 0
        assert b"Authorization: Basic dTpw\r\n" in server.requests()[0] + b"\r\n"
        assert b"own" in server.requests()[1]
        assert "u:p" not in got.url


def test_an_auth_is_asked_for_each_request_and_may_set_several_fields():
    def sign(headers: HeaderMap) -> None:
        count.append(1)
        headers.set("X-Signature", str(len(count)))
        headers.set("X-Key", "k")

    count: list[int] = []
    with ScriptedServer([answers(OK, OK)]) as server, HttpClient(server.base, sign) as client:
        client.get("/")
        client.get("/")
        first, second = server.requests()
    assert b"X-Signature: 1" in first
    assert b"X-Signature: 2" in second
    assert b"X-Key: k" in second


def test_credentials_of_a_client_with_a_base_go_to_no_other_origin():
    with (
        ScriptedServer([answers(OK)]) as other,
        HttpClient(
            "http://127.0.0.1:1/", BearerAuth("t"), headers={"Cookie": "c=1", "X-Plain": "y"}
        ) as client,
    ):
        client.get(other.base)
        sent = fields(bytes(other.seen[0]))
    assert "Authorization" not in sent
    assert "Cookie" not in sent
    assert sent["X-Plain"] == "y"


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"method": "GET /x"}, ValidationError),
        ({"method": ""}, ValidationError),
        ({"method": "CONNECT"}, ValidationError),
        ({"method": "connect"}, ValidationError),
        ({"method": "TRACE", "body": b"x"}, ValidationError),
        ({"headers": {"X": "a\r\nb"}}, HeaderInjectionError),
        ({"headers": {"X y": "a"}}, HeaderInjectionError),
        ({"headers": {"Host": "a b"}}, ValidationError),
        ({"headers": [("Host", "a"), ("Host", "b")]}, ValidationError),
        ({"method": "POST", "body": b"abc", "headers": {"Content-Length": "4"}}, ValidationError),
        ({"method": "POST", "body": b"a", "json": 1}, ValidationError),
        ({"timeout": 1, "timeout_ms": 1}, ValidationError),
        ({"timeout_ms": -1}, ValidationError),
        ({"url": "//evil/"}, UrlParseError),
        ({"auth": "user:pass"}, TypeError),
        ({"auth": BearerAuth("a\nb")}, HeaderInjectionError),
    ],
)
def test_our_own_mistakes_are_told_before_anything_is_dialled(kwargs, error):
    transport = MemoryTransport(lambda stream: None)
    with HttpClient("http://h", transport=transport) as client:
        with pytest.raises(error):
            client.request(kwargs.pop("method", "GET"), kwargs.pop("url", "/"), **kwargs)
        assert transport.dialled == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"base_url": "nonsense"}, UrlParseError),
        ({"base_url": object()}, TypeError),
        ({"base_url": BearerAuth("t"), "auth": BearerAuth("t")}, TypeError),
        ({"transport": object()}, TypeError),
        ({"timeout_ms": -1}, ValidationError),
        ({"read_timeout_ms": 1.5}, ValidationError),
        ({"max_connections": -1}, ValidationError),
        ({"max_idle_per_host": -1}, ValidationError),
        ({"max_redirects": -1}, ValidationError),
        ({"max_response_bytes": -1}, ValidationError),
        ({"headers": {"Content-Length": "3"}}, ValidationError),
        ({"headers": {"X": "\n"}}, HeaderInjectionError),
        ({"cookies": "a=b"}, TypeError),
        ({"cookies": [("a", "b")]}, TypeError),
        ({"proxy": {"http": "http://p:1"}}, TypeError),
    ],
)
def test_a_bad_setting_is_told_at_once(arguments, error):
    with pytest.raises(error):
        HttpClient(**arguments)


def test_settings_of_the_wrong_kind_are_told_what_is_meant():
    with pytest.raises(TypeError, match="one URL, such as 'http://proxy:3128', for all schemes"):
        HttpClient(proxy={"http": "http://p:1"})
    with pytest.raises(TypeError, match="a bool, a mapping or a ClientCookieJar, not str"):
        HttpClient(cookies="a=b")
    with HttpClient("http://h", transport=MemoryTransport(lambda stream: None)) as client:
        with pytest.raises(TypeError, match="a mapping of names and values, not str"):
            client.get("/", cookies="a=b")


def test_auth_may_come_first():
    with ScriptedServer([answers(OK)]) as server, HttpClient(BasicAuth("u", "p")) as client:
        client.get(server.base)
        assert b"Basic dTpw" in server.seen[0]


def test_the_host_in_the_url_is_the_peer():
    def serve(stream):
        stream.read()
        stream.write_all(OK)

    transport = MemoryTransport(serve)
    with HttpClient(transport=transport, pool=False) as client:
        for url in ("http://a.example/", "http://u:b.example@a.example:81/", "http://[::1]:5/@x"):
            assert client.get(url).ok
    transport.join()
    assert [(host, port) for host, port, _ in transport.dialled] == [
        ("a.example", 80), ("a.example", 81), ("::1", 5),
    ]  # fmt: skip


def test_send_takes_a_request_and_leaves_it_alone():
    with ScriptedServer([answers(OK, OK)]) as server, HttpClient(server.base) as client:
        request = Request("PUT", "/x", b"body", headers={"X-A": "1"})
        before = request.headers.items()
        client.send(request)
        client.send(Request("GET", f"{server.base}/y"))
        assert request.headers.items() == before
        assert request.url == "/x"
        raw = bytes(server.seen[0])
    assert raw.startswith(b"PUT /x HTTP/1.1\r\n")
    assert b"Content-Length: 4\r\n\r\nbody" in raw
    assert b"GET /y HTTP/1.1" in raw


def test_trailers_and_opaque_bytes_come_through():
    answer = (
        b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nX-Name: caf\xe9\r\n\r\n"
        b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
    )
    with ScriptedServer([answers(answer, OK)]) as server, HttpClient(server.base) as client:
        got = client.get("/")
        assert (got.body, got.reason) == (b"abcde", "")
        assert got.headers["x-name"] == "café"
        assert got.trailers["x-sum"] == "5"
        client.get("/")
        assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0, 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("GET", b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"),
    ],
)  # fmt: skip
def test_responses_without_a_body_leave_the_connection_in_step(method, answer):
    with ScriptedServer([answers(answer, OK)]) as server, HttpClient(server.base) as client:
        assert client.request(method, "/").body == b""
        assert client.get("/").body == b"hello"
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\r\n",
    ],
)
def test_a_connection_that_must_or_cannot_go_on_is_not_kept(answer):
    with (
        ScriptedServer([answers(answer), answers(OK)]) as server,
        HttpClient(server.base) as client,
    ):
        assert client.get("/").body == b"hello"
        assert client.idle_count() == 0
        assert client.get("/").body == b"hello"
        assert server.connections == 2


def test_a_body_without_a_length_ends_with_the_connection():
    with (
        ScriptedServer([answers(b"HTTP/1.1 200 OK\r\n\r\nall of it")]) as server,
        HttpClient(server.base) as client,
    ):
        assert client.get("/").body == b"all of it"
        assert client.idle_count() == 0


def test_raise_for_status_carries_the_response():
    with ScriptedServer([answers(response(b"no", "404 Not Found"))]) as server:
        got = http.get(f"{server.base}/x")
        with pytest.raises(HttpError, match=f"404 Not Found .{server.base}/x") as caught:
            got.raise_for_status()
        assert caught.value.response is got


@pytest.mark.parametrize("verb", ["get", "head", "options", "delete", "post", "put", "patch"])
def test_every_verb_of_module_and_client(verb):
    answer = OK if verb != "head" else b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    arguments = [b"x"] if verb in ("post", "put", "patch") else []
    with ScriptedServer([answers(answer), answers(answer)]) as server:
        assert getattr(http, verb)(f"{server.base}/p", *arguments, timeout=5).ok
        with HttpClient(server.base) as client:
            assert getattr(client, verb)("/p", *arguments).ok
        for raw in server.seen:
            assert raw.startswith(verb.upper().encode() + b" /p HTTP/1.1\r\n")
        assert b"Connection: close" in server.seen[0]


def test_a_closed_client_refuses_calls():
    client = HttpClient("http://127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(NetworkError, match="closed"):
        client.get("/")


def test_a_client_left_with_idle_connections_warns():
    with ScriptedServer([answers(OK)]) as server:
        clients = [HttpClient(server.base)]
        clients[0].get("/")
        assert "idle=1" in repr(clients[0])
        with pytest.warns(ResourceWarning, match="unclosed <HttpClient"):
            clients.clear()


def test_chainables_return_the_client():
    with ScriptedServer([answers(OK), answers(OK)]) as server:
        with HttpClient(server.base, pool=False).with_pool(1, 1, 0) as client:
            client.get("/")
            assert client.idle_count() == 1
            assert b"Connection: keep-alive" in server.seen[0]
        with HttpClient.default() as client:
            assert client.with_redirect_policy(http.RedirectPolicy.deny()) is client
            client.get(server.base)
