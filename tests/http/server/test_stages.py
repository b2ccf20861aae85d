"""Groups of plain connections, whose requests are received, answered and sent in stages."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dispatching import Gate, ask, is_quiet, reset, seize, until, worker_of
from serving import Connect, Peer, Running, Start
from tls_serving import ConnectTls, Pki, StartTls

from flare.http import Request, Response, ok, precompute_response
from flare.http.server.kinds import Static

LARGE = 300_000


class Group:
    """A server whose loop can be made to find what many peers have sent in one batch.

    The handler gets each request but those for ``/hold``.
    """

    def __init__(
        self, start: Callable[..., Running], connect: Callable[..., Peer], handler: Any
    ) -> None:
        self.handler = handler
        self._connect = connect
        self._gate = Gate(lambda request: ok("held"))
        self.running = start(self._handle)
        self.worker = worker_of(self.running)
        self._holder = self.connect()

    @property
    def stages(self) -> Any:
        return self.worker._stages

    def _handle(self, request: Request) -> Any:
        if request.url == "/hold":
            return self._gate(request)
        if request.url == "/prime":
            return ok("primed")
        return self.handler(request)

    def connect(self) -> Peer:
        """A peer whose connection is plain."""
        peer = self._connect(self.running.address)
        for _ in range(2):
            assert ask(peer, "/prime") == b"primed"
        return peer

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What is sent inside comes in one batch."""
        self._gate.release.clear()
        self._holder.get("/hold")
        self._gate.await_entry()
        yield
        self._gate.release.set()
        assert self._holder.read().body == b"held"


@pytest.fixture(params=["plain", "tls"])
def group(
    request: pytest.FixtureRequest,
    start: Start,
    connect: Connect,
    start_tls: StartTls,
    connect_tls: ConnectTls,
    asleep: None,
    no_exile: None,
) -> Callable[[Any], Group]:
    if request.param == "tls":
        return lambda handler: Group(start_tls, connect_tls, handler)
    return lambda handler: Group(start, connect, handler)


def test_a_group_is_answered_each_with_its_own(group: Callable[[Any], Group]) -> None:
    served = group(lambda request: ok(request.url))
    peers = [served.connect() for _ in range(100)]  # more than one group
    for _ in range(2):
        with served.batch():
            for number, peer in enumerate(peers):
                peer.get(f"/{number}")
        assert [peer.read().body for peer in peers] == [b"/%d" % n for n in range(100)]


def test_a_takeover_in_a_group_holds_neither_what_is_answered_nor_what_is_received(
    group: Callable[[Any], Group],
) -> None:
    waiting: list[int] = []

    def handler(request: Request) -> Response:
        if request.url != "/slow":
            return ok(request.url)
        waiting.append(len(served.stages._answers))
        seize(served.worker)
        return gate(request)

    gate = Gate(lambda request: ok("slow"))
    served = group(handler)
    before, slow, behind, more = (served.connect() for _ in range(4))
    with served.batch():
        before.get("/before")
        slow.get("/slow")
        behind.get("/behind")
        more.get("/more")
    assert before.read().body == b"/before"
    assert behind.read().body == b"/behind"
    assert more.read().body == b"/more"
    assert waiting == [1], "they were no group"
    gate.release.set()
    assert slow.read().body == b"slow"
    for peer in (before, slow, behind, more):
        assert ask(peer, "/again") == b"/again"
    assert is_quiet(served.worker)


def test_two_takeovers_in_one_group(group: Callable[[Any], Group]) -> None:
    def handler(request: Request) -> Response:
        if request.url != "/slow":
            return ok(request.url)
        seize(served.worker)
        return gate(request)

    gate = Gate(lambda request: ok("slow"))
    served = group(handler)
    peers = [served.connect() for _ in range(5)]
    with served.batch():
        for peer, target in zip(peers, ("/a", "/slow", "/b", "/slow", "/c"), strict=True):
            peer.get(target)
    assert [peers[at].read().body for at in (0, 2, 4)] == [b"/a", b"/b", b"/c"]
    gate.release.set()
    assert [peers[at].read().body for at in (1, 3)] == [b"slow", b"slow"]


def test_a_call_from_another_thread_keeps_its_place(group: Callable[[Any], Group]) -> None:
    called: list[object] = []
    served = group(lambda request: ok(str(len(called))))
    before, behind = served.connect(), served.connect()
    with served.batch():
        before.get("/before")
        assert served.worker._post(lambda: called.append(1))
        behind.get("/behind")
    assert behind.read().body == b"1"
    assert before.read().body in (b"0", b"1")  # the system may tell of the call first


