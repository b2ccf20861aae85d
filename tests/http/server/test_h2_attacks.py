"""Hostile HTTP/2 over real sockets (attacks 18 to 24), while somebody else is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dispatching import Gate, echo, is_quiet, skip, until, worker_of
from h2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_UPDATE,
    Answer,
    H2Peer,
    build_frame,
    build_rst,
    build_settings,
    build_window_update,
)
from serving import PATIENCE, Running, Start

from flare.http import Request, Response, ok
from flare.http.server import ServerConfig
from flare.http2 import HpackEncoder, Http2Config
from flare.http2.errors import code_name

SpeakH2 = Callable[..., H2Peer]
NO_ERROR, PROTOCOL_ERROR, ENHANCE_YOUR_CALM = 0, 1, 0xB


class Scene:
    """A server, a peer that misbehaves, and one that only wants to know how the server is."""

    def __init__(self, running: Running, speak_h2: SpeakH2, log: pytest.LogCaptureFixture) -> None:
        log.set_level("INFO", "flare.error")
        self.log = log
        self.running = running
        self.address = running.address
        self.speak_h2 = speak_h2
        self.well = speak_h2(running.address)
        self.bad = speak_h2(running.address, receive_buffer=4096)
        self.is_well()

    def is_well(self) -> None:
        answer = self.well.fetch("/health")
        assert (answer.status, answer.body) == (200, b"/health")

    def flood(self, data: bytes) -> bool:
        """Send all of it, or as much as the server takes before it closes; whether it did."""
        try:
            self.bad.send(data)
        except OSError:
            return True
        return False

    def is_sent_away(self, code: int = ENHANCE_YOUR_CALM) -> None:
        """By a GOAWAY, unless so much was sent meanwhile that a reset has overtaken it."""
        try:
            self.bad.read_to_end()
        except AssertionError:
            pass
        assert {found for _, found in self.bad.goaways} <= {code}
        assert code_name(code) in self.log.text
        self.bad.close()
        self.is_well()
        until(lambda: is_quiet(worker_of(self.running)))
        until(lambda: len(worker_of(self.running).connections) == 1)


@pytest.fixture
def scene(
    start: Start, speak_h2: SpeakH2, caplog: pytest.LogCaptureFixture
) -> Callable[..., Scene]:
    return lambda handler=echo, config=None: Scene(start(handler, config), speak_h2, caplog)


Set = Callable[..., Scene]


def test_18_rapid_reset(scene: Set) -> None:
    called = []

    def handler(request: Request) -> Response:
        called.append(request.url)
        return ok(request.url)

    stage = scene(handler)
    frames = [stage.bad.open("/reset") + build_rst(stage.bad.last, 8) for _ in range(2000)]
    stage.flood(b"".join(frames))
    stage.is_sent_away()
    assert len(called) < 1000


def test_18_resets_of_running_handlers_start_no_more_than_are_allowed(scene: Set) -> None:
    gate = Gate(echo)
    stage = scene(
        lambda request: echo(request) if request.url == "/health" else gate(request),
        ServerConfig(h2_config=Http2Config(max_concurrent_streams=5)),
    )
    entered = 0
    for _ in range(40):
        stage.bad.ask("/slow")
        stage.bad.await_pong()
        if stage.bad.streams[stage.bad.last].reset is None:
            gate.await_entry()
            entered += 1
            stage.bad.rst(stage.bad.last)
    assert entered == 5
    stage.is_well()
    gate.release.set()


@pytest.mark.parametrize("fault", ["update-of-0", "overflow", "data-after-end", "priority"])
def test_19_resets_that_the_server_is_made_to_send(scene: Set, fault: str) -> None:
    stage = scene()
    bad = stage.bad
    frames = []
    for _ in range(1200):
        frames.append(bad.open("/", "POST", end=fault == "data-after-end"))
        sid = bad.last
        frames.append(
            {
                "update-of-0": build_frame(WINDOW_UPDATE, 0, sid, bytes(4)),
                "overflow": build_window_update(sid, 2**31 - 1),
                "data-after-end": build_frame(DATA, 0, sid, b"x"),
                "priority": build_frame(PRIORITY, 0, sid, bytes(3)),
            }[fault]
        )
    stage.flood(b"".join(frames))
    stage.is_sent_away()


def test_20_a_head_without_end(scene: Set) -> None:
    stage = scene()
    frames = [build_frame(HEADERS, 0, 1, b"")]
    frames += [build_frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 20)] * 10_000
    stage.flood(b"".join(frames))
    stage.is_sent_away()


def test_20_a_head_that_drips(scene: Set) -> None:
    stage = scene(echo, ServerConfig(header_timeout_ms=150))
    stage.bad.send(build_frame(HEADERS, 1, 1, b"\x82"))
    stage.is_sent_away(PROTOCOL_ERROR)


@pytest.mark.parametrize("name", ["x-bomb", "cookie"])
def test_21_a_bomb_of_references(scene: Set, name: str) -> None:
    """4 KiB in the table once, then a byte for each of thousands of fields."""
    stage = scene()
    bad = stage.bad
    block = HpackEncoder().encode([(name, "x" * 1900)])
    for _ in range(3):
        bad.last += 2
        head = bad.encoder.encode(
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h")]
        )
        stage.flood(build_frame(HEADERS, 5, bad.last, head + block + b"\xbe" * 10_000))
        bad.streams[bad.last] = Answer()
        assert bad.read().status == 431
    stage.is_well()


def test_21_too_many_fields(scene: Set) -> None:
    stage = scene()
    fields = [("a", "")] * 300
    assert stage.bad.fetch(fields=fields).status == 431
    stage.is_well()


@pytest.mark.parametrize(
    "frame",
    [
        build_frame(PING, 0, 0, b"12345678"),
        build_settings({INITIAL_WINDOW: 65_535}),
        build_frame(PRIORITY, 0, 1, b"\0\0\0\x03\x10"),
        build_window_update(0, 1),
        build_frame(0x42, 0, 0, b"unknown"),
    ],
    ids=["ping", "settings", "priority", "window-update", "unknown"],
)
def test_22_floods_of_frames_that_ask_for_nothing(scene: Set, frame: bytes) -> None:
    """A peer that reads no answers, so that they would pile up; or that moves nothing on."""
    stage = scene()
    for _ in range(50):
        if stage.flood(frame * 20_000):
            break
        stage.is_well()
    stage.is_sent_away()


@pytest.mark.parametrize("kind", [DATA, HEADERS])
def test_22_empty_frames(scene: Set, kind: int) -> None:
    stage = scene()
    bad = stage.bad
    if kind == DATA:
        stage.flood(bad.open("/", "POST", end=False) + build_frame(DATA, 0, bad.last) * 1000)
    else:
        stage.flood(build_frame(HEADERS, 0, 1) + build_frame(CONTINUATION, 0, 1) * 1000)
    stage.is_sent_away()


def test_22_settings_of_many_entries(scene: Set) -> None:
    stage = scene()
    stage.flood(build_frame(SETTINGS, 0, 0, b"\0\x04\0\0\xff\xff" * 100))
    stage.is_sent_away()


@pytest.mark.parametrize("window", [0, 1])
def test_23_a_window_that_stays_shut_holds_no_memory_for_ever(scene: Set, window: int) -> None:
    body = b"x" * 100_000
    stage = scene(
        lambda request: echo(request) if request.url == "/health" else ok(body),
        ServerConfig(
            write_timeout_ms=200,
            h2_config=Http2Config(max_queued_bytes=1_000_000, write_timeout_ms=200),
        ),
    )
    bad = stage.bad
    bad.send(build_settings({INITIAL_WINDOW: window}))
    for _ in range(50):
        bad.ask("/large")
    bad.await_pong()
    worker = worker_of(stage.running)
    held = [c._codec.queued_bytes for c in worker.connections.values() if c.token != 0]  # type: ignore[attr-defined]
    assert max(held) <= 1_100_000
    stage.is_well()
    first = bad.read(1)
    assert first.reset == 8
    stage.is_well()


def test_23_a_peer_that_never_reads_is_dropped(start: Start, speak_h2: SpeakH2) -> None:
    running = start(lambda request: ok(b"x" * 5_000_000), ServerConfig(write_timeout_ms=300))
    peer = speak_h2(running.address, {INITIAL_WINDOW: 2**31 - 1}, receive_buffer=4096, stingy=True)
    peer.send(build_window_update(0, 2**31 - 70_000))
    peer.ask()
    until(lambda: worker_of(running).tally.accepted)
    until(lambda: not worker_of(running).connections)


def test_23_a_long_answer_to_a_client_that_only_reads_is_not_cut_off(
    start: Start, speak_h2: SpeakH2
) -> None:
    # Windows that last for all of it, so that nothing is heard of the client meanwhile.
    running = start(lambda request: ok(b"x" * 9_000_000), ServerConfig(write_timeout_ms=10_000))
    peer = speak_h2(
        running.address, {INITIAL_WINDOW: 2**31 - 1}, receive_buffer=65_536, stingy=True
    )
    peer.send(build_window_update(0, 2**31 - 70_000))
    answer = peer.streams[peer.ask()]
    for read in range(1_500_000, 9_000_001, 1_500_000):
        while len(answer.body) < read:
            peer.take()
            assert answer.reset is None
        skip(worker_of(running), 6_000)
    assert peer.read().ended


def test_23_requests_whose_answers_nobody_reads_do_not_pile_up(
    start: Start, speak_h2: SpeakH2
) -> None:
    called = 0

    def handler(request: Request) -> Response:
        nonlocal called
        called += 1
        return ok(headers=[("x-large", "x" * 1000)])

    def ok(headers: Any) -> Response:
        return Response(200, headers=headers)

    running = start(handler, ServerConfig(write_timeout_ms=500))
    peer = speak_h2(running.address, receive_buffer=4096, stingy=True)
    peer.sock.settimeout(PATIENCE)
    try:
        for _ in range(400):
            peer.send(b"".join(peer.open() for _ in range(100)))
    except OSError:
        pass
    until(lambda: not worker_of(running).connections)
    assert called < 20_000


GET = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/")]


@pytest.mark.parametrize(
    "fields",
    [
        [*GET, (":path", "/other")],
        [*GET[:3]],
        [*GET, ("x", "1"), (":late", "x")],
        [*GET, ("X-Upper", "1")],
        [*GET, ("x", "a\r\nb: c")],
        [*GET, ("x", "a\0b")],
        [*GET, ("x ", "1")],
        [*GET, ("host", "other")],
        [*GET, ("host", "h"), ("host", "h")],
        [*GET, ("connection", "close")],
        [*GET, ("transfer-encoding", "chunked")],
        [*GET, ("te", "gzip")],
        [*GET, ("content-length", "5")],
        [*GET, ("content-length", "0"), ("content-length", "1")],
        [*GET[:2], (":authority", "h/x"), GET[3]],
        [*GET[:2], (":authority", "u@h"), GET[3]],
        [*GET[:3], (":path", "")],
        [*GET[:3], (":path", "no-slash")],
        [*GET[:3], (":path", "/a b")],
        [("", "x"), *GET],
    ],
)
def test_24_smuggling(scene: Set, fields: list[tuple[str, str]]) -> None:
    seen: list[str] = []
    stage = scene(lambda request: seen.append(request.url) or echo(request))
    seen.clear()
    assert stage.bad.fetch(raw=fields).reset == PROTOCOL_ERROR
    assert seen == []
    assert stage.bad.fetch("/health").status == 200
    stage.is_well()


def test_24_more_body_than_was_announced(scene: Set) -> None:
    stage = scene()
    bad = stage.bad
    sid = bad.ask("/", "POST", end=False, fields=[("content-length", "3")])
    bad.body(sid, b"four")
    assert bad.read().reset == PROTOCOL_ERROR
    stage.is_well()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (build_frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        (build_frame(HEADERS, END_HEADERS, 2, b"\x82"), PROTOCOL_ERROR),
        (build_frame(CONTINUATION, 4, 1, b""), PROTOCOL_ERROR),
        (build_frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR),
        (build_frame(GOAWAY, 0, 0, b"short"), 6),
        (build_frame(PING, 0, 0, b"short"), 6),
        (build_frame(HEADERS, 5, 1, b"\xff\xff\xff"), 9),
        (b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", 6),
        (build_window_update(0, 2**31 - 1), 3),
    ],
)
def test_faults_of_the_connection_end_it_with_their_code(
    scene: Set, frame: bytes, code: int
) -> None:
    stage = scene()
    stage.flood(frame)
    stage.is_sent_away(code)


def test_who_never_acknowledges_the_settings(start: Start, speak_h2: SpeakH2) -> None:
    config = ServerConfig(h2_config=Http2Config(settings_ack_timeout_ms=100))
    peer = speak_h2(start(echo, config).address)
    peer.send = lambda data: None  # type: ignore[method-assign]
    assert peer.await_goaway()[1] == 4
