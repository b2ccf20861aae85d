"""Servers on sockets that somebody else opened: a service manager, a parent process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs import Load, Program, until_gone
from serving import PATIENCE, Connect, Start

from flare.errors import NetworkError, ValidationError
from flare.http import Request, Response, ok
from flare.http.server import HttpServer
from flare.http.server.listeners import inherited_fds


def hello(request: Request) -> Response:
    return ok("hello")


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("s") / "s")


@pytest.fixture
def sockets(path: str) -> Iterator[list[socket.socket]]:
    """A TCP and a Unix socket that listen, as a service manager would hold them."""
    with ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(path)
        unix.listen()
        yield [tcp, unix]


def given(sockets: list[socket.socket]) -> list[int]:
    """Descriptors of the same sockets, to give away."""
    return [os.dup(sock.fileno()) for sock in sockets]


@pytest.mark.parametrize("workers", [1, 2])
def test_tcp_and_unix_sockets_are_served_and_no_file_is_removed(
    sockets: list[socket.socket], path: str, start: Start, connect: Connect, workers: int
) -> None:
    running = start(hello, server=HttpServer.from_fds(given(sockets)), workers=workers)
    assert running.addresses == [sockets[0].getsockname(), path]
    for address in running.addresses:
        peer = connect(address)
        peer.get()
        assert peer.read().body == b"hello"
    running.stop()
    assert os.path.exists(path)
    waiting = connect(path)  # the queue is its owner's
    waiting.get()
    again = start(hello, server=HttpServer.from_fds(given(sockets)))
    assert waiting.read().body == b"hello"
    assert again.server.drain(int(PATIENCE * 1000)).timed_out == 0
    connect(path)
    connect(sockets[0].getsockname())


def test_descriptors_are_not_passed_on(sockets: list[socket.socket]) -> None:
    fds = given(sockets)
    for fd in fds:
        os.set_inheritable(fd, True)
    with HttpServer.from_fds(fds):
        assert not any(map(os.get_inheritable, fds))


def test_what_is_no_listening_stream_socket_stays_the_callers(
    sockets: list[socket.socket],
) -> None:
    good = given(sockets)
    with (
        socket.socket() as idle,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as packets,
    ):
        packets.bind("")
        packets.listen()
        for bad in (idle.fileno(), datagrams.fileno(), packets.fileno(), good[0]):
            with pytest.raises(ValidationError, match="fds"):
                HttpServer.from_fds([*good, bad])
    reader, writer = os.pipe()
    os.close(writer)
    for bad in (reader, writer, -1):
        with pytest.raises((NetworkError, ValidationError)):
            HttpServer.from_fds([*good, bad])
    with pytest.raises(ValidationError, match="fds"):
        HttpServer.from_fds([])
    for fd in (*good, reader):
        os.close(fd)


def test_without_a_service_manager_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(ValidationError, match="LISTEN_FDS"):
        HttpServer.from_fds()
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))  # meant for another process
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert inherited_fds() == []
    assert os.environ["LISTEN_FDS"] == "1"


@pytest.mark.parametrize("count", ["", "-1", "two", "1 ", "²", "9999999"])
def test_a_count_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    with pytest.raises(ValidationError, match="LISTEN_FDS"):
        inherited_fds()


def test_the_descriptors_meant_for_this_process_are_named_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "web:admin")
    assert inherited_fds() == [3, 4]
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    assert inherited_fds() == []


# Opens two sockets where a service manager would, and becomes ``flare serve``.
ACTIVATE = """
import os, socket, sys
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
for at, sock in enumerate((tcp, unix)):
    os.dup2(sock.fileno(), 50 + at)
for at in range(2):
    os.dup2(50 + at, 3 + at)
    os.set_inheritable(3 + at, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
command = [sys.executable, "-u", "-m", "flare", "serve", "app:app", *sys.argv[2:]]
os.execv(sys.executable, command)
"""
APP = "from flare import ok\n\ndef app(request):\n    return ok('activated')\n"


@pytest.mark.parametrize("flags", [[], ["--workers", "2"], ["--reload"]])
def test_the_command_serves_what_a_service_manager_passes_on(
    tmp_path: Path, connect: Connect, path: str, flags: list[str]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    process = subprocess.Popen(
        [sys.executable, "-c", ACTIVATE, path, *flags],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"unix:{path}" in line
        host, port = line.split("//")[1].split("/")[0].split(":")
        for address in ((host, int(port)), path):
            peer = connect(address)
            peer.get()
            assert peer.read().body == b"activated"
        process.send_signal(signal.SIGTERM)
        assert process.wait(2 * PATIENCE) == 0
        assert os.path.exists(path)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def test_a_reload_under_load_fails_no_request(sockets: list[socket.socket], path: str) -> None:
    running = Program(fds=[sock.fileno() for sock in sockets], patient=True)
    try:
        before = set(running.await_workers(2))
        with Load(sockets[0].getsockname(), path) as load:
            load.until(lambda answers: set(answers) == before)
            for turn in (1, 2):
                running.signal(signal.SIGHUP)
                new = set(running.await_workers(2 + 2 * turn)[-2:])
                load.until(lambda answers, new=new: all(answers.get(pid, 0) > 20 for pid in new))
                until_gone(*before)
                before = new
        assert not load.failures
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
        assert os.path.exists(path)
    finally:
        running.end()


def test_a_restart_under_load_fails_no_request(sockets: list[socket.socket], path: str) -> None:
    fds = [sock.fileno() for sock in sockets]
    addresses = [sockets[0].getsockname(), path]
    first = Program(fds=fds, patient=True, config={"shutdown_timeout_ms": 10_000})
    second: Program | None = None
    try:
        old = set(first.await_workers(2))
        with Load(*addresses) as load:
            load.until(lambda answers: set(answers) == old)
            second = Program(fds=fds, patient=True)
            new = set(second.await_workers(2))
            load.until(lambda answers: set(answers) == old | new)
            first.signal(signal.SIGTERM)
            assert first.wait() == 0
            had = dict(load.answers)
            load.until(lambda now: all(now.get(pid, 0) > had.get(pid, 0) + 20 for pid in new))
        assert not load.lost
        second.signal(signal.SIGTERM)
        assert second.wait() == 0
    finally:
        for program in (first, second):
            if program is not None:
                program.end()
