"""Requests that were seen before, over HTTP/2: answered as any other, only sooner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dispatching import STEPS, Gate, echo, force, is_quiet, until, wanted, worker_of
from h2_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW,
    PING,
    Answer,
    H2Peer,
    build_frame,
    build_window_update,
)
from serving import Serve, Start

from flare.http import HttpStatusError, Request, Response, Router, ok
from flare.http.server import HttpServer, ServerConfig, stream_response
from flare.http.server.h2_connection import H2Connection

SpeakH2 = Callable[..., H2Peer]


@pytest.fixture
def roads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The streams that did not go by the lane."""
    seen: list[int] = []
    run = H2Connection._run

    def noted(self: H2Connection, sid: int) -> None:
        seen.append(sid)
        run(self, sid)

    monkeypatch.setattr(H2Connection, "_run", noted)
    return seen


def with_trailers(request: Request) -> Response:
    response = ok("body")
    response.trailers.set("X-Sum", "1")
    return response


def raises(request: Request) -> Response:
    raise HttpStatusError(409, "no")


def broken(request: Request) -> Response:
    response = ok("x")
    response.headers = None  # type: ignore[assignment]
    return response


ROUTES: dict[str, Callable[[Request], Any]] = {
    "/ok": lambda request: ok("fine"),
    "/empty": lambda request: ok(),
    "/not-found": lambda request: Response(404, body=b"no"),
    "/no-content": lambda request: Response(204),
    "/reset-content": lambda request: Response(205, body=b"x"),
    "/cookie": lambda request: Response(200, body=b"x", headers={"Set-Cookie": "a=b"}),
    "/two": lambda request: Response(200, headers=[("X-A", "1"), ("x-a", "2")]),
    "/hop": lambda request: Response(200, headers={"Keep-Alive": "1", "X-Kept": "2"}),
    "/long-head": lambda request: Response(200, headers={"X": "y" * 6000}),
    "/long-body": lambda request: ok(b"x" * 9000),
    "/bytearray": lambda request: Response(200, body=bytearray(b"abc")),
    "/stream": lambda request: stream_response(iter([b"a", b"b"])),
    "/trailers": with_trailers,
    "/raises": raises,
    "/broken": broken,
    "/nothing": lambda request: None,
    "/status": lambda request: Response(1000),
}


@pytest.mark.parametrize("target", ROUTES)
@pytest.mark.parametrize("together", [1, 5])
def test_the_answer_is_the_same_every_time(
    serve: Serve, speak_h2: SpeakH2, target: str, together: int
) -> None:
    router = Router()
    for path, function in ROUTES.items():
        router.get(path, function)
    peer = speak_h2(serve(router))
    first = peer.fetch(target)
    for _ in range(5):
        peer.send(b"".join([peer.open(target) for _ in range(together)]))
        for sid in range(peer.last - 2 * together + 2, peer.last + 1, 2):
            answer = peer.read(sid)
            for one in (first, answer):
                one.fields = [field for field in one.fields if field[0] != "date"]
            assert answer == first
        assert peer.fetch("/ok").body == b"fine"


@pytest.mark.usefixtures("asleep")
def test_small_answers_go_by_the_lane(serve: Serve, speak_h2: SpeakH2, roads: list[int]) -> None:
    peer = speak_h2(serve(lambda request: ok("fine")), stingy=True)
    for _ in range(10):
        assert peer.fetch().body == b"fine"
    assert len(roads) <= 3


def test_errors_are_counted_each_time(start: Start, speak_h2: SpeakH2) -> None:
    running = start(lambda request: Response(404, body=b"?"))
    peer = speak_h2(running.address)
    for _ in range(5):
        assert peer.fetch().status == 404
    assert running.server.stats().errors == {404: 5}


