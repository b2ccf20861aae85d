"""The same handler over HTTP/2: requests in, responses out, bodies both ways."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dispatching import Source, skip, until, worker_of
from h2_peer import DATA, HEADERS, INITIAL_WINDOW, RST_STREAM, H2Peer, build_frame
from serving import Connect, Peer, Serve, Start

from flare.http import HeaderMap, Request, Response, Router, ok
from flare.http.server import HttpServer, ServerConfig, stream_response
from flare.http2 import H2_PREFACE, Http2Config, build_settings, build_window_update

SpeakH2 = Callable[..., H2Peer]


def about(request: Request) -> Response:
    lines = [request.method, request.url, request.version, request.scheme, request.host]
    lines += [f"{name}={value}" for name, value in request.headers.items()]
    return ok("\n".join([*lines, str(len(request.body))]))


@pytest.fixture
def peer(serve: Serve, speak_h2: SpeakH2) -> H2Peer:
    return speak_h2(serve(about))


def test_a_request_as_the_handler_sees_it(peer: H2Peer) -> None:
    fields = [("x-a", "1"), ("cookie", "a=b"), ("x-a", "2"), ("cookie", "c=d")]
    answer = peer.fetch("/p?q=1", fields=fields)
    assert answer.status == 200
    assert answer.body.decode().split("\n") == [
        "GET", "/p?q=1", "HTTP/2", "http", "h",
        "host=h", "x-a=1", "cookie=a=b; c=d", "x-a=2", "0",
    ]  # fmt: skip
    assert answer.get("content-length") == str(len(answer.body))
    assert answer.get("date")
    assert answer.get("connection") is None


@pytest.mark.parametrize("size", [1, 2, 3, 24, 30])
def test_the_preface_may_come_in_any_pieces(serve: Serve, speak_h2: SpeakH2, size: int) -> None:
    peer = speak_h2(serve(about), start=False)
    data = H2_PREFACE + build_settings() + peer.open("/")
    for start in range(0, len(data), size):
        peer.send(data[start : start + size])
    assert peer.read().status == 200


@pytest.mark.parametrize("first", [b"P", b"PRI", b"PRI * HTTP/2.0\r\n"])
def test_what_only_begins_like_the_preface_is_http1(
    serve: Serve, connect: Connect, first: bytes
) -> None:
    peer = connect(serve(about))
    peer.send(first)
    peer.finish_sending()
    reply = peer.rest()
    assert b"HTTP/2" not in reply
    assert b"\x00\x00" not in reply


def test_a_request_that_begins_like_the_preface(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(about))
    peer.send(b"P")
    peer.send(b"OST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
    assert peer.read().body.startswith(b"POST\n/\nHTTP/1.1")


def test_both_versions_at_one_port(serve: Serve, speak_h2: SpeakH2, connect: Connect) -> None:
    address = serve(about)
    new, old = speak_h2(address), connect(address)
    old.get("/old")
    assert new.fetch("/new").body.startswith(b"GET\n/new\nHTTP/2")
    assert old.read().body.startswith(b"GET\n/old\nHTTP/1.1")


def test_with_http2_off_the_preface_is_a_bad_request(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(about, ServerConfig(http2=False)))
    peer.send(H2_PREFACE)
    assert peer.read().status == 505


def test_the_settings_follow_from_the_configuration(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(about, ServerConfig(max_header_size=1000, max_uri_length=24)))
    peer.fetch()
    assert peer.settings == {3: 100, 6: 1024}


def test_settings_of_ones_own(serve: Serve, speak_h2: SpeakH2) -> None:
    config = Http2Config(max_concurrent_streams=7, initial_window_size=100_000)
    peer = speak_h2(serve(about, ServerConfig(h2_config=config)))
    peer.fetch()
    assert (peer.settings[3], peer.settings[4]) == (7, 100_000)


def test_settings_given_to_bind(start: Start, speak_h2: SpeakH2) -> None:
    from flare.net import SocketAddr

    server = HttpServer.bind(
        SocketAddr.localhost(0), h2_config=Http2Config(max_concurrent_streams=3)
    )
    peer = speak_h2(start(about, server=server).address)
    peer.fetch()
    assert peer.settings[3] == 3


def test_many_streams_in_one_write(peer: H2Peer) -> None:
    data = b"".join(peer.open(f"/{number}") for number in range(100))
    peer.send(data)
    for sid in range(1, 201, 2):
        assert peer.read(sid).body.decode().split("\n")[1] == f"/{sid // 2}"


class TestHead:
    def test_it_has_the_length_and_no_body(self, peer: H2Peer) -> None:
        answer = peer.fetch("/", "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.get("content-length") or 0) > 20

    def test_an_empty_answer_keeps_its_own_length(self, serve: Serve, speak_h2: SpeakH2) -> None:
        peer = speak_h2(serve(lambda request: Response(200, headers={"Content-Length": "77"})))
        assert peer.fetch("/", "HEAD").get("content-length") == "77"
        assert peer.fetch("/", "GET").get("content-length") == "0"

    def test_a_streamed_body_is_closed(self, serve: Serve, speak_h2: SpeakH2) -> None:
        source = Source()
        peer = speak_h2(serve(lambda request: stream_response(source)))
        answer = peer.fetch("/", "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert source.closed.is_set()


@pytest.mark.parametrize(
    ("status", "length"), [(204, None), (205, "0"), (304, None), (404, "4"), (999, "4")]
)
def test_statuses(serve: Serve, speak_h2: SpeakH2, status: int, length: str | None) -> None:
    peer = speak_h2(serve(lambda request: Response(status, body=b"body")))
    answer = peer.fetch()
    assert answer.status == status
    assert answer.get("content-length") == length
    assert answer.body == (b"body" if length == "4" else b"")


def test_fields_of_one_hop_are_dropped(serve: Serve, speak_h2: SpeakH2) -> None:
    headers = [
        ("Connection", "keep-alive"), ("Keep-Alive", "timeout=5"), ("Upgrade", "x"),
        ("Transfer-Encoding", "chunked"), ("Content-Length", "99"), ("Date", "never"),
        ("X-Kept", "Yes"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
    ]  # fmt: skip
    peer = speak_h2(serve(lambda request: Response(200, body=b"body", headers=headers)))
    fields = peer.fetch().fields
    assert [name for name, _ in fields] == [
        ":status", "date", "x-kept", "set-cookie", "set-cookie", "content-length",
    ]  # fmt: skip
    assert dict(fields)["content-length"] == "4"
    assert dict(fields)["date"] != "never"


@pytest.mark.parametrize("bad", ["not a response", None, 204, Response(99), Response(1000)])
def test_what_cannot_be_sent_is_a_500(serve: Serve, speak_h2: SpeakH2, bad: Any) -> None:
    peer = speak_h2(serve(lambda request: bad if request.url == "/bad" else ok("fine")))
    assert peer.fetch("/bad").status == 500
    assert peer.fetch("/good").body == b"fine"


def test_an_exception_is_a_500_without_its_text(serve: Serve, speak_h2: SpeakH2) -> None:
    def handler(request: Request) -> Response:
        raise RuntimeError("a secret")

    answer = speak_h2(serve(handler)).fetch()
    assert answer.status == 500
    assert b"secret" not in answer.body


def test_connect_is_the_handlers_to_answer(peer: H2Peer) -> None:
    raw = [(":method", "CONNECT"), (":authority", "far:443")]
    assert peer.fetch(raw=raw).body.startswith(b"CONNECT\nfar:443\nHTTP/2")


EXTENDED_CONNECT = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "h"),
    (":path", "/chat"),
]


def test_an_extended_connect_is_neither_offered_nor_taken(peer: H2Peer) -> None:
    sid = peer.ask(raw=EXTENDED_CONNECT, end=False)
    while peer.streams[sid].reset is None:
        peer.take()
    assert peer.streams[sid].reset == 1
    assert 8 not in peer.settings
    assert peer.fetch().status == 200


def test_an_extended_connect_that_nothing_answers_is_501(serve: Serve, speak_h2: SpeakH2) -> None:
    """Who offers it by hand has nothing for it yet."""
    config = ServerConfig(h2_config=Http2Config(enable_connect_protocol=True))
    peer = speak_h2(serve(about, config))
    sid = peer.ask(raw=EXTENDED_CONNECT, end=False)
    answer = peer.read(sid)
    assert (answer.status, peer.settings[8]) == (501, 1)
    assert peer.fetch().status == 200


class TestRequestBodies:
    @pytest.mark.parametrize("size", [0, 1, 16_384, 65_535])
    def test_a_body(self, peer: H2Peer, size: int) -> None:
        sid = peer.ask("/", "POST", end=False)
        peer.body(sid, b"x" * size)
        assert peer.read().body.endswith(b"\n%d" % size)

    def test_a_large_one_moves_the_windows(self, serve: Serve, speak_h2: SpeakH2) -> None:
        data = os.urandom(3 << 20)
        peer = speak_h2(serve(lambda request: ok(str(request.body == data))))
        sid = peer.ask("/", "POST", end=False, fields=[("content-length", str(len(data)))])
        room = {0: 65_535, sid: 65_535}
        at = 0
        while at < len(data):
            size = min(16_384, len(data) - at, *room.values())
            if not size:
                frame = peer.take()
                if frame.kind == 8:
                    room[frame.sid] += int.from_bytes(frame.payload, "big")
                continue
            end = at + size == len(data)
            peer.send(build_frame(DATA, int(end), sid, data[at : at + size]))
            at += size
            room = {key: left - size for key, left in room.items()}
        assert peer.read().body == b"True"

    def test_trailers(self, serve: Serve, speak_h2: SpeakH2) -> None:
        peer = speak_h2(
            serve(lambda request: ok(f"{request.body.decode()} {list(request.trailers.items())}"))
        )
        sid = peer.ask("/", "POST", end=False)
        peer.body(sid, b"hi", end=False)
        peer.send(build_frame(HEADERS, 5, sid, peer.encoder.encode([("x-sum", "1")])))
        assert peer.read().body == b"hi [('x-sum', '1')]"

    @pytest.mark.parametrize("announced", [True, False])
    def test_one_too_large_is_413_and_the_connection_stays(
        self, serve: Serve, speak_h2: SpeakH2, announced: bool
    ) -> None:
        peer = speak_h2(serve(about, ServerConfig(max_body_size=1000)))
        fields = [("content-length", "1001")] if announced else []
        sid = peer.ask("/", "POST", end=False, fields=fields)
        if not announced:
            peer.body(sid, b"x" * 1001, end=False)
        assert peer.read().status == 413
        assert peer.fetch("/next").status == 200

    def test_continue_is_said_at_once(self, peer: H2Peer) -> None:
        sid = peer.ask("/", "POST", end=False, fields=[("expect", "100-continue")])
        while not peer.streams[sid].interim:
            peer.take()
        peer.body(sid, b"hi")
        answer = peer.read()
        assert (answer.interim, answer.status) == (["100"], 200)

    def test_another_expectation_is_417(self, peer: H2Peer) -> None:
        peer.ask("/", "POST", end=False, fields=[("expect", "gold")])
        assert peer.read().status == 417

    def test_a_body_that_does_not_come_is_408(self, serve: Serve, speak_h2: SpeakH2) -> None:
        peer = speak_h2(serve(about, ServerConfig(read_body_timeout_ms=100)))
        sid = peer.ask("/", "POST", end=False)
        peer.body(sid, b"a bit", end=False)
        answer = peer.read()
        assert answer.status == 408
        while answer.reset is None:
            peer.take()
        assert answer.reset == 0
        assert peer.fetch("/next").status == 200


class TestStreaming:
    def test_a_body_of_unknown_length(self, serve: Serve, speak_h2: SpeakH2) -> None:
        peer = speak_h2(serve(lambda request: stream_response(iter([b"a", b"", b"bc"]))))
        answer = peer.fetch()
        assert (answer.body, answer.get("content-length")) == (b"abc", None)

    def test_a_body_of_known_length(self, serve: Serve, speak_h2: SpeakH2) -> None:
        peer = speak_h2(serve(lambda request: stream_response(b"x" * 200_000)))
        answer = peer.fetch()
        assert (answer.body, answer.get("content-length")) == (b"x" * 200_000, "200000")

    def test_trailers(self, serve: Serve, speak_h2: SpeakH2) -> None:
        def handler(request: Request) -> Any:
            response = stream_response(iter([b"body"]) if request.url == "/s" else iter([]))
            response.trailers = HeaderMap([("X-Sum", "1"), ("Content-Length", "9")])
            return response

        peer = speak_h2(serve(handler))
        for target, body in (("/s", b"body"), ("/empty", b"")):
            answer = peer.fetch(target)
            assert (answer.body, answer.trailers) == (body, [("x-sum", "1")])

    def test_trailers_of_a_whole_response(self, serve: Serve, speak_h2: SpeakH2) -> None:
        def handler(request: Request) -> Response:
            response = ok("body")
            response.trailers.set("X-Sum", "1")
            return response

        answer = speak_h2(serve(handler)).fetch()
        assert (answer.body, answer.trailers) == (b"body", [("x-sum", "1")])

    def test_a_source_that_fails_resets_its_stream_alone(
        self, serve: Serve, speak_h2: SpeakH2
    ) -> None:
        def body() -> Iterator[bytes]:
            yield b"some"
            raise RuntimeError("no more")

        peer = speak_h2(
            serve(lambda request: stream_response(body()) if request.url == "/bad" else ok("fine"))
        )
        answer = peer.fetch("/bad")
        assert (answer.status, answer.reset, answer.ended) == (200, 2, False)
        assert peer.fetch("/good").body == b"fine"

    def test_a_piece_is_made_when_the_window_has_let_the_last_one_through(
        self, serve: Serve, speak_h2: SpeakH2
    ) -> None:
        made = []

        def body() -> Iterator[bytes]:
            for number in range(100):
                made.append(number)
                yield b"x" * 1000

        peer = speak_h2(
            serve(lambda request: stream_response(body())), {INITIAL_WINDOW: 2500}, stingy=True
        )
        sid = peer.ask()
        while len(peer.streams[sid].body) < 2500:
            peer.take()
        peer.await_pong()
        assert len(made) == 3
        peer.send(build_window_update(sid, 1000))
        while len(peer.streams[sid].body) < 3500:
            peer.take()
        peer.await_pong()
        assert len(made) == 4
        peer.stingy = False
        peer.send(build_window_update(sid, 100_000) + build_window_update(0, 100_000))
        assert len(peer.read().body) == 100_000

    def test_two_bodies_share_the_connection(self, serve: Serve, speak_h2: SpeakH2) -> None:
        peer = speak_h2(serve(lambda request: stream_response(iter([b"x" * 10_000] * 50))))
        first, second = peer.ask(), peer.ask()
        order = []
        while not (peer.streams[first].ended and peer.streams[second].ended):
            frame = peer.take()
            if frame.kind == DATA:
                order.append(frame.sid)
        assert len(peer.streams[first].body) == len(peer.streams[second].body) == 500_000
        assert order.index(second) < len(order) // 4

    def test_a_reset_stops_the_source(self, serve: Serve, speak_h2: SpeakH2) -> None:
        source = Source(chunks=1 << 30)
        peer = speak_h2(serve(lambda request: stream_response(source)), stingy=True)
        sid = peer.ask()
        while not peer.streams[sid].body:
            peer.take()
        peer.rst(sid)
        assert source.closed.wait(10)
        peer.await_pong()
        assert source.left > 0

    def test_a_connection_that_ends_stops_the_source(self, serve: Serve, speak_h2: SpeakH2) -> None:
        source = Source(chunks=1 << 30)
        peer = speak_h2(serve(lambda request: stream_response(source)), stingy=True)
        sid = peer.ask()
        while not peer.streams[sid].body:
            peer.take()
        peer.close()
        assert source.closed.wait(10)


def test_large_responses_side_by_side(serve: Serve, speak_h2: SpeakH2) -> None:
    body = os.urandom(1 << 20)
    peer = speak_h2(serve(lambda request: ok(body)))
    sids = [peer.ask() for _ in range(5)]
    assert all(peer.read(sid).body == body for sid in sids)


def test_a_peer_that_stops_sending_gets_its_answers(serve: Serve, speak_h2: SpeakH2) -> None:
    entered, release = threading.Event(), threading.Event()

    def handler(request: Request) -> Response:
        entered.set()
        assert release.wait(10)
        return ok("late")

    peer = speak_h2(serve(handler))
    peer.ask()
    assert entered.wait(10)
    peer.finish_sending()
    release.set()
    peer.send = lambda data: None  # type: ignore[method-assign]
    assert peer.read().body == b"late"
    peer.read_to_end()


def test_a_connection_without_streams_ends_in_good_order_when_idle(
    start: Start, speak_h2: SpeakH2
) -> None:
    running = start(about, ServerConfig(idle_timeout_ms=10_000))
    peer = speak_h2(running.address)
    assert peer.fetch().status == 200
    skip(worker_of(running), 10_000)
    assert peer.await_goaway() == (1, 0)


def test_the_last_request_of_a_connection(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(about, ServerConfig(max_keepalive_requests=2)))
    assert [peer.fetch().status for _ in range(2)] == [200, 200]
    assert peer.await_goaway() == (3, 0)


def test_connection_close_of_a_handler_ends_the_connection(serve: Serve, speak_h2: SpeakH2) -> None:
    peer = speak_h2(serve(lambda request: Response(200, headers={"Connection": "close"})))
    assert peer.fetch().status == 200
    assert peer.await_goaway() == (1, 0)


def test_a_router_with_parameters(serve: Serve, speak_h2: SpeakH2) -> None:
    router = Router()
    router.get("/users/:id", lambda request: ok(request.param("id")))
    peer = speak_h2(serve(router))
    assert peer.fetch("/users/42").body == b"42"
    assert peer.fetch("/none").status == 404
    assert peer.fetch("/users/42", "DELETE").status == 405


def test_a_stream_reset_before_it_is_run_is_not_run(start: Start, speak_h2: SpeakH2) -> None:
    seen = []
    running = start(lambda request: seen.append(request.url) or ok())
    peer = speak_h2(running.address)
    reset = build_frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big"))
    peer.send(peer.open("/reset") + reset + peer.open("/kept"))
    assert peer.read(3).status == 200
    assert seen == ["/kept"]


def test_each_request_is_a_line_in_the_access_log(
    serve: Serve, speak_h2: SpeakH2, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flare.access")
    router = Router()
    router.get("/a", lambda request: ok("four"))
    router.get("/s", lambda request: stream_response(iter([b"abc"])))
    peer = speak_h2(serve(router, ServerConfig(access_log=True)))
    peer.fetch("/a")
    peer.fetch("/s")
    until(lambda: len(caplog.records) == 2)
    lines = [record.getMessage() for record in caplog.records]
    assert '"GET /a HTTP/2" 200 4 ' in lines[0]
    assert '"GET /s HTTP/2" 200 3 ' in lines[1]


def test_peers_are_told_apart_on_each_connection(serve: Serve, speak_h2: SpeakH2) -> None:
    address = serve(lambda request: ok(str(request.peer.port)))
    for _ in range(2):
        peer: Peer = speak_h2(address)
        assert peer.fetch().body == str(peer.sock.getsockname()[1]).encode()  # type: ignore[attr-defined]
