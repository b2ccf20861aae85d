"""``serve_view``: handlers that read the request where it was received."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from dispatching import STEPS, force, is_quiet, until, worker_of
from serving import PATIENCE, Connect, Running, Start

from flare.http import (
    Cancel,
    CancelReason,
    HttpServer,
    Request,
    RequestView,
    Response,
    Router,
    StreamingResponse,
    WithViewCancel,
    ok,
    stream_body,
)
from flare.http.server import ServerConfig
from flare.http.server.kinds import Viewing
from flare.net import SocketAddr


class Answering:
    """A view handler of a plain function."""

    def __init__(self, answer: Callable[[RequestView, Cancel], Any]) -> None:
        self.answer = answer

    def serve_view(self, req: RequestView, cancel: Cancel) -> Any:
        return self.answer(req, cancel)


@pytest.fixture
def view(start: Start) -> Callable[..., Running]:
    """Start a server for a view handler."""

    def begin(answer: Any, config: ServerConfig | None = None) -> Running:
        return start(
            Viewing(answer if hasattr(answer, "serve_view") else Answering(answer)), config
        )

    return begin


def test_serve_view_is_the_entry(connect: Connect) -> None:
    server = HttpServer.bind(SocketAddr.localhost(0))
    thread = threading.Thread(
        target=server.serve_view, args=(Answering(lambda req, cancel: ok(req.url())),)
    )
    thread.start()
    peer = connect(("127.0.0.1", server.local_addr().port))
    peer.get("/a?b")
    assert peer.read().body == b"/a?b"
    server.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with (
        HttpServer.bind(SocketAddr.localhost(0)) as other,
        pytest.raises(TypeError, match="serve_view"),
    ):
        other.serve_view(ok)


def test_all_of_the_request_is_there(view: Any, connect: Connect) -> None:
    def answer(req: RequestView, cancel: Cancel) -> Response:
        owned = req.into_owned()
        return ok(
            repr(
                (
                    req.method,
                    req.url(),
                    req.version,
                    req.header("X-One"),
                    req.headers().get_all("x-two"),
                    bytes(req.body()),
                    owned.body,
                    dict(owned.trailers.items()),
                    req.peer == owned.peer,
                    int(cancel.reason()),
                )
            )
        )

    peer = connect(view(answer).address)
    for _ in range(2):
        peer.send(
            b"PUT /a?b HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nX-Two: a\r\nx-two: b\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        peer.send(b"2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n")
        expected = ("PUT", "/a?b", "HTTP/1.1", "1", ["a", "b"], b"abcde", b"abcde")
        assert eval(peer.read().body) == (*expected, {"X-Sum": "5"}, True, 0)
        peer.get("/")
        expected = ("GET", "/", "HTTP/1.1", "", [], b"", b"")
        assert eval(peer.read().body) == (*expected, {}, True, 0)


def test_a_body_is_not_copied(view: Any, connect: Connect) -> None:
    seen: list[bool] = []

    def answer(req: RequestView, cancel: Cancel) -> Response:
        body = req.body()
        seen.append(body.readonly and body is req.body())
        return ok(str(len(body)))

    peer = connect(view(answer).address)
    peer.post(b"x" * 100_000)
    assert peer.read().body == b"100000"
    assert seen == [True]


def test_the_view_ends_with_the_call(view: Any, connect: Connect) -> None:
    kept: list[Any] = []

    def answer(req: RequestView, cancel: Cancel) -> Response:
        kept.append((req, req.body(), req.headers(), req.into_owned()))
        if req.url() == "/raise":
            raise RuntimeError("no")
        return ok()

    peer = connect(view(answer).address)
    for target, status in (("/", 200), ("/raise", 500)):
        peer.post(b"body", target=target)
        assert peer.read().status == status
        req, body, headers, owned = kept.pop()
        for use in (req.url, req.body, req.headers, req.into_owned, body.tobytes):
            with pytest.raises(ValueError):
                use()
        with pytest.raises(ValueError):
            headers.get("host")
        assert (owned.url, owned.body) == (target, b"body")


@pytest.mark.parametrize("step", STEPS)
def test_a_takeover_leaves_the_view_to_its_handler(
    view: Any, connect: Connect, asleep: None, no_exile: None, step: str
) -> None:
    lease: Any = None

    def answer(req: RequestView, cancel: Cancel) -> Response:
        lease.within()
        return ok(bytes(req.body()) + req.header("x-number").encode())

    running = view(answer)
    lease = force(running, step, lambda task: hasattr(task, "request"))
    peer = connect(running.address)
    for number in range(20):
        peer.post(b"body of %d " % number * 500, f"X-Number: {number}")
        assert peer.read().body == b"body of %d " % number * 500 + str(number).encode()
    assert lease.taken == 20
    until(lambda: is_quiet(worker_of(running)))


def test_the_token_flips_when_the_client_leaves(view: Any, connect: Connect) -> None:
    entered, left = threading.Event(), threading.Event()
    reasons: list[int] = []

    def answer(req: RequestView, cancel: Cancel) -> Response:
        entered.set()
        assert cancel.wait(PATIENCE)
        reasons.append(cancel.reason())
        assert bytes(req.body()) == b"still here"
        left.set()
        return ok()

    peer = connect(view(answer, ServerConfig(dispatch="pool")).address)
    peer.post(b"still here")
    assert entered.wait(PATIENCE)
    peer.close()
    assert left.wait(PATIENCE)
    assert reasons == [CancelReason.PEER_CLOSED]


def test_the_token_flips_when_time_is_over(view: Any, connect: Connect) -> None:
    reasons: list[int] = []
    left = threading.Event()

    def answer(req: RequestView, cancel: Cancel) -> Response:
        assert cancel.wait(PATIENCE)
        reasons.append(cancel.reason())
        left.set()
        return ok()

    peer = connect(view(answer, ServerConfig(handler_timeout_ms=50)).address)
    peer.get("/")
    assert peer.read().status == 503
    assert left.wait(PATIENCE)
    assert reasons == [CancelReason.TIMEOUT]


def test_any_handler_serves_by_an_adapter(view: Any, connect: Connect) -> None:
    router = Router()
    router.get("/users/:id", lambda request: ok(request.param("id")))
    router.post("/pool", lambda request: ok(request.body), dispatch="pool")
    running = view(WithViewCancel(router))
    peer = connect(running.address)
    peer.get("/users/7")
    assert peer.read().body == b"7"
    peer.post(b"abc", target="/pool")
    assert peer.read().body == b"abc"
    peer.get("/nothing")
    assert peer.read().status == 404
    modes = {fate.mode for fate in worker_of(running).dispatch._fates.values()}
    assert modes == {"auto", "pool"}


def test_a_streamed_response_takes_what_it_owns(view: Any, connect: Connect) -> None:
    def answer(req: RequestView, cancel: Cancel) -> StreamingResponse[Any]:
        owned = req.into_owned()
        return StreamingResponse(200, (bytes([byte]) for byte in owned.body))

    peer = connect(view(answer).address)
    peer.post(b"abc")
    assert peer.read().body == b"abc"


def test_guards_and_limits_are_the_servers(view: Any, connect: Connect) -> None:
    running = view(lambda req, cancel: ok(), ServerConfig(max_body_size=10))
    peer = connect(running.address)
    peer.post(b"x" * 11)
    assert peer.read().status == 413
    peer = connect(running.address)
    peer.send(b"GET / HTTP/1.1\nHost: h\n\n")
    assert peer.read().status == 400


def test_a_view_is_of_a_whole_body(view: Any, connect: Connect) -> None:
    @stream_body()
    def handler(request: Request) -> Response:
        return ok(type(request).__name__ + request.stream.read().decode())

    peer = connect(view(WithViewCancel(handler)).address)
    peer.post(b"abc")
    assert peer.read().body == b"Requestabc"


def test_http2_gives_a_view_too(view: Any) -> None:
    from flare.http import HttpClient

    running = view(
        lambda req, cancel: ok(f"{req.version} {req.url()} {req.header('x-a')} {len(req.body())}")
    )
    host, port = running.address
    with HttpClient(f"http://{host}:{port}", prefer_h2c=True) as client:
        answer = client.post("/h2", b"abc", headers={"X-A": "b"})
        assert answer.text() == "HTTP/2 /h2 b 3"
