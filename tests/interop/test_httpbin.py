"""The reference document's first examples, against a local httpbin and as servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flare.http import (
    BasicAuth,
    BearerAuth,
    DigestAuth,
    HttpClient,
    HttpError,
    RetryPolicy,
    TooManyRedirects,
    get,
    post,
)

SERVE = """
import logging, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from socketserver import ThreadingMixIn
import httpbin

class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

server = make_server("127.0.0.1", 0, httpbin.app, Server, Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def httpbin(need: Callable[[str], Any]) -> Iterator[str]:
    need("httpbin")
    program = subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert program.stdout is not None
        yield f"http://127.0.0.1:{int(program.stdout.readline())}"
    finally:
        program.kill()
        program.communicate()


def test_the_first_client_example_of_the_reference(httpbin: str) -> None:
    resp = get(f"{httpbin}/get")
    assert (resp.status, resp.ok()) == (200, True)
    r = post(f"{httpbin}/post", '{"hello": "flare"}')
    r.raise_for_status()
    data = r.json()
    assert data["json"]["hello"] == "flare"
    assert data["headers"]["Content-Type"] == "application/json"


def test_the_client_with_auth_example_of_the_reference(httpbin: str) -> None:
    with HttpClient(httpbin, BearerAuth("tok_abc")) as client:
        seen = client.get("/headers").json()
        assert seen["headers"]["Authorization"] == "Bearer tok_abc"
        client.post("/post", '{"name": "new"}').raise_for_status()
    with HttpClient(httpbin, BasicAuth("user", "secret")) as client:
        assert client.get("/basic-auth/user/secret").json()["authenticated"] is True
        assert client.get("/basic-auth/user/other").status == 401


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_each_verb_arrives(httpbin: str, method: str) -> None:
    with HttpClient(httpbin) as client:
        seen = client.request(method.upper(), "/anything", params={"a": "1 2"}).json()
    assert seen["method"] == method.upper()
    assert seen["args"] == {"a": "1 2"}


def test_redirects_are_followed_to_a_limit(httpbin: str) -> None:
    with HttpClient(httpbin, max_redirects=3) as client:
        resp = client.get("/redirect/3")
        assert resp.status == 200
        assert len(resp.history) == 3
        with pytest.raises(TooManyRedirects):
            client.get("/redirect/4")


def test_statuses_are_raised_when_asked_for(httpbin: str) -> None:
    with HttpClient(httpbin) as client:
        assert not client.get("/status/418").ok
        with pytest.raises(HttpError) as caught:
            client.get("/status/503").raise_for_status()
    assert caught.value.status == 503


def test_a_body_is_streamed_both_ways(httpbin: str) -> None:
    with HttpClient(httpbin) as client:
        with client.get("/stream-bytes/100000", params={"seed": "1"}, stream=True) as response:
            assert sum(map(len, response)) == 100_000
        seen = client.post("/anything", data={"name": "a b&c"}).json()
    assert seen["form"] == {"name": "a b&c"}


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512"])
@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_digest_is_understood(httpbin: str, qop: str, algorithm: str) -> None:
    url = f"{httpbin}/digest-auth/{qop}/user/secret/{algorithm}"
    with HttpClient() as client:
        # SHA-512 as such is no algorithm of RFC 7616.
        right = client.get(url, auth=DigestAuth("user", "secret"))
        assert right.status == (401 if algorithm == "SHA-512" else 200)
        assert client.get(url, auth=DigestAuth("user", "wrong")).status == 401


def test_cookies_are_kept_and_deleted(httpbin: str) -> None:
    with HttpClient(httpbin) as client:
        seen = client.get("/cookies/set", params={"a": "1", "b": "2"})
        assert [hop.status for hop in seen.history] == [302]
        assert seen.json() == {"cookies": {"a": "1", "b": "2"}}
        assert client.get("/cookies/delete", params={"a": ""}).json() == {"cookies": {"b": "2"}}
        assert client.cookies.to_dict() == {"b": "2"}


def test_a_status_is_tried_again_to_the_end(httpbin: str) -> None:
    seen: list[int] = []
    with HttpClient(httpbin, on_response=lambda response: seen.append(response.status)) as client:
        assert client.get("/status/503", retry=RetryPolicy(3)).status == 503
        assert client.get("/status/429", retry=RetryPolicy(2)).status == 429
    assert seen == [503] * 3 + [429] * 2
