"""``serve_static``, ``serve_comptime`` and ``serve_cancellable``: the server's other entries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dispatching import only_worker, skip, until
from serving import PATIENCE, Connect

from flare.errors import ValidationError
from flare.http import (
    Cancel,
    CancelReason,
    HttpServer,
    Request,
    Response,
    Router,
    ServerConfig,
    WithCancel,
    ok,
    precompute_response,
)
from flare.net import SocketAddr

Address = tuple[str, int]


@contextmanager
def serving(
    begin: Callable[[HttpServer], None], config: ServerConfig | None = None
) -> Iterator[HttpServer]:
    server = HttpServer.bind(SocketAddr.localhost(0), config)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            begin(server)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(PATIENCE)
    assert not errors


def address(server: HttpServer) -> Address:
    return "127.0.0.1", server.local_addr().port


HELLO = precompute_response(status=200, content_type="text/plain", body="Hello, World!")


def test_a_static_response_answers_whatever_is_asked(connect: Connect) -> None:
    with serving(lambda server: server.serve_static(HELLO)) as server:
        peer = connect(address(server))
        for target in ("/", "/any?thing=1", "*"):
            peer.send(f"OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            reply = peer.read()
            assert (reply.status, reply.body) == (200, b"Hello, World!")
            assert reply.get("date") is None
        peer.post(b"x" * 1000)
        assert peer.read().body == b"Hello, World!"
        peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert peer.read("HEAD").get("content-length") == "13"
        peer.get("/", "Connection: close")
        assert peer.read().get("connection") == "close"
        assert peer.is_ended()


def test_static_bursts_are_answered_whole(connect: Connect) -> None:
    with serving(lambda server: server.serve_static(HELLO)) as server:
        peer = connect(address(server))
        peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 500)
        for _ in range(500):
            assert peer.read().body == b"Hello, World!"
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.read().status == 400
        assert peer.is_ended()


def test_static_connections_have_deadlines_too(connect: Connect) -> None:
    config = ServerConfig(header_timeout_ms=80, idle_timeout_ms=0)
    with serving(lambda server: server.serve_static(HELLO), config) as server:
        peer = connect(address(server))
        for _ in range(3):
            peer.get()
            assert peer.read().status == 200
        peer.send(b"GET / HT")
        assert peer.read().status == 408
        assert peer.is_ended()


def test_a_pipelining_client_is_not_timed_out_for_its_first_half_request(connect: Connect) -> None:
    config = ServerConfig(header_timeout_ms=10_000, idle_timeout_ms=0)
    request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    with serving(lambda server: server.serve_static(HELLO), config) as server:
        peer = connect(address(server))
        # Each piece ends one request and begins the next: the connection is never idle.
        peer.send(request[:10])
        worker = only_worker(server)
        until(lambda: worker.tally.bytes_in == 10)
        for _ in range(4):
            skip(worker, 5_000)
            peer.send(request[10:] + request[:10])
            assert peer.read().status == 200


def test_static_servers_drain(connect: Connect) -> None:
    with serving(lambda server: server.serve_static(HELLO)) as server:
        peer = connect(address(server))
        peer.get()
        assert peer.read().status == 200
        report = server.drain(2000)
        assert (report.drained, report.timed_out) == (1, 0)
        assert peer.is_ended()


def test_comptime_checks_before_it_serves() -> None:
    config = ServerConfig(max_body_size=10)
    with (
        HttpServer.bind(SocketAddr.localhost(0)) as server,
        pytest.raises(ValidationError, match="max_body_size"),
    ):
        server.serve_comptime(lambda request: ok(), config)


def test_comptime_serves_under_its_configuration(connect: Connect) -> None:
    config = ServerConfig(max_header_size=256, max_body_size=512, max_keepalive_requests=2)
    with serving(lambda server: server.serve_comptime(lambda r: ok("hello"), config)) as server:
        peer = connect(address(server))
        for expected in ("keep-alive", "close"):
            peer.get()
            assert peer.read().get("connection") == expected
        assert server.config is config


class Waits:
    """Waits until it is told that nobody wants its answer."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.left = threading.Event()
        self.reason = 0

    def serve(self, req: Request, cancel: Cancel) -> Response:
        if req.url == "/quick":
            return ok(f"cancelled: {cancel.cancelled()}")
        self.entered.set()
        cancel.wait(PATIENCE)
        self.reason = cancel.reason()
        self.left.set()
        return ok("too late")


@pytest.mark.parametrize("dispatch", ["auto", "pool"])
def test_a_handler_learns_that_its_peer_has_left(connect: Connect, dispatch: str) -> None:
    handler = Waits()
    config = ServerConfig(dispatch=dispatch)
    with serving(lambda server: server.serve_cancellable(handler), config) as server:
        peer = connect(address(server))
        peer.get("/quick")
        assert peer.read().body == b"cancelled: False"
        peer.get("/")
        assert handler.entered.wait(PATIENCE)
        peer.close()
        assert handler.left.wait(PATIENCE)
    assert handler.reason == CancelReason.PEER_CLOSED


@pytest.mark.parametrize("name", ["handler_timeout_ms", "request_timeout_ms"])
def test_a_handler_learns_that_its_time_is_over(connect: Connect, name: str) -> None:
    handler = Waits()
    others: dict[str, Any] = {"handler_timeout_ms": 0, "read_body_timeout_ms": 0}
    config = ServerConfig(**{**others, name: 60})
    with serving(lambda server: server.serve_cancellable(handler), config) as server:
        peer = connect(address(server))
        peer.get("/")
        assert peer.read().status == 503
        assert peer.is_ended()
        assert handler.left.wait(PATIENCE)
    assert handler.reason == CancelReason.TIMEOUT


def test_a_handler_learns_of_a_drain_and_its_answer_is_sent(connect: Connect) -> None:
    handler = Waits()
    with serving(lambda server: server.serve_cancellable(handler)) as server:
        peer = connect(address(server))
        peer.get("/")
        assert handler.entered.wait(PATIENCE)
        report = server.drain(5000)
        assert report.drained == 1
        assert peer.read().body == b"too late"
    assert handler.reason == CancelReason.SHUTDOWN


def test_a_plain_handler_can_be_served_so(connect: Connect) -> None:
    router = Router()
    router.get("/users/:id", lambda request: ok(request.param("id")))
    with serving(lambda server: server.serve_cancellable(WithCancel(router))) as server:
        peer = connect(address(server))
        peer.get("/users/7")
        assert peer.read().body == b"7"


def test_what_cannot_be_served_so_is_refused() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server, pytest.raises(TypeError):
        server.serve_cancellable(lambda request: ok())  # type: ignore[arg-type]


def test_a_refused_head_has_no_body_from_a_static_server_either(connect: Connect) -> None:
    with serving(lambda server: server.serve_static(HELLO)) as server:
        peer = connect(address(server))
        peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n")
        assert peer.read("HEAD").status == 417
        assert peer.rest() == b""
