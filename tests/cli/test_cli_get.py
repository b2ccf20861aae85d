"""``flare get -o``: into a file, with a bar on a terminal, and on from where it stopped."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flare.cli import main
from flare.cli.progress import progress_line

DATA = bytes(range(256)) * 1000
LENGTH = f"Content-Length: {len(DATA)}"


def answer(head: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode() + body


WHOLE = answer(f'200 OK\r\n{LENGTH}\r\nETag: "1"', DATA)
CUT = answer(f'200 OK\r\n{LENGTH}\r\nETag: "1"', DATA[:100_000])
REST = answer(
    f"206 Partial Content\r\nContent-Length: {len(DATA) - 100_000}\r\n"
    f"Content-Range: bytes 100000-{len(DATA) - 1}/{len(DATA)}",
    DATA[100_000:],
)


@contextmanager
def serving(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives each connection its answer: the URL, and the heads it has read."""
    heads: list[bytes] = []

    def serve() -> None:
        for each in answers:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                head = b""
                while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
                    head += more
                heads.append(head)
                connection.sendall(each)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/file", heads
        finally:
            thread.join(40)


def test_o_writes_a_file_and_says_nothing(tmp_path: Path, capfd) -> None:
    path = tmp_path / "out"
    with serving(WHOLE) as (url, _):
        assert main(["get", url, "-o", str(path)]) == 0
    assert path.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["out"]
    assert capfd.readouterr() == ("", "")


def test_i_prints_the_head_beside_it(tmp_path: Path, capfd) -> None:
    with serving(WHOLE) as (url, _):
        assert main(["get", url, "-i", "-o", str(tmp_path / "out")]) == 0
    assert capfd.readouterr().out.startswith("HTTP/1.1 200 OK\r\n")


def test_a_cut_download_is_exit_code_1_and_c_goes_on(tmp_path: Path, capfd) -> None:
    path = tmp_path / "out"
    with serving(CUT, REST) as (url, heads):
        assert main(["get", url, "-o", str(path)]) == 1
        assert "incomplete response" in capfd.readouterr().err
        assert not path.exists()
        assert main(["get", url, "-C", "-o", str(path)]) == 0
    assert b"Range: bytes=100000-" in heads[1]
    assert path.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["out"]


def test_without_c_it_begins_anew(tmp_path: Path, capfd) -> None:
    path = tmp_path / "out"
    with serving(CUT, WHOLE) as (url, heads):
        assert main(["get", url, "-o", str(path)]) == 1
        assert main(["get", url, "-o", str(path)]) == 0
    assert b"Range" not in heads[1]
    assert path.read_bytes() == DATA
    capfd.readouterr()


def test_an_error_status_is_exit_code_3_and_no_file(tmp_path: Path, capfd) -> None:
    with serving(answer("404 Not Found\r\nContent-Length: 2", b"no")) as (url, _):
        assert main(["get", url, "-o", str(tmp_path / "out")]) == 3
    assert "404 Not Found" in capfd.readouterr().err
    assert os.listdir(tmp_path) == []


def test_another_method_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with serving(WHOLE) as (url, heads):
        assert main(["get", url, "-d", "a=b", "-o", str(path)]) == 0
    assert heads[0].startswith(b"POST ")
    assert path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-C"], "-C goes on with a GET into a file"),
        (["-C", "-o", "out", "-X", "POST"], "-C goes on with a GET into a file"),
        (["-o", "."], "is a directory"),
        (["-o", "missing/out"], "its directory is not there"),
        (["-o", "out", "-H", "Range: bytes=0-1"], "-o sets Range by itself"),
    ],
)
def test_what_cannot_be_meant_is_exit_code_2(tmp_path, monkeypatch, arguments, problem, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["get", "http://127.0.0.1:1/", *arguments]) == 2
    error = capfd.readouterr().err
    assert problem in error
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    drawn = bytearray()

    def look() -> None:
        with suppress(OSError):  # the end
            while more := os.read(ours, 4096):
                drawn.extend(more)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with serving(CUT, REST) as (url, _):
            for more, code in (([], 1), (["-C"], 0)):
                done = subprocess.run(
                    [sys.executable, "-m", "flare", "get", url, "-o", "out.bin", *more],
                    cwd=tmp_path,
                    stderr=theirs,
                    timeout=30,
                    check=False,
                )
                assert done.returncode == code
    finally:
        os.close(theirs)
        looking.join(10)
        os.close(ours)
    text = drawn.decode()
    assert "out.bin  [" in text
    assert "100 kB of 256 kB   39%" in text
    assert "256 kB of 256 kB  100%" in text
    assert "0:00 left" in text
    assert text.endswith("\n")


def test_what_a_large_body_prints_is_not_limited(capfdbinary) -> None:
    import gzip

    packed = gzip.compress(bytes(17_000_000))
    head = f"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}"
    with serving(answer(head, packed)) as (url, _):
        assert main(["get", url]) == 0
    assert len(capfdbinary.readouterr().out) == 17_000_000


@pytest.mark.parametrize(
    ("done", "total", "received", "seconds", "line"),
    [
        (0, 1000, 0, 0.0, "f  [........................................]  "
                          "0 B of 1 kB    0%  0 B/s  0:00 left"),
        (500, 1000, 500, 1.0, "f  [####################....................]  "
                              "500 B of 1 kB   50%  500 B/s  0:01 left"),
        (1000, 1000, 100, 0.1, "f  [########################################]  "
                               "1 kB of 1 kB  100%  1 kB/s  0:00 left"),
        (0, 0, 0, 0.1, "f  [########################################]  "
                       "0 B of 0 B  100%  0 B/s  0:00 left"),
        (123456, None, 123456, 2.0, "f  123 kB  61.7 kB/s"),
        (1, 36_000_001, 1000, 0.1, "f  [........................................]  "
                                   "1 B of 36 MB    0%  10 kB/s  1:00:00 left"),
    ],
)  # fmt: skip
def test_the_line(done, total, received, seconds, line) -> None:
    assert progress_line("f", done, total, received, seconds, 119) == line


def test_the_line_keeps_to_its_width_and_shows_no_escapes() -> None:
    for width in (1, 10, 40, 60, 200):
        shown = progress_line("a\x1b[2Jb" * 3, 5, 10, 5, 1.0, width)
        assert len(shown) <= max(width, 1)
        assert shown.isprintable()


def test_a_unix_socket_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nothing"
    assert main(["get", "http://localhost/", "--unix-socket", str(path)]) == 1
    assert f"{path} (No such file or directory)" in capsys.readouterr().err