def test_large_answers_are_not_gathered(group: Callable[[Any], Group]) -> None:
    gathered: list[int] = []

    def handler(request: Request) -> Response:
        gathered.append(sum(len(answer) for _, answer, _ in served.stages._answers))
        return ok(f"{request.url} ".encode() * (LARGE // len(request.url)))

    served = group(handler)
    peers = [served.connect() for _ in range(8)]
    with served.batch():
        for number, peer in enumerate(peers):
            peer.get(f"/{number}")
    for number, peer in enumerate(peers):
        assert peer.read().body == b"/%d " % number * (LARGE // 2)
    assert gathered == [0] * 8
    for peer in peers:
        assert peer.sock.fileno() >= 0
        assert len(ask(peer, "/again")) == 7 * (LARGE // 6)


def test_a_group_is_as_small_as_its_handlers_are_slow(group: Callable[[Any], Group]) -> None:
    slow = [1_000_000]
    skew = [0]

    def handler(request: Request) -> Response:
        skew[0] += slow[0]
        return ok("x")

    served = group(handler)
    clock_ns = served.worker.clock_ns
    peers = [served.connect() for _ in range(16)]

    def a_batch() -> None:
        with served.batch():
            for peer in peers:
                peer.get("/x")
        for peer in peers:
            assert peer.read().body == b"x"

    served.worker.clock_ns = lambda: clock_ns() + skew[0]
    assert served.stages.size == 64
    a_batch()
    a_batch()
    assert served.stages.size <= 2
    # Each takes no time now, the machine's own pauses apart.
    slow[0], now = 0, clock_ns()
    served.worker.clock_ns = lambda: now + skew[0]
    a_batch()
    a_batch()
    assert served.stages.size >= 16


def test_a_peer_that_is_gone_before_its_answer_costs_the_others_nothing(
    group: Callable[[Any], Group],
) -> None:
    def handler(request: Request) -> Response:
        if request.url == "/first":
            reset(gone)  # received by now
        return ok(request.url)

    served = group(handler)
    first, gone, last = (served.connect() for _ in range(3))
    with served.batch():
        first.get("/first")
        gone.get("/gone")
        last.get("/last")
    assert first.read().body == b"/first"
    assert last.read().body == b"/last"
    until(lambda: len(served.worker.connections) == 3)  # with the holder's


def test_what_was_answered_is_sent_though_the_server_ends(
    start: Start, connect: Connect, asleep: None, no_exile: None
) -> None:
    class Quit(BaseException):
        pass

    def handler(request: Request) -> Response:
        if request.url == "/quit":
            raise Quit
        return ok(request.url)

    served = Group(start, connect, handler)
    before, bad = served.connect(), served.connect()
    with served.batch():
        before.get("/before")
        bad.get("/quit")
    assert before.read().body == b"/before"
    assert bad.is_ended()
    served.running.join()
    assert isinstance(served.running.error, Quit)
    served.running.error = None


def test_the_bytes_sent_are_counted(group: Callable[[Any], Group]) -> None:
    served = group(lambda request: ok("x" * 100))
    peers = [served.connect() for _ in range(4)]
    before = served.worker.tally.bytes_out
    with served.batch():
        for peer in peers:
            peer.get("/x")
    replies = [peer.read() for peer in peers]
    ours = sum(len(reply.head) + 4 + len(reply.body) for reply in replies)
    until(lambda: served.worker.tally.bytes_out >= before + ours)
    held = served.worker.tally.bytes_out - before - ours
    assert 0 < held < 500  # the answer that held the loop up


# -- TLS, record by record ------------------------------------------------------------------

GET = b"GET /prime HTTP/1.1\r\nHost: h\r\n\r\n"


class Records:
    """A client that decides how its records come: see ``wire``."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self.peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._until(self.tls.do_handshake)

    def _until(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                found = step()
            except ssl.SSLWantReadError:
                found = None
            if output := self._outgoing.read():
                self.peer.send(output)
            if found is not None or (step == self.tls.do_handshake and self.tls.version()):
                return found
            data = self.peer.sock.recv(65536)
            assert data, "the connection ended"
            self._incoming.write(data)

    def wire(self, data: bytes) -> bytes:
        """A record with *data*, not sent."""
        self.tls.write(data)
        return self._outgoing.read()

    def read(self) -> bytes:
        """What one record of the server holds; ``b""`` when it says that it ends."""
        try:
            return bytes(self._until(lambda: self.tls.read(65536)))
        except ssl.SSLZeroReturnError:
            return b""


@pytest.fixture
def records(start_tls: StartTls, connect: Connect, pki: Pki) -> Callable[[], Records]:
    running = start_tls(lambda request: ok("hello"))

    def begin() -> Records:
        client = Records(connect(running.address), pki.context())
        for _ in range(2):
            client.peer.send(client.wire(GET))
            assert client.read().endswith(b"hello")
        return client

    return begin


def test_a_record_in_two_parts(records: Callable[[], Records]) -> None:
    client = records()
    for cut in (1, 5, 20):
        record = client.wire(GET)
        client.peer.send(record[:cut])
        other = records()  # the loop has seen the part by then
        other.peer.send(other.wire(GET))
        assert other.read().endswith(b"hello")
        client.peer.send(record[cut:])
        assert client.read().endswith(b"hello")


def test_two_requests_in_one_packet(records: Callable[[], Records]) -> None:
    client = records()
    client.peer.send(client.wire(GET) + client.wire(GET))
    read = b""
    while read.count(b"hello") < 2:
        read += client.read()
    client.peer.send(client.wire(GET))
    assert client.read().endswith(b"hello")


def test_a_request_with_the_end_right_behind_it(records: Callable[[], Records]) -> None:
    client = records()
    record = client.wire(GET)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.peer.send(record + client._outgoing.read())
    assert client.read().endswith(b"hello")
    assert client.read() == b""


def test_what_is_no_record_ends_the_connection_and_no_other(
    records: Callable[[], Records],
) -> None:
    bad, good = records(), records()
    bad.peer.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # cannot be decrypted
    good.peer.send(good.wire(GET))
    assert good.read().endswith(b"hello")
    assert _ends(bad)


def _ends(client: Records) -> bool:
    try:
        return client.read() == b""
    except (ssl.SSLError, ConnectionError, AssertionError):
        return True


# -- one precomputed answer -----------------------------------------------------------------


def test_static_answers_go_in_groups_too(start: Start, connect: Connect) -> None:
    running = start(Static(precompute_response(200, "text/plain", b"same")))
    peers = [connect(running.address) for _ in range(10)]
    for _ in range(4):
        for peer in peers:
            peer.get("/")
        assert [peer.read().body for peer in peers] == [b"same"] * 10
    assert worker_of(running).requests == 40
