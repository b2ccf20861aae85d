"""The worker goes on without a handler that takes too long, wherever that handler is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dispatching import (
    AMPLE,
    STEPS,
    Gate,
    Source,
    ask,
    echo,
    force,
    is_quiet,
    pieces,
    reset,
    until,
    wanted,
    worker_of,
)
from serving import PATIENCE, Connect, Peer, Start

from flare.http import Request, Response, ok
from flare.http.server import ShutdownReport, stream_response


@pytest.mark.usefixtures("asleep", "no_exile")
@pytest.mark.parametrize("step", STEPS)
class TestTakeover:
    def test_the_answer_comes_and_the_connection_goes_on(
        self, start: Start, connect: Connect, step: str
    ) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return ok(request.url)

        running = start(handler)
        lease = force(running, step, wanted)
        peer = connect(running.address)
        for target in ("/a", "/take/b", "/c", "/d"):
            assert ask(peer, target) == target.encode()
        assert lease.taken == 1
        assert is_quiet(worker_of(running))

    @pytest.mark.parametrize("first", [0, 15, 16, 17, 33])
    def test_requests_behind_it_are_answered_in_order(
        self, start: Start, connect: Connect, step: str, first: int
    ) -> None:
        """From the sixteenth on they are served by a turn out of the ``ready`` queue."""

        def handler(request: Request) -> Response:
            lease.within()
            return ok(request.url)

        running = start(handler)
        lease = force(running, step, wanted)
        targets = [f"/{'take' if number == first else 'go'}/{number}" for number in range(40)]
        peer = connect(running.address)
        peer.send(b"".join(f"GET {t} HTTP/1.1\r\nHost: h\r\n\r\n".encode() for t in targets))
        assert [peer.read().body.decode() for _ in targets] == targets
        assert lease.taken == 1

    def test_the_rest_of_the_batch_is_worked_through(
        self, start: Start, connect: Connect, step: str
    ) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return gate(request) if request.url == "/gate" else echo(request)

        gate = Gate(echo)
        running = start(handler)
        lease = force(running, step, wanted)
        first, *peers = [connect(running.address) for _ in range(9)]
        for peer in peers:
            assert ask(peer, "/hello") == b"/hello"
        first.get("/gate")
        gate.await_entry()
        for number, peer in enumerate(peers):
            peer.get(f"/{'take' if number % 3 == 1 else 'go'}/{number}")
        gate.release.set()
        for number, peer in enumerate(peers):
            assert peer.read().body.endswith(b"/%d" % number)
        assert first.read().body == b"/gate"
        assert lease.taken == 3

    def test_what_was_owed_is_sent_by_the_next_leader(
        self, start: Start, connect: Connect, step: str
    ) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return echo(request) if request.url == "/" else gate(request)

        gate = Gate(echo)
        running = start(handler)
        lease = force(running, step, wanted)
        peer = connect(running.address)
        peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /take HTTP/1.1\r\nHost: h\r\n\r\n")
        gate.await_entry()
        if step == "after":  # until then nothing can tell
            gate.release.set()
        assert peer.read().body == b"/"
        gate.release.set()
        assert peer.read().body == b"/take"

    def test_a_streamed_body_is_whole(self, start: Start, connect: Connect, step: str) -> None:
        def body() -> Iterator[bytes]:
            for number in range(40):
                lease.within()
                yield b"%d " % number

        running = start(lambda request: stream_response(body()) if request.url == "/s" else ok())
        taken = 0

        def sometimes(task: Any) -> bool:
            nonlocal taken
            taken += pieces(task)
            return pieces(task) and taken % 20 == 1

        lease = force(running, step, sometimes)
        peer = connect(running.address)
        expected = b"".join(b"%d " % number for number in range(40))
        for _ in range(3):
            assert ask(peer, "/s") == expected
        assert ask(peer, "/") == b""
        assert lease.taken >= 2
        until(lambda: is_quiet(worker_of(running)))

    @pytest.mark.parametrize("leave", [Peer.close, reset, Peer.finish_sending])
    def test_the_peer_leaves_meanwhile(
        self, start: Start, connect: Connect, step: str, leave: Callable[[Peer], None]
    ) -> None:
        source = Source()

        def handler(request: Request) -> Response:
            lease.within()
            return gate(request) if request.url == "/take" else ok("fine")

        gate = Gate(lambda _: stream_response(source))
        running = start(handler)
        worker = worker_of(running)
        lease = force(running, step, wanted)
        peer = connect(running.address)
        peer.get("/take")
        gate.await_entry()
        leave(peer)
        if step != "after":
            assert ask(connect(running.address), "/") == b"fine"
        gate.release.set()
        if leave is Peer.finish_sending:
            assert peer.read().body == b"chunk" * 3
            assert peer.is_ended()
        assert source.closed.wait(PATIENCE)
        assert ask(connect(running.address), "/") == b"fine"
        assert lease.taken == 1
        until(lambda: is_quiet(worker) and len(worker.connections) <= 2)

    def test_the_server_is_closed_meanwhile(
        self, start: Start, connect: Connect, step: str
    ) -> None:
        source = Source()

        def handler(request: Request) -> Response:
            if step == "after":
                running.server.close()
                return stream_response(source)
            lease.within()
            return gate(request)

        gate = Gate(lambda _: stream_response(source))
        running = start(handler)
        worker = worker_of(running)
        lease = force(running, step, wanted)
        peer = connect(running.address)
        peer.get("/take")
        if step != "after":
            gate.await_entry()
            running.server.close()
            assert peer.is_ended()
            gate.release.set()
        running.join()
        assert running.error is None
        assert source.closed.wait(PATIENCE)
        until(lambda: is_quiet(worker))
        assert lease.taken == 1

    def test_the_server_drains_meanwhile(self, start: Start, connect: Connect, step: str) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            return gate(request) if request.url != "/" else echo(request)

        gate = Gate(echo)
        running = start(handler)
        worker = worker_of(running)
        lease = force(running, step, wanted)
        peer, idle = connect(running.address), connect(running.address)
        ask(idle, "/")
        peer.get("/take")
        gate.await_entry()
        with ThreadPoolExecutor(1) as pool:
            report = pool.submit(running.server.drain, AMPLE)
            until(lambda: worker._commands or worker.draining)
            if step != "after":
                assert idle.is_ended()
            gate.release.set()
            reply = peer.read()
            # What was made before the drain began may have said keep-alive.
            assert reply.body == b"/take"
            assert peer.is_ended()
            peer.close()
            assert report.result(PATIENCE) == ShutdownReport(drained=2)
        running.join()
        assert lease.taken == 1

    def test_the_visits_of_a_drain_go_on(self, start: Start, connect: Connect, step: str) -> None:
        """What lies unread when a drain begins is answered, and taken over there."""

        def handler(request: Request) -> Response:
            lease.within()
            return gate(request) if request.url == "/gate" else echo(request)

        gate = Gate(echo)
        running = start(handler)
        lease = force(running, step, wanted)
        first, *peers = [connect(running.address) for _ in range(6)]
        for peer in peers:
            ask(peer, "/hello")
        # The gate is entered by a turn, so that the batch behind it is polled after the drain
        # has been asked for.
        first.get("/gate")
        gate.await_entry()
        with ThreadPoolExecutor(1) as pool:
            report = pool.submit(running.server.drain, AMPLE)
            until(lambda: worker_of(running)._commands)
            for peer in peers:
                peer.get("/take")
            gate.release.set()
            for peer in (first, *peers):
                assert peer.read().status == 200
                assert peer.is_ended()
                peer.close()
            assert report.result(PATIENCE) == ShutdownReport(drained=6)
        running.join()
        assert lease.taken == 5

    def test_an_error_gets_500(self, start: Start, connect: Connect, step: str) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            raise ValueError("no")

        running = start(handler)
        lease = force(running, step, wanted)
        peer = connect(running.address)
        for target in ("/take", "/"):
            peer.get(target)
            assert peer.read().status == 500
        assert lease.taken == 1

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
    def test_an_exit_ends_serve(
        self, start: Start, connect: Connect, step: str, error: BaseException
    ) -> None:
        def handler(request: Request) -> Response:
            lease.within()
            raise error

        running = start(handler)
        worker = worker_of(running)
        lease = force(running, step, wanted)
        peer = connect(running.address)
        peer.get("/take")
        running.join()
        assert running.error is error
        running.error = None
        assert lease.taken == 1
        assert peer.is_ended()
        assert is_quiet(worker)


@pytest.mark.usefixtures("asleep")
def test_an_exit_on_the_loop_leaves_no_lease_to_seize(start: Start, connect: Connect) -> None:
    def handler(request: Request) -> Response:
        raise SystemExit(3)

    running = start(handler)
    worker = worker_of(running)
    connect(running.address).get("/")
    running.join()
    assert isinstance(running.error, SystemExit)
    running.error = None
    assert not worker.overtake(worker.lease.serial)


@pytest.mark.usefixtures("asleep", "no_exile")
def test_every_call_may_be_taken_over(start: Start, connect: Connect) -> None:
    running = start(echo)
    lease = force(running, "before", lambda task: True)
    worker = worker_of(running)
    peers = [connect(running.address) for _ in range(4)]
    for number in range(50):
        for peer in peers:
            peer.get(f"/{number}")
        for peer in peers:
            assert peer.read().body == b"/%d" % number
    until(lambda: is_quiet(worker))
    assert lease.taken == 200