def test_a_changing_answer_is_not_remembered(serve: Serve, speak_h2: SpeakH2) -> None:
    count = 0

    def handler(request: Request) -> Response:
        nonlocal count
        count += 1
        return Response(200, body=b"%d" % count, headers={"X-Count": str(count)})

    peer = speak_h2(serve(handler))
    for number in range(1, 400):
        answer = peer.fetch()
        assert (answer.body, answer.get("x-count")) == (b"%d" % number, str(number))


def test_the_fields_of_each_request_are_its_own(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(lambda request: ok(request.headers.get("x-n") + request.url)))
    for _ in range(4):
        for name in ("a", "b", "c"):
            assert peer.fetch("/t", fields=[("x-n", name)]).body == f"{name}/t".encode()


def test_a_small_window_is_respected(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(lambda request: ok("four")), {INITIAL_WINDOW: 4}, stingy=True)
    for _ in range(5):
        assert peer.fetch().body == b"four"
    peer = speak_h2(serve(lambda request: ok("seven b")), {INITIAL_WINDOW: 4}, stingy=True)
    for _ in range(5):
        sid = peer.ask()
        while not peer.streams[sid].body:
            peer.take()
        peer.await_pong()
        assert peer.streams[sid].body == b"seve"
        peer.send(build_window_update(sid, 3))
        assert peer.read().body == b"seven b"


def test_the_windows_of_all_streams_together_are_respected(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(lambda request: ok(b"x" * 6000)), stingy=True)
    sids = [peer.ask() for _ in range(15)]

    def received() -> int:
        return sum(len(peer.streams[sid].body) for sid in sids)

    while received() < 65_535:
        peer.take()
    peer.await_pong()
    assert received() == 65_535
    peer.send(build_window_update(0, 100_000))
    assert all(len(peer.read(sid).body) == 6000 for sid in sids)


def test_frames_of_all_kinds_in_one_read(serve: Serve, speak_h2: SpeakH2) -> None:
    def handler(request: Request) -> Response:
        return ok(f"{request.method} {len(request.body)}")

    peer = speak_h2(serve(handler))
    for _ in range(3):
        peer.fetch()
    data = b""
    for _ in range(5):
        data += peer.open() + build_frame(PING, 0, 0, b"12345678") + peer.open()
        data += peer.open("/", "POST", end=False) + peer.open()
        data += build_frame(DATA, END_STREAM, peer.last - 2, b"abc")
    first = 7
    peer.send(data[:-5])
    peer.send(data[-5:])
    for place, sid in enumerate(range(first, peer.last + 1, 2)):
        expected = b"POST 3" if place % 4 == 2 else b"GET 0"
        assert peer.read(sid).body == expected
    while len(peer.pongs) < 5:
        peer.take()


def test_heads_with_a_priority(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(echo))
    head = peer.open("/p")[9:]
    for number in range(6):
        sid = 2 * number + 1
        peer.streams[sid] = Answer()
        block = head if number == 0 else peer.open("/p")[9:]
        flags = 0x20 | END_HEADERS | END_STREAM
        peer.send(build_frame(HEADERS, flags, sid, b"\0\0\0\0\x10" + block))
        peer.last = sid
        assert peer.read(sid).body == b"/p"
    sid += 2
    peer.streams[sid] = Answer()
    peer.last = sid - 2
    block = peer.open("/p")[9:]
    depends_on_itself = (0x80000000 | sid).to_bytes(4, "big") + b"\x10"
    peer.send(build_frame(HEADERS, 0x25, sid, depends_on_itself + block))
    assert peer.read(sid).reset == 1


def test_streams_must_not_come_again(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(echo))
    for _ in range(4):
        peer.fetch()
    again = build_frame(HEADERS, 5, peer.last, peer.open()[9:])
    peer.send(again)
    assert peer.await_goaway() == (7, 5)


@pytest.mark.parametrize("config", [{"access_log": True}, {"max_keepalive_requests": 100}])
def test_what_looks_at_each_request_takes_the_road(
    serve: Serve, speak_h2: SpeakH2, roads: list[int], config: dict[str, Any]
) -> None:
    peer = speak_h2(serve(echo, ServerConfig(**config)))
    for _ in range(6):
        assert peer.fetch().status == 200
    assert len(roads) == 6


