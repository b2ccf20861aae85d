"""HttpDownload: the ways to read it, and where its connection goes."""

from __future__ import annotations

import time

import pytest
from scripted import Drip, Eof, ScriptedServer, Send, Whole, answers, response

from flare.errors import NetworkError, ValidationError
from flare.http.client import CallTimeout, HttpClient, HttpDownload, get
from flare.http.errors import HttpError, HttpProtocolError

TEXT = b"one\ntwo\r\nthree\rfour\xe2\x82\xac\n\nlast"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%b\r\n" % (len(TEXT[i : i + 3]), TEXT[i : i + 3]) for i in range(0, len(TEXT), 3)
) + b"0\r\nX-Sum: 1\r\n\r\n"  # fmt: skip


@pytest.fixture(params=["length", "chunked", "until close"])
def download(request):
    answer = {
        "length": response(TEXT),
        "chunked": CHUNKED,
        "until close": b"HTTP/1.1 200 OK\r\n\r\n" + TEXT,
    }[request.param]
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        with client.get_streaming("/") as opened:
            yield opened
            assert opened.closed
        assert client.idle_count() == (request.param != "until close")


def test_it_is_read_in_chunks(download):
    chunks = []
    while chunk := download.read_chunk(4):
        assert len(chunk) <= 4
        chunks.append(chunk)
    assert b"".join(chunks) == TEXT
    assert download.read_chunk() == b""


def test_it_is_read_like_a_file(download):
    assert download.read(5) == TEXT[:5]
    assert download.read(0) == b""
    assert download.read() == TEXT[5:]
    assert download.read() == b""
    assert download.read(3) == b""


def test_it_is_read_whole(download):
    assert download.read_chunk(2) == TEXT[:2]
    assert download.read_all() == TEXT[2:]


def test_it_is_iterated(download):
    assert b"".join(download) == TEXT


def test_it_is_iterated_in_equal_chunks(download):
    assert [len(chunk) for chunk in download.iter_bytes(10)] == [10, 10, len(TEXT) - 20]


def test_it_is_iterated_by_lines(download):
    assert list(download.iter_lines()) == ["one", "two", "three", "four€", "", "last"]


def test_it_has_all_of_a_response(download):
    assert download.ok
    assert download.status == 200
    assert download.request.method == "GET"
    assert download.body == TEXT
    assert download.body == download.content == TEXT
    assert download.text().endswith("last")


@pytest.mark.parametrize("cut", range(1, len(TEXT)))
def test_lines_do_not_depend_on_how_the_bytes_come(cut):
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (cut, TEXT[:cut], len(TEXT) - cut, TEXT[cut:])
    )
    with (
        ScriptedServer([[Whole(), Drip(answer[:-20], 0), Send(answer[-20:])]]) as server,
        get(server.base, stream=True) as download,
    ):
        assert isinstance(download, HttpDownload)
        assert list(download.iter_lines()) == ["one", "two", "three", "four€", "", "last"]


@pytest.mark.parametrize("charset", ["rot13", "zlib", "idna", "undefined", "nonsense", "hex"])
def test_lines_in_what_is_no_charset_for_text_are_utf_8(charset):
    answer = response("é\nb".encode(), "200 OK", f"Content-Type: text/plain; charset={charset}")
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        with client.get_streaming("/") as download:
            assert list(download.iter_lines()) == ["é", "b"]


def test_lines_in_utf_16_have_a_byte_order_mark():
    kind = "Content-Type: text/plain; charset=utf-16"
    whole = response("é\nb".encode("utf-16"), "200 OK", kind)
    bare = response("é\nb".encode("utf-16-le"), "200 OK", kind)
    with ScriptedServer([answers(whole, bare)]) as server, HttpClient(server.base) as client:
        with client.get_streaming("/") as download:
            assert list(download.iter_lines()) == ["é", "b"]
        with client.get_streaming("/") as download:
            with pytest.raises(NetworkError, match="utf-16"):
                list(download.iter_lines())


def test_lines_follow_the_charset_and_are_bounded():
    latin = response(
        "a\xe9\nb".encode("latin-1"), "200 OK", "Content-Type: text/plain; charset=latin-1"
    )
    long = response(b"short\n" + b"x" * 101)
    with ScriptedServer([answers(latin, long)]) as server, HttpClient(server.base) as client:
        assert list(client.get_streaming("/").iter_lines()) == ["aé", "b"]
        lines = client.get_streaming("/").iter_lines(max_line=100)
        with pytest.raises(NetworkError, match="longer than 100"):
            list(lines)
        assert "active=0 idle=0" in repr(client)


