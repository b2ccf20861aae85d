"""``flare serve``: where it listens, and whom it believes."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEADLINE = 20
APP = """
from flare import ok

def app(request):
    return ok(f"{request.peer.ip} {request.client.ip} {request.scheme} {request.host}")
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("s")
    (folder / "app.py").write_text(APP)
    return folder


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """``flare serve app:app``: the process, and where it says that it serves."""
    program = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-m", "flare", "serve", "app:app", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        start_new_session=True,
    )
    try:
        assert program.stdout is not None
        line = program.stdout.readline()
        found = re.search(r"on (.*) \(\d workers?\)", line)
        assert found, line
        yield program, found[1].split(", ")
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        program.communicate()


def ask(folder: Path, place: str, *lines: str, before: bytes = b"") -> str:
    """What is answered there."""
    if place.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        target: object = str(folder / place.removeprefix("unix:"))
    else:
        sock = socket.socket()
        host, port = place.removeprefix("http://").rstrip("/").split(":")
        target = (host, int(port))
    with sock:
        sock.settimeout(DEADLINE)
        sock.connect(target)
        head = "\r\n".join(["GET / HTTP/1.1", "Host: h", "Connection: close", *lines, "", ""])
        sock.sendall(before + head.encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return answer.partition(b"\r\n\r\n")[2].decode()


def stop(program: subprocess.Popen[str]) -> int:
    program.send_signal(signal.SIGTERM)
    return program.wait(DEADLINE)


@pytest.mark.parametrize(
    "flags", [[], ["--workers", "2"], ["--reload"]], ids=["one", "two", "reload"]
)
def test_it_listens_at_every_address(folder: Path, flags: list[str]) -> None:
    where = ["127.0.0.1:0", "unix:s", "localhost:0"]
    binds = [flag for place in where for flag in ("--bind", place)]
    with serving(folder, *binds, "--socket-mode", "600", *flags) as (program, places):
        assert len(places) == 3
        assert stat.S_IMODE(os.stat(folder / "s").st_mode) == 0o600
        for place in places:
            peer = "0.0.0.0" if place == "unix:s" else "127.0.0.1"
            assert ask(folder, place) == f"{peer} {peer} http h"
        if flags == ["--reload"]:
            (folder / "app.py").write_text(APP.replace('ok(f"', 'ok(f"new '))
            deadline = time.monotonic() + DEADLINE
            while not ask(folder, "unix:s").startswith("new"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert ask(folder, places[0]).startswith("new")
        assert stop(program) == 0
    assert not (folder / "s").exists()


@pytest.mark.parametrize("flags", [[], ["--reload"]], ids=["one", "reload"])
def test_it_believes_whom_it_is_told_to(folder: Path, flags: list[str]) -> None:
    trust = ["--trusted-proxies", "10.0.0.0/8, 127.0.0.1"]
    fields = ["--forwarded-headers", "forwarded"]
    line = "Forwarded: for=192.0.2.7;proto=https;host=shop.example"
    with serving(folder, "--port", "0", *flags) as (_, (place,)):
        assert ask(folder, place, line) == "127.0.0.1 127.0.0.1 http h"
    with serving(folder, "--port", "0", *trust, *fields, *flags) as (_, (place,)):
        assert ask(folder, place, line) == "127.0.0.1 192.0.2.7 https shop.example"
    with serving(folder, "--port", "0", *trust, "--proxy-protocol", *flags) as (_, (place,)):
        header = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n"
        assert ask(folder, place, before=header) == "192.0.2.7 192.0.2.7 http h"


def test_a_socket_that_is_served_is_told_in_one_line(folder: Path) -> None:
    with serving(folder, "--bind", "unix:s"):
        done = subprocess.run(
            [sys.executable, "-m", "flare", "serve", "app:app", "--bind", "unix:s"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            cwd=folder,
        )
    assert done.returncode == 2
    assert re.fullmatch(r"flare: s is in use; .*\n", done.stderr)