def test_an_exile_takes_the_road(start: Start, speak_h2: SpeakH2) -> None:
    gate = Gate(echo)
    router = Router()
    router.get("/slow", gate)
    router.get("/fast", echo)
    running = start(router)
    peer = speak_h2(running.address)
    gate.release.set()
    for _ in range(5):
        assert peer.fetch("/slow").body == b"/slow"
    gate.release.clear()
    sids = [peer.ask("/slow") for _ in range(5)]
    assert peer.fetch("/fast").body == b"/fast"
    gate.release.set()
    assert all(peer.read(sid).body == b"/slow" for sid in sids)
    until(lambda: is_quiet(worker_of(running)))


@pytest.mark.usefixtures("asleep", "no_exile")
@pytest.mark.parametrize("step", STEPS)
class TestTakeover:
    @pytest.mark.parametrize("which", [0, 1, 20, 39])
    def test_the_rest_of_the_read_is_worked_through(
        self, start: Start, speak_h2: SpeakH2, step: str, which: int
    ) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return ok(request.url)

        running = start(handler)
        lease = force(running, step, lambda task: armed and wanted(task))
        armed = False
        peer = speak_h2(running.address)
        for _ in range(4):
            for target in ("/go", "/take"):
                assert peer.fetch(target).body == target.encode()
        armed = True
        for _ in range(3):
            first = peer.last + 2
            targets = ["/take" if place == which else "/go" for place in range(40)]
            peer.send(b"".join([peer.open(target) for target in targets]))
            for place, target in enumerate(targets):
                assert peer.read(first + 2 * place).body == target.encode()
        assert lease.taken == 3
        until(lambda: is_quiet(worker_of(running)))

    def test_every_one_of_them(self, start: Start, speak_h2: SpeakH2, step: str) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return ok(request.url)

        running = start(handler)
        lease = force(running, step, lambda task: armed and wanted(task))
        armed = False
        peer = speak_h2(running.address)
        for _ in range(4):
            peer.fetch("/take")
        armed = True
        first = peer.last + 2
        ping = build_frame(PING, 0, 0, b"12345678")
        peer.send(b"".join([peer.open("/take") + ping for _ in range(30)]))
        for place in range(30):
            assert peer.read(first + 2 * place).body == b"/take"
        while len(peer.pongs) < 30:
            peer.take()
        assert lease.taken == 30

    def test_a_reset_meanwhile(self, start: Start, speak_h2: SpeakH2, step: str) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return gate(request) if request.url == "/take" else echo(request)

        gate = Gate(echo)
        gate.release.set()
        running = start(handler)
        lease = force(running, step, lambda task: armed and wanted(task))
        armed = False
        peer = speak_h2(running.address)
        for _ in range(4):
            peer.fetch("/take")
        gate.release.clear()
        for _ in range(4):
            gate.await_entry()
        armed = True
        sid = peer.ask("/take")
        gate.await_entry()
        peer.rst(sid)
        if step == "after":
            gate.release.set()
        assert peer.fetch("/go").body == b"/go"
        gate.release.set()
        until(lambda: is_quiet(worker_of(running)))
        peer.await_pong()
        assert step == "after" or not peer.streams[sid].fields


def test_serve_static(speak_h2: SpeakH2) -> None:
    from serving import Running

    from flare.http import precompute_response

    class Static(Running):
        def _serve(self, handler: Any) -> None:
            assert isinstance(self.server, HttpServer)
            self.server.serve_static(handler)

    running = Static(precompute_response(200, "text/plain", b"static"))
    try:
        peer = speak_h2(running.address)
        for target in ("/", "/any", "/"):
            answer = peer.fetch(target)
            assert (answer.status, answer.body) == (200, b"static")
            assert answer.get("content-type") == "text/plain"
        assert peer.fetch("/", "HEAD").get("content-length") == "6"
        peer.close()
    finally:
        running.stop()
