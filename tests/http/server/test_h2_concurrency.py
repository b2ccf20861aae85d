"""Streams of one connection run side by side, and a takeover in their midst loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dispatching import (
    STEPS,
    Gate,
    Source,
    echo,
    force,
    is_quiet,
    pieces,
    reset,
    until,
    wanted,
    worker_of,
)
from h2_peer import H2Peer
from serving import PATIENCE, Serve, Start

from flare.http import Cancel, Request, Response, Router, ok
from flare.http.cancel import CancelReason
from flare.http.server import ServerConfig, stream_response

SpeakH2 = Callable[..., H2Peer]


def test_sixty_four_sleepers_do_not_hold_a_fast_stream(serve: Serve, speak_h2: SpeakH2) -> None:
    gate = Gate(echo)
    router = Router()
    router.get("/slow", gate)
    router.get("/fast", echo)
    peer = speak_h2(serve(router, ServerConfig(handler_threads=65)))
    slow = [peer.ask("/slow") for _ in range(64)]
    for _ in slow:
        gate.await_entry()
    for _ in range(5):
        assert peer.fetch("/fast").body == b"/fast"
        peer.await_pong()
    assert not any(peer.streams[sid].fields for sid in slow)
    gate.release.set()
    assert all(peer.read(sid).body == b"/slow" for sid in slow)


def test_answers_come_in_the_order_they_are_ready(serve: Serve, speak_h2: SpeakH2) -> None:
    gates = {f"/{name}": Gate(echo) for name in "abc"}
    router = Router()
    for target, gate in gates.items():
        router.get(target, gate, dispatch="pool")
    peer = speak_h2(serve(router))
    sids = {target: peer.ask(target) for target in gates}
    for target in ("/c", "/a", "/b"):
        gates[target].await_entry()
        gates[target].release.set()
        assert peer.read(sids[target]).body == target.encode()


def test_too_many_are_told_to_come_again(serve: Serve, speak_h2: SpeakH2) -> None:
    gate = Gate(echo)
    config = ServerConfig(dispatch="pool", handler_threads=2, handler_queue=1)
    peer = speak_h2(serve(gate, config))
    sids = [peer.ask() for _ in range(4)]
    answer = peer.read(sids[3])
    assert (answer.status, answer.get("retry-after")) == (503, "1")
    gate.release.set()
    assert [peer.read(sid).status for sid in sids[:3]] == [200] * 3


class TestCancel:
    def test_a_reset_flips_it(self, start: Start, speak_h2: SpeakH2) -> None:
        class Handler:
            def serve(self, req: Request, cancel: Cancel) -> Response:
                if req.url == "/wait":
                    entered.set()
                    assert cancel.wait(PATIENCE)
                    reasons.append(cancel.reason())
                return ok(req.url)

        entered, reasons = threading.Event(), []
        from serving import Running

        class Cancellable(Running):
            def _serve(self, handler: Any) -> None:
                try:
                    self.server.serve_cancellable(handler)
                except BaseException as error:
                    self.error = error

        running = Cancellable(Handler())
        try:
            peer = speak_h2(running.address)
            sid = peer.ask("/wait")
            assert entered.wait(PATIENCE)
            peer.rst(sid)
            assert peer.fetch("/next").body == b"/next"
            until(lambda: reasons)
            assert reasons == [CancelReason.PEER_CLOSED]
            until(lambda: is_quiet(worker_of(running)))
            peer.await_pong()
            assert not peer.streams[sid].fields
            peer.close()
        finally:
            running.stop()

    @pytest.mark.usefixtures("asleep")  # so that the fast one is never late
    def test_a_late_handler_is_answered_for(self, start: Start, speak_h2: SpeakH2) -> None:
        gate = Gate(echo)
        router = Router()
        router.get("/slow", gate, dispatch="pool")
        router.get("/fast", echo)
        running = start(router, ServerConfig(handler_timeout_ms=100))
        peer = speak_h2(running.address)
        sid = peer.ask("/slow")
        assert peer.read(sid).status == 503
        assert peer.fetch("/fast").status == 200
        gate.release.set()
        until(lambda: is_quiet(worker_of(running)))
        assert peer.fetch("/fast").status == 200
        assert peer.streams[sid].body == b"Service Unavailable"

    def test_a_reset_streams_handler_still_counts(self, start: Start, speak_h2: SpeakH2) -> None:
        from flare.http2 import Http2Config

        gate = Gate(echo)
        router = Router()
        router.get("/slow", gate, dispatch="pool")
        router.get("/fast", echo)
        config = ServerConfig(h2_config=Http2Config(max_concurrent_streams=3))
        running = start(router, config)
        peer = speak_h2(running.address)
        for _ in range(3):
            sid = peer.ask("/slow")
            gate.await_entry()
            peer.rst(sid)
        answer = peer.fetch("/fast")
        assert answer.reset == 7
        gate.release.set()
        until(lambda: is_quiet(worker_of(running)))
        peer.await_pong()
        assert peer.fetch("/fast").status == 200


@pytest.mark.usefixtures("asleep", "no_exile")
@pytest.mark.parametrize("step", STEPS)
class TestTakeover:
    @pytest.mark.parametrize("which", [0, 1, 63, 64, 65, 99])
    def test_in_the_midst_of_a_batch(
        self, start: Start, speak_h2: SpeakH2, step: str, which: int
    ) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return ok(request.url)

        running = start(handler)
        lease = force(running, step, wanted)
        peer = speak_h2(running.address)
        targets = [f"/{'take' if number == which else 'go'}/{number}" for number in range(100)]
        peer.send(b"".join([peer.open(target) for target in targets]))
        for place, target in enumerate(targets):
            assert peer.read(2 * place + 1).body == target.encode()
        assert lease.taken == 1
        assert is_quiet(worker_of(running))

    def test_every_stream_of_it(self, start: Start, speak_h2: SpeakH2, step: str) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return ok(request.url)

        running = start(handler)
        lease = force(running, step, wanted)
        peer = speak_h2(running.address)
        targets = [f"/take/{number}" for number in range(30)]
        peer.send(b"".join([peer.open(target) for target in targets]))
        for place, target in enumerate(targets):
            assert peer.read(2 * place + 1).body == target.encode()
        assert lease.taken == 30

    def test_what_was_owed_is_sent_by_the_next_leader(
        self, start: Start, speak_h2: SpeakH2, step: str
    ) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return echo(request) if request.url == "/" else gate(request)

        gate = Gate(echo)
        running = start(handler)
        lease = force(running, step, wanted)
        peer = speak_h2(running.address)
        peer.send(peer.open("/") + peer.open("/take"))
        gate.await_entry()
        if step == "after":  # until then nothing can tell
            gate.release.set()
        assert peer.read(1).body == b"/"
        gate.release.set()
        assert peer.read(3).body == b"/take"

    def test_streamed_bodies_are_whole(self, start: Start, speak_h2: SpeakH2, step: str) -> None:
        def body(name: str) -> Iterator[bytes]:
            for number in range(20):
                lease.within()
                yield f"{name}{number} ".encode()

        running = start(lambda request: stream_response(body(request.url)))
        taken = 0

        def sometimes(task: Any) -> bool:
            nonlocal taken
            taken += pieces(task)
            return pieces(task) and taken % 3 == 0

        lease = force(running, step, sometimes)
        peer = speak_h2(running.address)
        sids = {name: peer.ask(name) for name in ("/a", "/b", "/c")}
        for name, sid in sids.items():
            expected = "".join(f"{name}{number} " for number in range(20))
            assert peer.read(sid).body.decode() == expected
        assert lease.taken > 10
        assert is_quiet(worker_of(running))

    def test_a_reset_meanwhile_drops_the_late_answer(
        self, start: Start, speak_h2: SpeakH2, step: str
    ) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return echo(request) if request.url == "/go" else gate(request)

        gate = Gate(echo)
        running = start(handler)
        lease = force(running, step, wanted)
        peer = speak_h2(running.address)
        sid = peer.ask("/take")
        gate.await_entry()
        peer.rst(sid)
        if step == "after":  # the reset cannot be read before
            gate.release.set()
        assert peer.fetch("/go").body == b"/go"
        gate.release.set()
        until(lambda: is_quiet(worker_of(running)))
        peer.await_pong()
        assert step == "after" or not peer.streams[sid].fields

    def test_a_connection_that_ends_meanwhile(
        self, start: Start, speak_h2: SpeakH2, step: str
    ) -> None:
        def handler(request: Request) -> Any:
            lease.within()
            if request.url == "/go":
                return ok()
            gate(request)
            return stream_response(source)

        source = Source()
        gate = Gate(echo)
        running = start(handler)
        lease = force(running, step, wanted)
        peer, other = speak_h2(running.address), speak_h2(running.address)
        peer.ask("/take")
        gate.await_entry()
        reset(peer)
        if step != "after":
            assert other.fetch("/go").status == 200
        gate.release.set()
        assert source.closed.wait(PATIENCE)
        assert other.fetch("/go").status == 200
        until(lambda: is_quiet(worker_of(running)))


def test_a_source_that_waits_holds_up_nobody(serve: Serve, speak_h2: SpeakH2) -> None:
    release = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"first "
        assert release.wait(PATIENCE)
        yield b"second"

    peer = speak_h2(
        serve(lambda request: stream_response(body()) if request.url == "/s" else echo(request))
    )
    sid = peer.ask("/s")
    while not peer.streams[sid].body:
        peer.take()
    assert peer.fetch("/other").body == b"/other"
    release.set()
    assert peer.read(sid).body == b"first second"


def test_a_body_that_stands_still_is_cancelled_and_the_others_go_on(
    serve: Serve, speak_h2: SpeakH2
) -> None:
    peer = speak_h2(
        serve(lambda request: ok(b"x" * 70_000), ServerConfig(write_timeout_ms=200)), stingy=True
    )
    sid = peer.ask()
    answer = peer.read(sid)
    assert (answer.reset, answer.ended) == (8, False)
    began = time.monotonic()
    peer.await_pong()
    assert time.monotonic() - began < PATIENCE
