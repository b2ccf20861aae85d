"""curl as a client of the server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flare.http import (
    Request,
    Response,
    ok,
    ok_json_value,
    parse_form_urlencoded,
    parse_multipart_form_data,
)
from flare.http.server import redirect, stream_response

Curl = Callable[..., str]
Serve = Callable[..., str]


@pytest.fixture
def curl(need: Callable[[str], Any]) -> Curl:
    """Run curl; its output. Fails where curl does."""
    program = need("curl")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, "-sS", "--noproxy", "*", "--max-time", "20", *arguments],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode("latin-1")

    return run


def application(request: Request) -> Response:
    match request.path:
        case "/big":
            return ok(b"x" * 1_000_000)
        case "/stream":
            return stream_response(b"%d\n" % number for number in range(1000))
        case "/redirect":
            return redirect("/", 307)
        case "/echo":
            return ok(request.body)
        case "/size":
            return ok(str(len(request.body)))
    return ok(f"{request.method} {request.version} {request.url}")


def test_a_get_with_its_head(curl: Curl, serve: Serve) -> None:
    head, _, body = curl("-i", serve(application) + "/a?b=c").partition("\r\n\r\n")
    assert body == "GET HTTP/1.1 /a?b=c"
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Connection: keep-alive" in head


def test_a_head(curl: Curl, serve: Serve) -> None:
    output = curl("-I", serve(application) + "/big")
    assert output.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Length: 1000000\r\n" in output
    assert output.endswith("\r\n\r\n")


def test_a_form(curl: Curl, serve: Serve) -> None:
    assert curl("-d", "a=1", "-d", "b=2", serve(application) + "/echo") == "a=1&b=2"


def test_a_form_of_fields_that_need_escapes(curl: Curl, serve: Serve) -> None:
    def read(request: Request) -> Response:
        return ok_json_value(parse_form_urlencoded(request.body).items())

    sent = curl("--data-urlencode", "a=é &;=+%", "--data-urlencode", "b=", serve(read) + "/")
    assert json.loads(sent.encode("latin-1")) == [["a", "é &;=+%"], ["b", ""]]


def test_a_form_with_files(curl: Curl, serve: Serve, tmp_path: Path) -> None:
    def read(request: Request) -> Response:
        form = parse_multipart_form_data(request.body, request.headers.get("content-type"))
        return ok_json_value([[p.name, p.filename, p.content_type, p.text()] for p in form])

    path = tmp_path / "photo"
    path.write_bytes(b"\r\n--b--\r\n")
    fields = ["title=At sea", f'photo=@{path};filename="a\\"b é.png";type=image/png', "empty="]
    arguments = [argument for each in fields for argument in ("-F", each)]
    assert json.loads(curl(*arguments, serve(read) + "/").encode("latin-1")) == [
        ["title", "", "", "At sea"],
        ["photo", 'a"b é.png', "image/png", "\r\n--b--\r\n"],
        ["empty", "", "", ""],
    ]


def test_a_chunked_upload(curl: Curl, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"y" * 300_000)
    url = serve(application) + "/size"
    assert curl("-T", str(path), "-H", "Transfer-Encoding: chunked", url) == "300000"


def test_an_upload_that_waits_to_be_told_to_go_on(curl: Curl, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"z" * 2_000_000)
    url = serve(application) + "/size"
    expect = ("-H", "Expect: 100-continue", "--expect100-timeout", "15")
    output = curl("-i", "--data-binary", f"@{path}", *expect, url, "-w", " %{time_total}")
    assert output.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    answer, _, seconds = output.rpartition(" ")
    assert answer.endswith("\r\n\r\n2000000")
    assert float(seconds) < 10  # it did not run into its own timeout


def test_http_10(curl: Curl, serve: Serve) -> None:
    url = serve(application)
    assert curl("--http1.0", url + "/") == "GET HTTP/1.0 /"
    assert curl("--http1.0", url + "/stream").count("\n") == 1000


def test_a_download(curl: Curl, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "download"
    curl("-o", str(path), serve(application) + "/big")
    assert path.read_bytes() == b"x" * 1_000_000


def test_a_streamed_download(curl: Curl, serve: Serve) -> None:
    output = curl("-i", serve(application) + "/stream")
    assert "Transfer-Encoding: chunked" in output
    assert output.endswith("\n998\n999\n")


def test_a_redirect_with_its_body(curl: Curl, serve: Serve) -> None:
    assert curl("-L", "-d", "x", serve(application) + "/redirect") == "POST HTTP/1.1 /"


def test_many_requests_on_one_connection(curl: Curl, serve: Serve) -> None:
    url = serve(application)
    output = curl(*[f"{url}/{number}" for number in range(50)], "-w", " %{num_connects}\n")
    lines = output.splitlines()
    assert len(lines) == 50
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == 1


def test_an_upload_that_is_too_large_is_told_so(curl: Curl, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"z" * 11_000_000)
    url = serve(application) + "/size"
    output = curl("-o", "/dev/null", "-w", "%{http_code}", "--data-binary", f"@{path}", url)
    assert output == "413"
