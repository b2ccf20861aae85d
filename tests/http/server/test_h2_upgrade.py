"""From HTTP/1.1 to HTTP/2 on one connection: ``Upgrade: h2c`` (RFC 7540 section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from h2_peer import H2_PREFACE, Answer, H2Peer, build_settings
from serving import Serve

from flare.http import Request, Response, ok
from flare.http.server import ServerConfig

SpeakH2 = Callable[..., H2Peer]
SETTINGS = "AAMAAABkAAQAAP__"
ASK = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", f"HTTP2-Settings: {SETTINGS}")


def echo(request: Request) -> Response:
    return ok(request.method.encode() + b" " + request.url.encode() + b" " + request.body)


@pytest.fixture
def peer(serve: Serve, speak_h2: SpeakH2) -> H2Peer:
    return speak_h2(serve(echo), start=False)


def go_on(peer: H2Peer) -> None:
    """Take the 101, say the preface, count on from stream 1."""
    head = peer._until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert {b"Connection: Upgrade", b"Upgrade: h2c"} < set(head.split(b"\r\n"))
    peer.send(H2_PREFACE + build_settings())
    peer.streams[1] = Answer()
    peer.last = 1


def test_the_request_is_answered_on_stream_1_and_others_follow(peer: H2Peer) -> None:
    peer.get("/first", *ASK)
    go_on(peer)
    answer = peer.read()
    assert (answer.status, answer.body) == (200, b"GET /first ")
    assert peer.fetch("/second").body == b"GET /second "


def test_with_a_body(peer: H2Peer) -> None:
    peer.post(b"x" * 100_000, *ASK, target="/up")
    go_on(peer)
    assert peer.read().body == b"POST /up " + b"x" * 100_000


def test_behind_other_requests_in_one_write(peer: H2Peer) -> None:
    lines = "".join(f"{line}\r\n" for line in ASK)
    peer.send(
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n"
        + lines.encode()
        + b"\r\n"
        + H2_PREFACE
        + build_settings()
    )
    assert super(H2Peer, peer).read().body == b"GET /a "
    head = peer._until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    peer.streams[1] = Answer()
    peer.last = 1
    assert peer.read().body == b"GET /b "


def test_the_settings_it_carries_are_heeded(serve: Serve, speak_h2: SpeakH2) -> None:
    """INITIAL_WINDOW_SIZE of 5."""
    peer = speak_h2(serve(lambda request: ok(b"x" * 20)), start=False, stingy=True)
    peer.get("/", ASK[0], ASK[1], "HTTP2-Settings: AAQAAAAF")
    go_on(peer)
    while not peer.streams[1].body:
        peer.take()
    peer.await_pong()
    assert peer.streams[1].body == b"xxxxx"


def test_head_has_no_body(peer: H2Peer) -> None:
    lines = "".join(f"{line}\r\n" for line in ASK)
    peer.send(f"HEAD / HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode())
    go_on(peer)
    answer = peer.read()
    assert (answer.get("content-length"), answer.body) == ("7", b"")


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: Upgrade", ASK[1], ASK[2]),
        ("Connection: HTTP2-Settings", ASK[1], ASK[2]),
        (ASK[0], "Upgrade: websocket", ASK[2]),
        ASK[:2],
        (*ASK, ASK[2]),
        (ASK[0], ASK[1], "HTTP2-Settings: "),
        (ASK[0], ASK[1], "HTTP2-Settings: AAMAAAB"),
        (ASK[0], ASK[1], "HTTP2-Settings: ????"),
        (ASK[0], ASK[1], "HTTP2-Settings: AAUAAAAA"),
        (*ASK, "Via: 1.1 proxy"),
        (*ASK, "X-Forwarded-For: 10.0.0.1"),
        (*ASK, "Forwarded: for=10.0.0.1"),
    ],
)
def test_any_other_request_is_answered_in_http1(peer: H2Peer, lines: tuple[str, ...]) -> None:
    for _ in range(2):
        peer.get("/", *lines)
        assert super(H2Peer, peer).read().status == 200


@pytest.mark.parametrize(
    "config",
    [
        ServerConfig(h2c_upgrade=False),
        ServerConfig(http2=False),
        ServerConfig(keep_alive=False),
        ServerConfig(trusted_proxies=["127.0.0.1"]),
    ],
    ids=["h2c_upgrade", "http2", "keep_alive", "trusted_proxies"],
)
def test_it_can_be_switched_off_and_is_off_for_proxies(
    serve: Serve, speak_h2: SpeakH2, config: ServerConfig
) -> None:
    peer = speak_h2(serve(echo, config), start=False)
    peer.get("/", *ASK)
    assert super(H2Peer, peer).read().status == 200


def test_who_does_not_go_on_is_dropped(serve: Serve, speak_h2: SpeakH2) -> None:
    from flare.http2 import Http2Config

    config = ServerConfig(h2_config=Http2Config(settings_ack_timeout_ms=100))
    peer = speak_h2(serve(echo, config), start=False)
    peer.get("/", *ASK)
    assert peer._until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    peer.streams[1] = Answer()
    peer.send = lambda data: None  # type: ignore[method-assign]
    assert peer.await_goaway() == (1, 4)


def test_known_requests_are_asked_for_each_time(peer: H2Peer) -> None:
    """The same bytes twice: the memo of known requests must not swallow the second upgrade."""
    peer.get("/plain")
    assert super(H2Peer, peer).read().status == 200
    for _ in range(2):
        peer.get("/", "Connection: Upgrade", "Upgrade: other")
        assert super(H2Peer, peer).read().status == 200
    peer.get("/", *ASK)
    go_on(peer)
    assert peer.read().status == 200


def test_a_handler_never_sees_two_of_one_request(serve: Serve, speak_h2: SpeakH2) -> None:
    seen: list[Any] = []
    peer = speak_h2(serve(lambda request: seen.append(request.url) or ok()), start=False)
    peer.get("/once", *ASK)
    go_on(peer)
    peer.read()
    peer.await_pong()
    assert seen == ["/once"]


def test_a_large_answer_waits_for_the_clients_preface(serve: Serve, speak_h2: SpeakH2) -> None:
    """curl has room for 32 KiB behind the 101."""
    peer = speak_h2(serve(lambda request: ok(b"x" * 200_000)), start=False)
    peer.get("/", *ASK)
    assert peer._until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    peer.streams[1] = Answer()
    peer.last = 1
    peer.send(H2_PREFACE[:10])
    while not peer.streams[1].fields:
        frame = peer.frame()
        assert frame.kind != 0
        if frame.kind == 1:
            peer._take_fields(peer.streams[1], frame)
    assert not peer.buffer
    peer.send(H2_PREFACE[10:] + build_settings())
    assert len(peer.read().body) == 200_000