def test_closing_early_drops_the_connection():
    scripts = [[*answers(response(b"x" * 1000)), Eof()], answers(response(b"y"))]
    with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
        with client.get_streaming("/") as download:
            assert download.read_chunk(10) == b"x" * 10
            assert "active=1" in repr(client)
        download.close()
        assert "active=0 idle=0" in repr(client)
        assert client.get("/").body == b"y"


def test_reading_on_after_an_early_close_is_an_error_and_not_an_end():
    with ScriptedServer([[*answers(response(b"x" * 1000)), Eof()]]) as server:
        with HttpClient(server.base) as client, client.get_streaming("/") as download:
            assert download.read_chunk(10) == b"x" * 10
        for read in (download.read_all, download.read_chunk, download.text, download.json):
            with pytest.raises(NetworkError, match="given up before its end"):
                read()


def test_reading_on_after_a_failed_read_is_an_error_and_not_an_end():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        download = client.get_streaming("/")
        with pytest.raises(HttpProtocolError):
            download.read_all()
        with pytest.raises(NetworkError, match="given up before its end"):
            download.read_all()


def test_a_download_read_to_its_end_still_is_after_it_is_closed():
    with ScriptedServer([answers(response(b"all"))]) as server, HttpClient(server.base) as client:
        with client.get_streaming("/") as download:
            assert download.text() == "all"
        assert download.text() == "all"
        assert download.read_chunk() == b""


def test_one_left_open_warns_and_gives_its_slot_back():
    scripts = [[*answers(response(b"x" * 1000)), Eof()], answers(response(b"y"))]
    with ScriptedServer(scripts) as server, HttpClient(server.base, max_connections=1) as client:
        download = client.get_streaming("/")
        box = [download]
        del download
        with pytest.warns(ResourceWarning, match="unclosed <HttpDownload 200 open"):
            box.clear()
        assert client.get("/").body == b"y"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
)
def test_without_a_body_the_connection_is_free_at_once(answer):
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        download = client.get_streaming("/")
        assert client.idle_count() == 1
        assert download.closed
        assert download.read_all() == b""


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"],
)  # fmt: skip
def test_a_body_cut_short_is_an_error(answer):
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        with client.get_streaming("/") as download, pytest.raises(HttpProtocolError):
            download.read_all()
        assert "active=0 idle=0" in repr(client)


def test_the_total_ends_at_the_head_and_the_read_timeout_goes_on(monkeypatch):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    script = [Whole(), Send(head), Drip(b"x" * 20, 0.002), Eof()]
    with (
        ScriptedServer([script]) as server,
        HttpClient(server.base) as client,
        client.get_streaming("/") as download,
    ):
        long_after = time.monotonic() + 1000
        monkeypatch.setattr("flare.http.client.timeouts.monotonic", lambda: long_after)
        assert download.read(20) == b"x" * 20
        # Short only now, where nothing more comes.
        clock = download._reply._clock
        clock.limits = clock.limits._replace(read=60)
        with pytest.raises(CallTimeout) as caught:
            download.read(1)
        assert caught.value.phase == "read"


def test_redirects_are_followed_and_status_is_judged():
    moved = response(b"", "302 Found", "Location: /x")
    script = answers(moved, response(b"gone", "410 Gone"))
    with (
        ScriptedServer([script]) as server,
        HttpClient(server.base) as client,
        client.get_streaming("/") as download,
    ):
        assert [hop.status for hop in download.history] == [302]
        with pytest.raises(HttpError, match="410 Gone"):
            download.raise_for_status()
        assert download.read_all() == b"gone"


def test_trailers_are_known_at_the_end():
    with ScriptedServer([answers(CHUNKED)]) as server, get(server.base, stream=True) as download:
        assert download.trailers.get("x-sum") == ""
        download.read_all()
        assert download.trailers["x-sum"] == "1"


def test_a_chunk_has_a_size():
    with (
        ScriptedServer([answers(response(b"x"))]) as server,
        get(server.base, stream=True) as download,
        pytest.raises(ValidationError),
    ):
        download.read_chunk(0)


def test_a_download_outlives_its_client():
    with ScriptedServer([answers(response(b"x" * 100))]) as server:
        with HttpClient(server.base) as client:
            download = client.get_streaming("/")
        assert download.read_all() == b"x" * 100
