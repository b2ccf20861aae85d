"""How an HTTP/2 connection ends with its server: GOAWAY, then what was accepted is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from dispatching import Gate, Source, echo, until
from h2_peer import ACK, PING, H2Peer, build_frame
from serving import PATIENCE, Start

from flare.http import Request, Response, ok
from flare.http.server import ServerConfig, ShutdownReport, stream_response

SpeakH2 = Callable[..., H2Peer]
POOL = ServerConfig(dispatch="pool")


def drained(server: object, timeout_ms: int = 10_000) -> Callable[[], ShutdownReport]:
    """Drain in a thread; the result is what the call returns."""
    reports: list[ShutdownReport] = []
    thread = threading.Thread(target=lambda: reports.append(server.drain(timeout_ms)))  # type: ignore[attr-defined]
    thread.start()

    def result() -> ShutdownReport:
        thread.join(PATIENCE)
        [report] = reports
        return report

    return result


def test_streams_in_progress_finish_and_new_ones_are_refused(
    start: Start, speak_h2: SpeakH2
) -> None:
    gate = Gate(echo)
    running = start(gate, POOL)
    peer = speak_h2(running.address)
    sid = peer.ask("/accepted")
    gate.await_entry()
    report = drained(running.server)
    while (1, 0) not in peer.goaways:  # the second one, after the PING
        peer.take()
    assert peer.goaways[0] == (2**31 - 1, 0)
    refused = peer.ask("/late")
    assert peer.read(refused).reset == 7
    gate.release.set()
    assert peer.read(sid).body == b"/accepted"
    peer.read_to_end()
    assert report() == ShutdownReport(drained=1, timed_out=0, in_flight_at_deadline=0)


def test_a_request_that_was_on_its_way_is_served(
    start: Start, speak_h2: SpeakH2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flare.http2.core.SHUTDOWN_WAIT_MS", 10_000)
    gate = Gate(echo)
    running = start(gate, POOL)
    peer = speak_h2(running.address)
    peer.ask("/a")
    gate.await_entry()
    report = drained(running.server)
    frame = peer.frame()
    while frame.kind != PING:
        frame = peer.frame()
    gate.release.set()
    assert peer.fetch("/b").body == b"/b"
    assert peer.read(1).body == b"/a"
    peer.send(build_frame(PING, ACK, 0, frame.payload))
    peer.read_to_end()
    assert report().timed_out == 0


def test_a_connection_without_streams_ends_at_once(start: Start, speak_h2: SpeakH2) -> None:
    running = start(echo)
    peer = speak_h2(running.address)
    assert peer.fetch().status == 200
    report = drained(running.server)
    assert peer.await_goaway() == (1, 0)
    assert report().drained == 1


def test_one_that_does_not_answer_the_ping_ends_all_the_same(
    start: Start, speak_h2: SpeakH2
) -> None:
    running = start(echo)
    peer = speak_h2(running.address)
    assert peer.fetch().status == 200
    peer.send = lambda data: None  # type: ignore[method-assign]
    report = drained(running.server)
    assert peer.await_goaway() == (1, 0)
    assert report().timed_out == 0


def test_what_is_left_at_the_deadline_is_cut_off(start: Start, speak_h2: SpeakH2) -> None:
    gate = Gate(echo)
    running = start(gate, POOL)
    peer = speak_h2(running.address)
    sid = peer.ask()
    gate.await_entry()
    report = drained(running.server, 100)
    peer.read_to_end()
    assert peer.streams[sid].reset == 8
    gate.release.set()
    assert report() == ShutdownReport(drained=0, timed_out=1, in_flight_at_deadline=1)


def test_close_closes_sources(start: Start, speak_h2: SpeakH2) -> None:
    source = Source(chunks=1 << 30)
    running = start(lambda request: stream_response(source))
    peer = speak_h2(running.address, stingy=True)
    sid = peer.ask()
    while not peer.streams[sid].body:
        peer.take()
    running.stop()
    assert source.closed.wait(PATIENCE)


class Load:
    """A client that asks as fast as it may until its connection takes no more streams."""

    def __init__(self, peer: H2Peer) -> None:
        self.peer = peer
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        peer = self.peer
        try:
            while len(peer.goaways) < 2:
                peer.send(b"".join([peer.open(f"/{peer.last + 2}") for _ in range(16)]))
                while any(not (s.ended or s.reset is not None) for s in peer.streams.values()):
                    peer.take()
                if not peer.goaways:
                    peer.streams.clear()
        except (OSError, AssertionError):
            pass  # what came behind the last stream has no answer


def test_a_drain_under_load_loses_no_accepted_stream(start: Start, speak_h2: SpeakH2) -> None:
    served = 0

    def handler(request: Request) -> Response:
        nonlocal served
        served += 1
        return ok(request.url)

    running = start(handler)
    loads = [Load(speak_h2(running.address)) for _ in range(4)]
    until(lambda: served > 500)
    report = running.server.drain(10_000)
    running.join()
    for load in loads:
        load.thread.join(PATIENCE)
        assert not load.thread.is_alive()
        last = load.peer.goaways[-1][0]
        for sid, answer in load.peer.streams.items():
            if sid <= last:
                assert answer.body == b"/%d" % sid
            else:
                assert (answer.body, answer.ended) == (b"", False)
    assert report.timed_out == 0
