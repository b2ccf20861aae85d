"""Servers on Unix sockets: the file, who is on the other end, and the end of it all."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatching import worker_of
from programs import Begin, Load, until_gone
from serving import PATIENCE, Connect, Start

from flare.errors import AddressInUse, NetworkError, ValidationError
from flare.http import Request, Response, ok
from flare.http.server import HttpServer, ServerConfig
from flare.net import SocketAddr

processes = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a socket may be: a short path, for there is little room for it."""
    folder = tmp_path_factory.mktemp("s")
    yield str(folder / "s")
    assert not list(folder.iterdir()), "a file was left"


def hello(request: Request) -> Response:
    return ok(f"hello {request.peer} {request.client} {request.scheme} {request.host}")


def test_requests_are_served_and_their_peer_has_no_address(
    path: str, start: Start, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flare.access")
    config = ServerConfig(access_log=True)
    running = start(hello, server=HttpServer.bind_unix(path, config))
    assert worker_of(running)  # by then it serves
    assert running.server.local_paths() == [path]
    assert running.server.local_addrs() == []
    assert repr(running.server) == f"<HttpServer unix:{path} serving>"
    peer = connect(path)
    for _ in range(2):
        peer.get()
        assert peer.read().body == b"hello 0.0.0.0:0 0.0.0.0:0 http h"
    peer.post(b"x" * 300_000)
    assert peer.read().status == 200
    running.stop()
    assert caplog.messages[0].startswith('0.0.0.0:0 "GET / HTTP/1.1" 200 ')


def test_a_server_of_unix_sockets_alone_has_no_address(path: str) -> None:
    with HttpServer.bind_unix(path) as server, pytest.raises(ValidationError, match="Unix"):
        server.local_addr()


def test_the_file_goes_when_the_server_closes(path: str) -> None:
    with HttpServer.bind_unix(Path(path)):
        assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert not os.path.exists(path)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_mode_is_as_asked(path: str, mode: int) -> None:
    with HttpServer.bind_unix(path, mode=mode):
        assert stat.S_IMODE(os.stat(path).st_mode) == mode
    with HttpServer.bind_many([SocketAddr.localhost(0), Path(path)], mode=mode):
        assert stat.S_IMODE(os.stat(path).st_mode) == mode


def test_without_a_mode_the_umask_rules(path: str) -> None:
    before = os.umask(0o077)
    try:
        with HttpServer.bind_unix(path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_socket_left_behind_is_replaced(path: str, start: Start, connect: Connect) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    assert os.path.exists(path)
    start(hello, server=HttpServer.bind_unix(path))
    peer = connect(path)
    peer.get()
    assert peer.read().status == 200


def test_a_socket_somebody_listens_at_is_left_alone(
    path: str, start: Start, connect: Connect
) -> None:
    start(hello, server=HttpServer.bind_unix(path))
    for _ in range(3):
        with pytest.raises(AddressInUse):
            HttpServer.bind_unix(path)
    peer = connect(path)
    peer.get()
    assert peer.read().status == 200


def test_a_listener_too_busy_to_answer_is_left_alone(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)
        with pytest.raises(AddressInUse):
            HttpServer.bind_unix(path)
        assert os.path.exists(path)
    os.unlink(path)


@pytest.mark.parametrize("kind", ["file", "folder", "datagram socket"])
def test_another_file_is_left_alone(path: str, kind: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        if kind == "file":
            Path(path).write_text("precious")
        elif kind == "folder":
            os.mkdir(path)
        else:
            datagrams.bind(path)
        before = os.stat(path)
        with pytest.raises(AddressInUse):
            HttpServer.bind_unix(path)
        assert os.path.samestat(before, os.stat(path))
    os.rmdir(path) if kind == "folder" else os.unlink(path)


@pytest.mark.parametrize("bad", ["", "a\0b", "x" * 200])
def test_a_path_no_socket_can_have_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError, match="path"):
        HttpServer.bind_unix(bad)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NetworkError):
        HttpServer.bind_unix(tmp_path / "no" / "s")


def test_an_address_that_is_text_is_refused() -> None:
    with pytest.raises(ValidationError, match="addrs"):
        HttpServer.bind_many(["127.0.0.1:80"])  # type: ignore[list-item]


def test_addresses_of_both_kinds_are_all_or_none(path: str) -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as taken:
        for addrs in ([Path(path), taken.local_addr()], [taken.local_addr(), Path(path)]):
            with pytest.raises(AddressInUse):
                HttpServer.bind_many(addrs)
            assert not os.path.exists(path)


@pytest.mark.parametrize("workers", [1, 3])
def test_addresses_of_both_kinds_are_served_by_all_workers(
    path: str, start: Start, connect: Connect, workers: int
) -> None:
    server = HttpServer.bind_many([SocketAddr.localhost(0), Path(path), SocketAddr.localhost(0)])
    running = start(hello, server=server, workers=workers)
    assert len(running.addresses) == 3
    for address in running.addresses * 4:
        peer = connect(address)
        peer.get()
        assert peer.read().status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_serves_what_waits_and_refuses_what_comes(
    path: str, start: Start, connect: Connect, workers: int
) -> None:
    running = start(hello, server=HttpServer.bind_unix(path), workers=workers)
    served = connect(path)
    served.get()
    served.read()
    late = [connect(path) for _ in range(20)]
    for peer in late:
        peer.get()
    report = running.server.drain(int(PATIENCE * 1000))
    assert report.timed_out == 0
    for peer in late:
        assert peer.read().status == 200
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        connect(path)
    running.join()


ALL = [("tcp", {"tcp": 2}), ("unix", {"tcp": 0}), ("both", {"tcp": 1})]


@processes
@pytest.mark.parametrize(("name", "options"), ALL, ids=[name for name, _ in ALL])
def test_reload_and_drain_under_load_lose_nothing(
    path: str, program: Begin, name: str, options: dict[str, int]
) -> None:
    running = program(**options, patient=True, unix=[] if name == "tcp" else [path])
    before = set(running.await_workers(2))
    with Load(*running.addresses) as load:
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
    assert not load.lost


@processes
def test_a_worker_that_dies_leaves_the_file_and_the_queue(
    path: str, program: Begin, connect: Connect
) -> None:
    running = program(tcp=0, unix=[path])
    workers = running.await_workers(2)
    with Load(path) as load:
        load.until(lambda answers: set(answers) == set(workers))
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    running.await_workers(4)
    again = connect(path)
    again.get()
    assert again.read().status == 200
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@processes
def test_workers_are_replaced_after_so_many_requests_at_every_address(
    path: str, program: Begin
) -> None:
    running = program(tcp=2, unix=[path], patient=True, config={"max_requests": 200})
    with Load(*running.addresses) as load:
        running.await_workers(6)
        load.until(lambda answers: len(answers) >= 5)
    assert not load.failures
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@processes
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_has_only_the_sockets_it_serves(
    path: str, program: Begin, connect: Connect
) -> None:
    running = program(tcp=2, unix=[path])
    running.await_workers(2)
    peer = connect(path)
    peer.get("/look")
    assert b'"listening": 3' in peer.read().body
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
