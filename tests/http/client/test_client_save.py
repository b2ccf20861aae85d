"""Downloads into files: whole or not there, resumed by Range, started anew where that is wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading

import pytest
from scripted import Head, ScriptedServer, Send, Set, Wait, Whole, answers, response

from flare.errors import NetworkError, ValidationError
from flare.http.client import CallTimeout, HttpClient
from flare.http.client.timeouts import Clock
from flare.http.errors import HttpError, HttpProtocolError

DATA = hashlib.shake_128(b"file").digest(300_000)
TAG = 'ETag: "one"'
HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n{TAG}\r\n\r\n".encode()
CUT = [Whole(), Send(HEAD + DATA[:100_000])]


def rest(start: int, *fields: str, data: bytes = DATA) -> bytes:
    content_range = f"Content-Range: bytes {start}-{len(data) - 1}/{len(data)}"
    return response(data[start:], "206 Partial Content", content_range, *fields)


def fields_of(head: bytes) -> dict[bytes, bytes]:
    return dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.bin"


def left(path) -> list[str]:
    return sorted(os.listdir(path.parent))


def interrupted(client, path, **kwargs) -> None:
    with pytest.raises(HttpProtocolError):
        client.download("/file", path, **kwargs)
    assert left(path) == ["file.bin.part", "file.bin.part-info"]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, 65_000, 300_000])
def test_a_file_arrives_whole(path, framing, size):
    data = DATA[:size]
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (size, data) if size else b"0\r\n\r\n"
    answer = {
        "length": response(data, "200 OK", "X-Kind: file"),
        "chunked": b"HTTP/1.1 200 OK\r\nX-Kind: file\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunked,
        "close": b"HTTP/1.1 200 OK\r\nX-Kind: file\r\n\r\n" + data,
    }[framing]
    seen = []
    with ScriptedServer([answers(answer)]) as server, HttpClient(server.base) as client:
        got = client.download("/file", path, progress=lambda *how_far: seen.append(how_far))
        assert client.idle_count() == (framing != "close")
        asked = fields_of(server.requests()[0])
    assert path.read_bytes() == data
    assert left(path) == ["file.bin"]
    assert (got.status, got.headers["x-kind"], got.body) == (200, "file", b"")
    total = size if framing == "length" else None
    assert seen[0] == (0, total)
    assert seen[-1] == (size, total)
    assert asked[b"Accept-Encoding"] == b"identity"
    assert b"Range" not in asked


def test_an_old_file_is_replaced_only_by_a_whole_one(path):
    path.write_bytes(b"old")
    with (
        ScriptedServer([[*CUT], answers(response(b"new"))]) as server,
        HttpClient(server.base) as client,
    ):
        with pytest.raises(HttpProtocolError):
            client.download("/file", path)
        assert path.read_bytes() == b"old"
        client.download("/file", path)
    assert path.read_bytes() == b"new"
    assert left(path) == ["file.bin"]


@pytest.mark.parametrize(
    ("validator", "condition"),
    [
        (TAG, b'"one"'),
        (
            "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\nDate: Wed, 01 Jan 2020 00:00:05 GMT",
            b"Wed, 01 Jan 2020 00:00:00 GMT",
        ),
    ],
)
def test_a_download_goes_on_where_it_stopped(path, validator, condition):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n{validator}\r\n\r\n".encode()
    seen = []
    with (
        ScriptedServer(
            [[Whole(), Send(head + DATA[:100_000])], answers(rest(100_000, validator))]
        ) as server,
        HttpClient(server.base) as client,
    ):
        interrupted(client, path)
        got = client.download("/file", path, progress=lambda *how_far: seen.append(how_far))
        asked = fields_of(server.requests(1)[0])
    assert asked[b"Range"] == b"bytes=100000-"
    assert asked[b"If-Range"] == condition
    assert path.read_bytes() == DATA
    assert left(path) == ["file.bin"]
    assert got.status == 206
    assert seen[0] == (100_000, 300_000)
    assert seen[-1] == (300_000, 300_000)


@pytest.mark.parametrize(
    "fields",
    [
        "X: nothing to tell versions apart by",
        'ETag: W/"weak"',
        # Changed in the second it was sent in, so perhaps twice.
        "Last-Modified: Wed, 01 Jan 2020 00:00:05 GMT\r\nDate: Wed, 01 Jan 2020 00:00:05 GMT",
        "Last-Modified: nonsense\r\nDate: Wed, 01 Jan 2020 00:00:05 GMT",
        "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT",
    ],
)
def test_nothing_is_left_where_nothing_could_go_on(path, fields):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n{fields}\r\n\r\n".encode()
    script = [Whole(), Send(head + DATA[:100_000])]
    with ScriptedServer([script, answers(response(DATA))]) as server:
        with HttpClient(server.base) as client:
            with pytest.raises(HttpProtocolError):
                client.download("/file", path)
            assert left(path) == []
            client.download("/file", path)
        assert b"Range" not in fields_of(server.requests(1)[0])
    assert path.read_bytes() == DATA


def test_without_resume_nothing_is_left_and_nothing_taken_up(path):
    with (
        ScriptedServer([[*CUT], [*CUT], answers(response(DATA))]) as server,
        HttpClient(server.base) as client,
    ):
        interrupted(client, path)
        with pytest.raises(HttpProtocolError):
            client.download("/file", path, resume=False)
        assert left(path) == []
        client.download("/file", path, resume=False)
        assert b"Range" not in fields_of(server.requests(2)[0])
    assert path.read_bytes() == DATA


NEW = hashlib.shake_128(b"new file").digest(200_000)


@pytest.mark.parametrize(
    "wrong",
    [
        # A part of another version, or another part, or one that says nothing about which.
        rest(100_000, 'ETag: "two"', data=NEW),
        rest(99_999, TAG, data=NEW),
        response(NEW, "206 Partial Content"),
        response(NEW, "206 Partial Content", "Content-Range: bytes */5"),
        response(b"x", "206 Partial Content", "Content-Range: bytes 100000-100000/1"),
        response(b"x", "206 Partial Content", "Content-Range: bytes 100000-100000/100001"),
        # The range is beyond the end of what is there now.
        response(b"", "416 Range Not Satisfiable", "Content-Range: bytes */50"),
        response(b"", "416 Range Not Satisfiable"),
        response(b"", "416 Range Not Satisfiable", "Content-Range: bytes */100000", 'ETag: "two"'),
    ],
)
def test_a_part_that_does_not_fit_starts_anew(path, wrong):
    scripts = [[*CUT], answers(wrong), answers(response(NEW))]
    with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
        interrupted(client, path)
        client.download("/file", path)
        assert b"Range" not in fields_of(server.requests(2)[0])
    assert path.read_bytes() == NEW
    assert left(path) == ["file.bin"]


def test_another_version_or_a_server_without_ranges_sends_the_whole(path):
    scripts = [[*CUT], answers(response(NEW, "200 OK", 'ETag: "two"'))]
    with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
        interrupted(client, path)
        client.download("/file", path)
    assert path.read_bytes() == NEW
    assert left(path) == ["file.bin"]


def test_a_416_of_just_that_size_means_that_all_is_there(path):
    unsized = f"HTTP/1.1 200 OK\r\n{TAG}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    almost = [Whole(), Send(unsized + b"%x\r\n%b\r\n" % (len(DATA), DATA))]
    done = response(b"", "416 Range Not Satisfiable", f"Content-Range: bytes */{len(DATA)}", TAG)
    with ScriptedServer([almost, answers(done)]) as server, HttpClient(server.base) as client:
        interrupted(client, path)
        assert client.download("/file", path).status == 416
    assert path.read_bytes() == DATA
    assert left(path) == ["file.bin"]


def test_a_server_that_sends_less_than_the_rest_is_asked_again(path):
    some = response(
        DATA[100_000:150_000], "206 Partial Content", "Content-Range: bytes 100000-149999/300000"
    )
    with (
        ScriptedServer([[*CUT], answers(some, rest(150_000))]) as server,
        HttpClient(server.base) as client,
    ):
        interrupted(client, path)
        client.download("/file", path)
    assert path.read_bytes() == DATA


def test_it_does_not_ask_for_ever(path):
    none = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 100000-299999/300000\r\n"
    none += b"Content-Length: 0\r\n\r\n"
    with ScriptedServer([[*CUT], answers(none)]) as server, HttpClient(server.base) as client:
        interrupted(client, path)
        with pytest.raises(HttpProtocolError, match="100000 bytes came of a file of 300000"):
            client.download("/file", path)
        assert left(path) == ["file.bin.part", "file.bin.part-info"]


def test_a_part_nobody_asked_for_is_an_error(path):
    with ScriptedServer([answers(rest(0))]) as server, HttpClient(server.base) as client:
        with pytest.raises(HttpProtocolError, match="not asked for"):
            client.download("/file", path)
        assert left(path) == []


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "302 Found"])
def test_another_status_is_an_error_and_keeps_what_was_there(path, status):
    with (
        ScriptedServer(
            [answers(response(b"oops", status)), [*CUT], answers(response(b"oops", status))]
        ) as server,
        HttpClient(server.base) as client,
    ):
        with pytest.raises(HttpError) as caught:
            client.download("/file", path)
        assert str(caught.value.status) == status[:3]
        assert left(path) == []
        interrupted(client, path)
        with pytest.raises(HttpError):
            client.download("/file", path)
        assert left(path) == ["file.bin.part", "file.bin.part-info"]


def test_the_rest_of_another_url_is_not_taken_up(path):
    with (
        ScriptedServer([[*CUT], answers(response(NEW))]) as server,
        HttpClient(server.base) as client,
    ):
        interrupted(client, path)
        client.download("/other", path)
        assert b"Range" not in fields_of(server.requests(1)[0])
    assert path.read_bytes() == NEW


@pytest.mark.parametrize(
    "info", ["", "nonsense", "[]", '{"url": 1}', json.dumps({"validator": 1, "total": "x"})]
)
def test_a_note_that_cannot_be_read_starts_anew(path, info):
    with (
        ScriptedServer([[*CUT], answers(response(DATA))]) as server,
        HttpClient(server.base) as client,
    ):
        interrupted(client, path)
        (path.parent / "file.bin.part-info").write_text(info)
        client.download("/file", path)
    assert path.read_bytes() == DATA


def test_no_password_is_left_on_the_disk(path):
    with (
        ScriptedServer([[*CUT]]) as server,
        HttpClient() as client,
        pytest.raises(HttpProtocolError),
    ):
        client.download(f"http://me:secret@{server.peer}/file?token=hidden", path)
    note = (path.parent / "file.bin.part-info").read_text()
    assert "secret" not in note
    assert "hidden" not in note


def test_two_downloads_do_not_write_one_file(path):
    begun, go_on = threading.Event(), threading.Event()
    script = [Head(), Send(HEAD + DATA[:10]), Set(begun), Wait(go_on), Send(DATA[10:])]
    with ScriptedServer([script]) as server, HttpClient(server.base) as client:
        thread = threading.Thread(target=client.download, args=("/file", path))
        thread.start()
        assert begun.wait(5)
        with pytest.raises(BlockingIOError, match="another download"):
            client.download("/file", path)
        go_on.set()
        thread.join()
    assert path.read_bytes() == DATA


def test_a_callback_may_end_it(path):
    class Enough(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        if done:
            raise Enough

    with (
        ScriptedServer([answers(response(DATA, "200 OK", TAG)), answers(rest(0))]) as server,
        HttpClient(server.base) as client,
    ):
        with pytest.raises(Enough):
            client.download("/file", path, progress=stop)
        assert left(path) == ["file.bin.part", "file.bin.part-info"]
        assert "active=0 idle=0" in repr(client)


def test_silence_runs_into_the_read_timeout_and_leaves_the_part(path, monkeypatch):
    def lose_patience(done: int, total: int | None) -> None:
        if done == 100_000:  # there will be no more
            monkeypatch.setattr(Clock, "wait_ms", lambda *_: 60)

    stop = threading.Event()
    with ScriptedServer([[*CUT, Wait(stop)]]) as server:
        with HttpClient(server.base) as client:
            with pytest.raises(CallTimeout):
                client.download("/file", path, progress=lose_patience)
            assert (path.parent / "file.bin.part").stat().st_size == 100_000
        stop.set()


def test_coded_data_is_kept_as_it_came(path):
    coded = response(b"\x1f\x8bnot decoded", "200 OK", "Content-Encoding: gzip")
    with ScriptedServer([answers(coded)]) as server, HttpClient(server.base) as client:
        client.download("/file", path)
    assert path.read_bytes() == b"\x1f\x8bnot decoded"


def test_decoded_data_is_not_gone_on_with(path):
    """The server counts coded bytes: its range would begin somewhere else."""
    coded = gzip.compress(DATA)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(coded)}\r\n{TAG}\r\nContent-Encoding: gzip"
    with (
        ScriptedServer(
            [
                [Whole(), Send(f"{head}\r\n\r\n".encode() + coded[:200_000])],
                answers(response(coded, "200 OK", TAG, "Content-Encoding: gzip")),
            ]
        ) as server,
        HttpClient(server.base) as client,
    ):
        with pytest.raises(HttpProtocolError):
            client.download("/file", path, headers={"Accept-Encoding": "gzip"})
        assert left(path) == []
        client.download("/file", path, headers={"Accept-Encoding": "gzip"})
        assert b"Range" not in fields_of(server.requests(1)[0])
    assert path.read_bytes() == DATA


def test_a_range_across_a_redirect(path):
    moved = response(b"", "302 Found", "Location: /there")
    with (
        ScriptedServer([answers(moved) + CUT, answers(moved, rest(100_000))]) as server,
        HttpClient(server.base) as client,
    ):
        interrupted(client, path)
        client.download("/file", path)
    assert path.read_bytes() == DATA


def test_what_cannot_be_written_is_an_error_before_anything_is_sent(tmp_path):
    with HttpClient("http://127.0.0.1:1") as client:
        with pytest.raises(IsADirectoryError):
            client.download("/file", tmp_path)
        with pytest.raises(FileNotFoundError):
            client.download("/file", tmp_path / "missing" / "file")
        for field in ("Range", "If-Range"):
            with pytest.raises(ValidationError, match="Range"):
                client.download("/file", tmp_path / "file", headers={field: "x"})
        with pytest.raises(NetworkError):
            client.download("/file", tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_reading_into_a_buffer():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with (
        ScriptedServer([answers(response(DATA), chunked)]) as server,
        HttpClient(server.base) as client,
    ):
        buffer = bytearray(70_000)
        for whole in (DATA, b"hello"):
            got = bytearray()
            with client.get_streaming("/") as download:
                assert download.read_into(bytearray()) == 0
                while count := download.read_into(buffer):
                    got += buffer[:count]
                assert download.closed
            assert got == whole
        assert client.idle_count() == 1


@pytest.mark.parametrize("suffix", [".part", ".part-info"])
def test_a_link_laid_in_its_way_is_not_written_through(path, suffix):
    victim = path.parent / "victim"
    victim.write_bytes(b"precious")
    laid = path.parent / f"file.bin{suffix}"
    laid.symlink_to(victim)
    with (
        ScriptedServer([[Whole(), Send(HEAD + DATA)]]) as server,
        HttpClient(server.base) as client,
    ):
        if suffix == ".part":
            with pytest.raises(OSError, match="symbolic link"):
                client.download("/file", path)
        else:
            client.download("/file", path)
            assert path.read_bytes() == DATA
    assert victim.read_bytes() == b"precious"
