"""Forms over a real socket: a handler that reads them, and the clients people use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flare.errors import HttpStatusError
from flare.http import (
    FormData,
    HttpClient,
    HttpParseError,
    MultipartFormBuilder,
    Request,
    Response,
    Router,
    ok_json_value,
    parse_form_urlencoded,
    parse_multipart_form_data,
)
from flare.testing import running_server

TOLD = "multipart/form-data; boundary=b"


def urlencoded(request: Request) -> Response:
    try:
        form = parse_form_urlencoded(request.body)
    except HttpParseError as error:
        raise HttpStatusError(error.status, error.detail)
    return ok_json_value(form.items())


def multipart(request: Request) -> Response:
    try:
        form = parse_multipart_form_data(request.body, request.headers.get("content-type"))
    except HttpParseError as error:
        raise HttpStatusError(error.status, error.detail)
    return ok_json_value([[part.name, part.filename, part.body.hex()] for part in form])


@pytest.fixture
def base() -> Iterator[str]:
    router = Router()
    router.post("/form", urlencoded)
    router.post("/multipart", multipart)
    with running_server(router) as server:
        yield f"http://{server.local_addr()}"


FIELDS = [("name", "Jörg & co;"), ("tag", "a"), ("tag", ""), ("", "=")]


@pytest.mark.parametrize("data", [FIELDS, FormData(FIELDS)])
def test_a_form_of_our_client(base, data):
    with HttpClient(base) as client:
        answer = client.post("/form", data=data)
    assert [tuple(pair) for pair in answer.json()] == FIELDS


def test_a_form_of_requests(base):
    requests = pytest.importorskip("requests", reason="pip install requests")
    answer = requests.post(f"{base}/form", data=FIELDS, timeout=20)
    assert [tuple(pair) for pair in answer.json()] == FIELDS


FILE = bytes(range(256)) * 4096 + b"\r\n--b\r\n--"


def test_an_upload_of_our_client(base, tmp_path):
    path = tmp_path / "ü \\.bin"
    path.write_bytes(FILE)
    expected = [["title", "", b"At sea".hex()], ["f", "ü \\.bin", FILE.hex()]]
    with HttpClient(base) as client:
        answer = client.post("/multipart", data={"title": "At sea"}, files={"f": path})
        assert answer.json() == expected
        pieces = iter([FILE[:1000], FILE[1000:]])  # of unknown length: chunked
        form = MultipartFormBuilder().field("title", "At sea").file("f", "ü \\.bin", "", pieces)
        assert client.post("/multipart", form).json() == expected


def test_an_upload_of_requests(base):
    requests = pytest.importorskip("requests", reason="pip install requests")
    answer = requests.post(
        f"{base}/multipart", data={"title": "é"}, files={"f": ('a"b.txt', FILE)}, timeout=20
    )
    assert answer.json() == [["title", "", "é".encode().hex()], ["f", 'a"b.txt', FILE.hex()]]


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status"),
    [
        ("/form", "", b"a=%zz", 400),
        ("/form", "", b"a&" * 1001, 413),
        ("/multipart", "", b"a=b", 415),
        ("/multipart", "application/x-www-form-urlencoded", b"a=b", 415),
        ("/multipart", "multipart/form-data", b"--b--", 400),
        ("/multipart", TOLD, b"--b\r\n", 400),
        ("/multipart", TOLD, b"--b\r\nX: " + b"x" * 9000, 413),
        (
            "/multipart",
            TOLD,
            b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * 1001,
            413,
        ),
    ],
)
def test_a_bad_form_gets_its_status_and_the_connection_stays(
    base, path, content_type, body, status
):
    headers = {"Content-Type": content_type} if content_type else {}
    with HttpClient(base) as client:
        answer = client.post(path, body, headers=headers)
        assert (answer.status, answer.text().isprintable()) == (status, True)
        assert client.post("/form", data={"a": "b"}).json() == [["a", "b"]]
