"""The tables of docs/from-requests.md: what requests does and what flare does is the same."""

from __future__ import annotations

import email.message
import email.parser
import email.policy
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flare
import flare.http
from flare.http import (
    BasicAuth,
    DigestAuth,
    HttpClient,
    Request,
    Response,
    RetryPolicy,
    Router,
    StreamingResponse,
    get,
    ok,
    ok_json_value,
    post,
    redirect,
)
from flare.http.client import request
from flare.testing import running_server

sys.path.append(str(Path(__file__).parents[1] / "http" / "client"))
from scripted import Eof, ScriptedServer, Send, Whole

PAGE = Path(__file__).parents[2] / "docs" / "from-requests.md"
_code = re.compile(r"`([^`]+)`").findall


def table(title: str) -> list[tuple[list[str], list[str]]]:
    """The pieces of code on both sides of each row."""
    section = PAGE.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows, title
    found = []
    for row in rows:
        _, left, right, _ = row.split(" | ") if row.count(" | ") == 3 else ("", *_halves(row), "")
        found.append((_code(left), _code(right)))
    return found


def _halves(row: str) -> tuple[str, str]:
    left, _, right = row.strip("| ").partition(" | ")
    return left, right


def run(code: str, names: dict[str, Any]) -> Any:
    """The value of an expression; of a statement, what it leaves in ``got``."""
    names.pop("got", None)
    try:
        compiled = compile(code, "<table>", "eval")
    except SyntaxError:
        exec(compile(code, "<table>", "exec"), names)
        return names.get("got")
    return eval(compiled, names)


def echo(request: Request) -> Response:
    kind = request.headers.get("content-type")
    files = {}
    if kind.startswith("multipart/"):
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        for part in parser.parsebytes(head + request.body).iter_parts():
            assert isinstance(part, email.message.EmailMessage)
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            files[str(name)] = [part.get_filename(), content.decode()]
    return ok_json_value(
        {
            "method": request.method,
            "query": request.query,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "text": "" if files else request.text(),
            "json": request.json() if kind == "application/json" else None,
            "files": files,
        }
    )


def answer(request: Request) -> Response:
    response = ok_json_value({"method": request.method})
    response.headers.set("Link", '</echo?page=2>; rel="next"')
    return response


def digest(request: Request) -> Response:
    given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.headers.get("authorization")))
    if given:
        first, second = (
            hashlib.md5(text.encode()).hexdigest() for text in ("user:r:pass", "GET:/digest")
        )
        middle = ":".join(given[name] for name in ("nonce", "nc", "cnonce", "qop"))
        expected = hashlib.md5(f"{first}:{middle}:{second}".encode()).hexdigest()
        if given["response"] == expected:
            return ok("welcome")
    challenge = 'Digest realm="r", nonce="n", qop="auth"'
    return Response(401, headers={"WWW-Authenticate": challenge})


def with_cookie(response: Response, cookie: str) -> Response:
    response.headers.append("Set-Cookie", cookie)
    return response


def lines(request: Request) -> StreamingResponse[Any]:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return StreamingResponse(200, iter([b"one\ntw", b"o\n"]), headers=headers)


def server() -> Router:
    router = Router()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        router.route(method, "/echo", echo)
    router.get("/digest", digest)
    router.get("/moved", lambda request: with_cookie(redirect("/answer"), "seen=1"))
    router.get("/answer", answer)
    router.get("/login", lambda request: with_cookie(redirect("/echo"), "sid=7; Path=/"))
    router.get("/loop", lambda request: redirect("/loop"))
    router.get("/text", lambda request: ok("text"))
    router.get("/lines", lines)
    return router


@pytest.fixture
def base() -> Iterator[str]:
    with running_server(server()) as running:
        yield f"http://{running.local_addr()}"


