"""What frees the source of a response that nobody reads any more may take its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dispatching import STEPS, ask, force, is_quiet, reset, until, worker_of
from h2_peer import DATA, H2Peer
from serving import PATIENCE, Connect, Start

from flare.http import Cancel, Request, Response, ok
from flare.http.server import ServerConfig, stream_response
from flare.http.server.wire import Closing

SpeakH2 = Callable[..., H2Peer]


class SlowToClose:
    """A source without end whose ``close`` waits to be let go, *within* it something happens."""

    def __init__(self, within: Callable[[], None] = lambda: None) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.closed = threading.Event()
        self.closings = 0
        self._within = within

    def next(self, cancel: Cancel) -> bytes | None:
        return b"x" * 16384

    def close(self) -> None:
        self.closings += 1
        self.entered.set()
        self._within()
        assert self.release.wait(PATIENCE)
        self.closed.set()


def handler_of(source: SlowToClose) -> Callable[[Request], Any]:
    return lambda request: stream_response(source) if request.url == "/stream" else ok(request.url)


@pytest.mark.parametrize("dispatch", ["auto", "pool"])
def test_a_source_that_is_slow_to_close_holds_nobody(
    start: Start, connect: Connect, dispatch: str
) -> None:
    source = SlowToClose()
    running = start(handler_of(source), ServerConfig(dispatch=dispatch))
    leaving, other = connect(running.address), connect(running.address)
    leaving.get("/stream")
    leaving.sock.recv(10)
    leaving.close()
    assert source.entered.wait(PATIENCE)
    for _ in range(5):
        assert ask(other, "/x") == b"/x"
    assert not source.closed.is_set()
    source.release.set()
    assert source.closed.wait(PATIENCE)
    until(lambda: is_quiet(worker_of(running)))
    assert source.closings == 1


def test_a_stream_of_http2_that_is_slow_to_close_holds_no_other(
    start: Start, speak_h2: SpeakH2
) -> None:
    source = SlowToClose()
    running = start(handler_of(source))
    peer = speak_h2(running.address)
    sid = peer.ask("/stream")
    while peer.take().kind != DATA:  # a stream that is reset earlier has no source yet
        pass
    peer.rst(sid)
    assert source.entered.wait(PATIENCE)
    for _ in range(5):
        assert peer.fetch("/x").body == b"/x"
    source.release.set()
    assert source.closed.wait(PATIENCE)
    until(lambda: is_quiet(worker_of(running)))
    assert source.closings == 1


@pytest.mark.usefixtures("asleep", "no_exile")
@pytest.mark.parametrize("step", STEPS)
def test_it_may_be_taken_over_at_any_step(start: Start, connect: Connect, step: str) -> None:
    source = SlowToClose(lambda: lease.within())
    source.release.set()
    running = start(handler_of(source))
    lease = force(running, step, lambda task: isinstance(task, Closing))
    leaving, other = connect(running.address), connect(running.address)
    leaving.get("/stream")
    leaving.sock.recv(10)
    leaving.close()
    assert source.closed.wait(PATIENCE)
    for _ in range(5):
        assert ask(other, "/x") == b"/x"
    until(lambda: is_quiet(worker_of(running)))
    assert (lease.taken, source.closings) == (1, 1)


def test_a_response_that_comes_too_late_is_closed_off_the_loop(
    start: Start, connect: Connect
) -> None:
    source = SlowToClose()
    entered, leave = threading.Event(), threading.Event()

    def handler(request: Request) -> Any:
        if request.url != "/stream":
            return ok(request.url)
        entered.set()
        assert leave.wait(PATIENCE)
        return stream_response(source)

    running = start(handler)
    leaving, other = connect(running.address), connect(running.address)
    leaving.get("/stream")
    assert entered.wait(PATIENCE)
    reset(leaving)
    assert ask(other, "/x") == b"/x"
    leave.set()
    assert source.entered.wait(PATIENCE)
    assert ask(other, "/x") == b"/x"
    source.release.set()
    assert source.closed.wait(PATIENCE)


def test_the_end_of_a_server_closes_what_is_open(start: Start, connect: Connect) -> None:
    sources: list[SlowToClose] = []

    def handler(request: Request) -> Response | Any:
        sources.append(SlowToClose())
        sources[-1].release.set()
        return stream_response(sources[-1])

    running = start(handler)
    peers = [connect(running.address) for _ in range(4)]
    for peer in peers:
        peer.get("/")
        peer.sock.recv(10)
    running.stop()
    assert [source.closings for source in sources] == [1] * 4


def test_a_generator_that_waits_in_its_finally_holds_nobody(start: Start, connect: Connect) -> None:
    entered, release, done = threading.Event(), threading.Event(), threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 16384
        finally:
            entered.set()
            assert release.wait(PATIENCE)
            done.set()

    running = start(
        lambda request: stream_response(endless()) if request.url == "/s" else ok(request.url)
    )
    leaving, other = connect(running.address), connect(running.address)
    leaving.get("/s")
    leaving.sock.recv(10)
    leaving.close()
    assert entered.wait(PATIENCE)
    assert ask(other, "/x") == b"/x"
    release.set()
    assert done.wait(PATIENCE)
