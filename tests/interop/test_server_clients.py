"""http.client, requests and httpx as clients of the server."""

from __future__ import annotations

import http.client
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from flare.http import Request, Response, ok
from flare.http.server import ServerConfig, redirect, stream_response

Serve = Callable[..., str]
Need = Callable[[str], Any]


class Application:
    """Answers, and counts the connections it saw."""

    def __init__(self) -> None:
        self.peers: set[str] = set()
        self.lock = threading.Lock()

    def serve(self, request: Request) -> Response:
        with self.lock:
            self.peers.add(str(request.peer))
        match request.path:
            case "/stream":
                return stream_response(b"%d\n" % number for number in range(1000))
            case "/echo":
                return ok(request.body)
            case "/redirect":
                return redirect("/echo", int(request.query))
            case "/nothing":
                return Response(204)
            case "/broken":
                raise ValueError
        return ok(f"{request.method} {request.url}")


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def url(serve: Serve, application: Application) -> str:
    return serve(application)


def parts() -> Iterator[bytes]:
    for number in range(100):
        yield b"%d," % number


PARTS = b"".join(parts())


# -- http.client --------------------------------------------------------------------------


@pytest.fixture
def connection(url: str) -> Iterator[http.client.HTTPConnection]:
    address = urlsplit(url)
    made = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    yield made
    made.close()


def ask(
    connection: http.client.HTTPConnection, *arguments: Any, **options: Any
) -> tuple[int, bytes]:
    connection.request(*arguments, **options)
    response = connection.getresponse()
    return response.status, response.read()


def test_http_client_keeps_its_connection(
    connection: http.client.HTTPConnection, application: Application
) -> None:
    for number in range(5):
        assert ask(connection, "GET", f"/{number}") == (200, b"GET /%d" % number)
    assert ask(connection, "HEAD", "/") == (200, b"")
    assert ask(connection, "GET", "/nothing") == (204, b"")
    assert ask(connection, "GET", "/broken") == (500, b"Internal Server Error")
    assert ask(connection, "DELETE", "/x") == (200, b"DELETE /x")
    assert len(application.peers) == 1


def test_http_client_reads_streams_and_uploads(connection: http.client.HTTPConnection) -> None:
    status, body = ask(connection, "GET", "/stream")
    assert (status, body.count(b"\n")) == (200, 1000)
    assert ask(connection, "POST", "/echo", body=b"x" * 1_000_000)[1] == b"x" * 1_000_000
    assert ask(connection, "POST", "/echo", body=parts(), encode_chunked=True)[1] == PARTS
    assert ask(connection, "POST", "/echo", body=io.BytesIO(b"file"))[1] == b"file"


# -- requests -----------------------------------------------------------------------------


@pytest.fixture
def session(need: Need) -> Iterator[Any]:
    requests = need("requests")
    with requests.Session() as made:
        made.trust_env = False
        yield made


def test_requests_keeps_its_connection(session: Any, url: str, application: Application) -> None:
    for number in range(5):
        response = session.get(f"{url}/{number}", timeout=10)
        assert (response.status_code, response.text) == (200, f"GET /{number}")
    assert session.head(url, timeout=10).headers["content-length"] == "6"
    assert session.get(url + "/nothing", timeout=10).status_code == 204
    assert session.get(url + "/broken", timeout=10).status_code == 500
    assert len(application.peers) == 1


def test_requests_reads_streams_and_uploads(session: Any, url: str) -> None:
    with session.get(url + "/stream", stream=True, timeout=10) as response:
        assert len(list(response.iter_lines())) == 1000
    assert session.post(url + "/echo", data=parts(), timeout=10).content == PARTS
    assert session.post(url + "/echo", json={"a": 1}, timeout=10).json() == {"a": 1}
    files = {"file": ("name", b"y" * 500_000)}
    assert b"y" * 500_000 in session.post(url + "/echo", files=files, timeout=10).content


@pytest.mark.parametrize(("status", "body"), [(303, b""), (307, b"body"), (308, b"body")])
def test_requests_follows_redirects(session: Any, url: str, status: int, body: bytes) -> None:
    response = session.post(f"{url}/redirect?{status}", data=b"body", timeout=10)
    assert (response.status_code, response.content) == (200, body)
    assert [hop.status_code for hop in response.history] == [status]


def test_requests_leaves_a_drained_connection_behind(session: Any, serve: Serve) -> None:
    """Told that a response is the last of its connection, it asks on a new one."""
    url = serve(Application(), ServerConfig(max_keepalive_requests=2))
    for number in range(9):
        assert session.get(f"{url}/{number}", timeout=10).text == f"GET /{number}"


# -- httpx --------------------------------------------------------------------------------


@pytest.fixture
def client(need: Need, url: str) -> Iterator[Any]:
    httpx = need("httpx")
    with httpx.Client(base_url=url, trust_env=False, timeout=10, follow_redirects=True) as made:
        yield made


def test_httpx_keeps_its_connection(client: Any, application: Application) -> None:
    for number in range(5):
        response = client.get(f"/{number}")
        assert (response.status_code, response.text) == (200, f"GET /{number}")
        assert response.http_version == "HTTP/1.1"
    assert client.head("/").headers["content-length"] == "6"
    assert client.get("/nothing").status_code == 204
    assert client.get("/broken").status_code == 500
    assert len(application.peers) == 1


def test_httpx_reads_streams_and_uploads(client: Any) -> None:
    with client.stream("GET", "/stream") as response:
        assert len(list(response.iter_lines())) == 1000
    assert client.post("/echo", content=parts()).content == PARTS
    assert client.post("/echo", json={"a": 1}).json() == {"a": 1}
    assert client.post("/echo", content=b"x" * 1_000_000).content == b"x" * 1_000_000


@pytest.mark.parametrize(("status", "body"), [(303, b""), (307, b"body")])
def test_httpx_follows_redirects(client: Any, status: int, body: bytes) -> None:
    response = client.post(f"/redirect?{status}", content=b"body")
    assert (response.status_code, response.content) == (200, body)


def test_httpx_in_many_threads(client: Any, application: Application) -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda number: client.get(f"/{number}").text, range(200)))
    assert texts == [f"GET /{number}" for number in range(200)]
    assert len(application.peers) <= 8