@pytest.fixture
def names(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the flare side of the page knows."""
    monkeypatch.chdir(tmp_path)
    Path("photo.png").write_bytes(b"a photo")
    for name in ("ca.pem", "cert.pem", "key.pem", "client.pem"):
        Path(name).touch()
    opened = []

    def open_(*arguments: Any) -> Any:
        file = open(*arguments)  # noqa: SIM115 - closed below
        opened.append(file)
        return file

    with HttpClient() as client:
        yield {
            # A server takes the request of a client of proxies, too.
            "base": base, "proxy": base, "url": f"{base}/echo", "lines": f"{base}/lines",
            "open": open_, "client": client, "HttpClient": HttpClient, "BasicAuth": BasicAuth,
            "DigestAuth": DigestAuth, "RetryPolicy": RetryPolicy, "Request": Request, "get": get,
            "post": post,
            "request": request, "check": lambda *arguments, **more: None,
        }  # fmt: skip
    for file in opened:
        file.close()


@pytest.fixture
def theirs(
    need: Callable[[str], Any], names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """What the side of requests knows."""
    requests = need("requests")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with requests.Session() as session:
        known = {
            **names, "requests": requests, "session": session,
            "HTTPDigestAuth": requests.auth.HTTPDigestAuth,
            "HTTPAdapter": requests.adapters.HTTPAdapter, "Retry": need("urllib3").Retry,
        }  # fmt: skip
        yield known
        known.clear()  # the last response, whose connection would stay open


SAME = ["One call", "The response", "A session", "Streaming"]


@pytest.mark.peer("requests")
@pytest.mark.parametrize("title", SAME)
def test_both_sides_of_a_row_give_the_same(title, theirs, names):
    if title == "The response":
        theirs["r"] = theirs["requests"].get(theirs["base"] + "/moved")
        names["r"] = get(names["base"] + "/moved")
    for left, right in table(title):
        [expected] = [run(code, theirs) for code in left]
        for code in right:
            got = run(code, names)
            if got is not None:
                assert got == expected, f"{left} -> {code}"


@pytest.mark.parametrize("title", SAME)
def test_the_side_of_flare_runs_by_itself(title, names):
    names["r"] = get(names["base"] + "/moved")
    for _, right in table(title):
        assert right
        for code in right:
            run(code, names)


@pytest.mark.peer("requests")
def test_what_a_session_is_made_with(theirs, names):
    for left, right in table("What a session is made with"):
        assert left
        for code in left:
            run(code, theirs)
        with run(right[0], names) as client:
            assert isinstance(client, HttpClient)


def test_no_timeout_is_the_clients_own_limit_and_0_is_none(base):
    with ScriptedServer([[Whole(), Eof()]]) as silent, HttpClient(timeout_ms=200) as client:
        with pytest.raises(flare.Timeout):
            client.get(silent.base, timeout=None)
    with HttpClient(timeout_ms=1) as client:
        assert client.get(f"{base}/echo", timeout=0).ok
    with HttpClient(timeout_ms=0) as client:
        assert client.get(f"{base}/echo", timeout=None).ok


def test_any_response_is_true():
    assert bool(Response(404)) is True
    assert not Response(404).ok


def named(dotted: str, package: Any) -> type[BaseException]:
    value: Any = package
    for part in dotted.split(".")[1:]:
        value = getattr(value, part)
    assert issubclass(value, BaseException)
    return value


def refused_url() -> str:
    with ScriptedServer([]) as gone:
        return gone.base


CUT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"


@pytest.mark.peer("requests")
def test_the_errors_of_a_row_are_raised_by_the_same(theirs, base):
    requests = theirs["requests"]
    silent, cut = [Whole(), Eof()], [Whole(), Send(CUT)]
    with ScriptedServer([silent, cut, silent, cut]) as misbehaving:
        calls: dict[str, tuple[Callable[..., Any], str]] = {
            "requests.ConnectionError": (lambda get, **_: get(refused_url()), ""),
            "requests.ReadTimeout": (
                lambda get, **_: get(misbehaving.base, timeout=(20, 0.2)), "phase"),
            "requests.exceptions.ChunkedEncodingError": (
                lambda get, **_: get(misbehaving.base).content, ""),
            "requests.HTTPError": (
                lambda get, **_: get(base + "/none").raise_for_status(), "response"),
            "requests.TooManyRedirects": (lambda get, **_: get(base + "/loop"), ""),
            "requests.exceptions.MissingSchema": (lambda get, **_: get("no-scheme"), ""),
            "requests.JSONDecodeError": (lambda get, **_: get(base + "/text").json(), ""),
        }  # fmt: skip
        rows = {left[0]: right[0] for left, right in table("Errors")}
        assert rows.keys() - calls.keys() == {"requests.ConnectTimeout"}
        for getter, package in ((requests.get, requests), (get, flare)):
            for left, (call, attribute) in calls.items():
                right = rows[left]
                if package is requests:
                    expected = named(left, requests)
                elif right.startswith("json."):
                    expected = json.JSONDecodeError
                else:
                    expected = named(right, flare)
                with pytest.raises(expected) as caught:
                    call(get=getter)
                if package is flare and attribute:
                    assert getattr(caught.value, attribute) is not None
                if package is flare and "UrlParse" not in right and "json" not in right:
                    assert isinstance(caught.value, OSError)


def test_the_names_of_the_errors_exist():
    for _, right in table("Errors"):
        if not right[0].startswith("json."):
            assert named(right[0], flare)
