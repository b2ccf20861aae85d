"""Groups of plain connections, whose requests are received, answered and sent in stages."""

from __future__ import annotations

import gc
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import pytest
from dispatching import Gate, ask, is_quiet, reset, seize, until, worker_of
from serving import Connect, Peer, Running, Start
from tls_serving import ConnectTls, Pki, StartTls

from flare.http import Request, Response, Router, ok, precompute_response
from flare.http.server import ServerConfig
from flare.http.server.connection import Connection
from flare.http.server.kinds import Static
from flare.tls.tls_socket import TlsSocket

LARGE = 300_000
BUFRING = os.environ.get("FLARE_BUFRING_HANDLER") == "1"


class Group:
    """A server whose loop can be made to find what many peers have sent in one batch, and whose
    clock stands still: what is one group does not depend on the machine.

    The handler gets each request but those for ``/hold`` and ``/prime``.
    """

    def __init__(
        self, start: Callable[..., Running], connect: Callable[..., Peer], handler: Any
    ) -> None:
        self._handler = handler
        self._connect = connect
        self._gate = Gate(lambda request: ok("held"))
        self.running = start(self._handle)
        self.worker = worker_of(self.running)
        now = self.worker.clock_ns()
        self.worker.clock_ns = lambda: now + self.skew_ns
        self.skew_ns = 0
        self._holder = self.connect()

    @property
    def stages(self) -> Any:
        return self.worker.stages

    def _handle(self, request: Request) -> Any:
        if request.url == "/hold":
            return self._gate(request)
        if request.url == "/prime":
            return ok("primed")
        return self._handler(request)

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


def overtaken(
    group: Callable[[Any], Group], called: Callable[[str], object] = lambda url: None
) -> tuple[Group, Gate]:
    """A group in which ``/slow`` loses the lease and waits at the gate. *called* gets each URL."""

    def handler(request: Request) -> Response:
        called(request.url)
        if request.url != "/slow":
            return ok(request.url)
        seize(served.worker)
        return gate(request)

    gate = Gate(lambda request: ok("slow"))
    served = group(handler)
    return served, gate


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

    def note(url: str) -> None:
        if url == "/slow":
            waiting.append(len(served.stages._answers))

    served, gate = overtaken(group, note)
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
    served, gate = overtaken(group)
    peers = [served.connect() for _ in range(5)]
    with served.batch():
        for peer, target in zip(peers, ("/a", "/slow", "/b", "/slow", "/c"), strict=True):
            peer.get(target)
    assert [peers[at].read().body for at in (0, 2, 4)] == [b"/a", b"/b", b"/c"]
    gate.release.set()
    assert [peers[at].read().body for at in (1, 3)] == [b"slow", b"slow"]


def test_the_last_of_a_group_is_called_once_though_it_is_overtaken(
    group: Callable[[Any], Group],
) -> None:
    called: list[str] = []
    served, gate = overtaken(group, called.append)
    before, slow, other = (served.connect() for _ in range(3))
    with served.batch():
        before.get("/before")
        slow.get("/slow")
    assert before.read().body == b"/before"
    for _ in range(3):
        assert ask(other, "/other") == b"/other"
    gate.release.set()
    assert slow.read().body == b"slow"
    assert ask(slow, "/again") == b"/again"
    assert called == ["/before", "/slow", *["/other"] * 3, "/again"]


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
        gathered.append(len(served.stages._answers))
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


def test_what_is_answered_does_not_wait_for_the_whole_group(group: Callable[[Any], Group]) -> None:
    waiting: list[int] = []

    def handler(request: Request) -> Response:
        waiting.append(len(served.stages._answers))
        served.skew_ns += 900_000
        return ok("x")

    served = group(handler)
    peers = [served.connect() for _ in range(20)]
    with served.batch():
        for peer in peers:
            peer.get("/x")
    assert [peer.read().body for peer in peers] == [b"x"] * 20
    # The clock is looked at every eight answers.
    assert waiting == [*range(8), *range(8), *range(4)]


def test_long_requests_come_head_and_body_in_one_read(
    group: Callable[[Any], Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    by_the_road: list[int] = []
    on_data = Connection.on_data

    def counted(connection: Connection, data: bytes) -> None:
        by_the_road.append(len(data))
        on_data(connection, data)

    def handler(request: Request) -> Response:
        held.append(sum(len(data) for _, data in served.stages._group))
        return ok(sha256(request.body).hexdigest())

    served = group(handler)
    peers = [served.connect() for _ in range(40)]
    bodies = [number.to_bytes(2, "big") * 25_000 for number in range(len(peers))]
    expected = [sha256(body).hexdigest().encode() for body in bodies]
    monkeypatch.setattr(Connection, "on_data", counted)
    for batch in range(3):
        by_the_road.clear()
        held.clear()
        with served.batch():
            for peer, body in zip(peers, bodies, strict=True):
                peer.post(body)
        assert [peer.read().body for peer in peers] == expected
        if batch and not BUFRING:
            assert not by_the_road
            assert 50_000 < max(held) < (512 + 8 * 64) * 1024
    for _ in range(20):
        assert ask(peers[0], "/short") == sha256(b"").hexdigest().encode()
    assert served.stages._large == 0


def test_a_takeover_and_a_call_among_long_requests(group: Callable[[Any], Group]) -> None:
    def handler(request: Request) -> Response:
        if request.url == "/slow":
            served.worker._post(lambda: called.append(len(served.stages._group)))
            seize(served.worker)
        return ok(f"{request.url} {sha256(request.body).hexdigest()}")

    called: list[int] = []
    served = group(handler)
    peers = [served.connect() for _ in range(30)]
    bodies = [number.to_bytes(2, "big") * 20_000 for number in range(len(peers))]
    for _ in range(3):
        with served.batch():
            for number, peer in enumerate(peers):
                target = "/slow" if number in (3, 7, 8, 20) else f"/{number}"
                peer.post(bodies[number], target=target)
        for number, peer in enumerate(peers):
            digest = sha256(bodies[number]).hexdigest()
            assert peer.read().body.split()[1] == digest.encode()
    until(lambda: len(called) == 12)
    assert not any(called)


def test_long_requests_among_short_ones(group: Callable[[Any], Group]) -> None:
    served = group(lambda request: ok(f"{request.url} {len(request.body)}"))
    peers = [served.connect() for _ in range(100)]
    for _ in range(4):
        with served.batch():
            for number, peer in enumerate(peers):
                peer.post(b"x" * (30_000 if number % 10 == 0 else number), target=f"/{number}")
        for number, peer in enumerate(peers):
            size = 30_000 if number % 10 == 0 else number
            assert peer.read().body == b"/%d %d" % (number, size)


def test_a_group_is_as_small_as_its_handlers_are_slow(group: Callable[[Any], Group]) -> None:
    slow_ns = 1_000_000

    def handler(request: Request) -> Response:
        served.skew_ns += slow_ns
        return ok("x")

    served = group(handler)
    peers = [served.connect() for _ in range(16)]

    def a_batch() -> None:
        with served.batch():
            for peer in peers:
                peer.get("/x")
        for peer in peers:
            assert peer.read().body == b"x"

    assert served.stages.size == 64
    # It is measured behind the last send, so a peer may have its answer before.
    a_batch()
    until(lambda: served.stages.size == 2)
    slow_ns = 0
    a_batch()
    until(lambda: served.stages.size >= 16)


@pytest.mark.skipif(
    BUFRING,
    reason="io_uring sends at the end of a turn, which an inline handler holds up",
)
def test_nothing_waits_for_what_is_not_for_the_lane(
    start: Start, connect: Connect, asleep: None
) -> None:
    gate = Gate(lambda request: ok("slow"))
    router = Router()
    router.get("/quick", lambda request: ok("quick"))
    router.get("/slow", gate, dispatch="inline")
    router.get("/hold", hold := Gate(lambda request: ok("held")))
    running = start(router)
    quick, slow, holder = (connect(running.address) for _ in range(3))
    for peer in (quick, slow, holder):
        for _ in range(2):
            assert ask(peer, "/quick") == b"quick"
    holder.get("/hold")
    hold.await_entry()
    quick.get("/quick")
    slow.get("/slow")
    hold.release.set()
    assert holder.read().body == b"held"
    assert quick.read().body == b"quick"
    gate.release.set()
    assert slow.read().body == b"slow"


def _closed_connections(served: Group) -> int:
    return sum(
        type(found) is Connection and found._worker is served.worker and not found.open
        for found in gc.get_objects()
    )


def test_an_overtaken_thread_keeps_nothing_of_its_group(group: Callable[[Any], Group]) -> None:
    served, gate = overtaken(group)
    peers = [served.connect() for _ in range(10)]
    slow = peers[5]
    others = [peer for peer in peers if peer is not slow]
    with served.batch():
        for peer in peers:
            peer.get("/slow" if peer is slow else "/other")
    for peer in others:
        assert peer.read().body == b"/other"
        peer.close()
    until(lambda: len(served.worker.connections) == 2)  # the holder's and the slow one's
    # Of the last one the loop may hold something until it has another.
    until(lambda: _closed_connections(served) <= 1)
    gate.release.set()
    assert slow.read().body == b"slow"


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


def test_a_record_is_received_at_once_whatever_the_buffer(
    start_tls: StartTls, connect_tls: ConnectTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    decrypt = TlsSocket.decrypt

    def counted(sock: TlsSocket, data: bytes) -> bytes:
        calls.append(len(data))
        return decrypt(sock, data)

    running = start_tls(
        lambda request: ok(str(len(request.body))), ServerConfig(read_buffer_size=1024)
    )
    peer = connect_tls(running.address)
    for _ in range(2):
        assert ask(peer, "/prime") == b"0"
    monkeypatch.setattr(TlsSocket, "decrypt", counted)
    peer.post(b"x" * 16_000)
    assert peer.read().body == b"16000"
    assert calls[0] > 16_000


# -- one precomputed answer -----------------------------------------------------------------


def test_static_answers_go_in_groups_too(start: Start, connect: Connect) -> None:
    running = start(Static(precompute_response(200, "text/plain", b"same")))
    peers = [connect(running.address) for _ in range(10)]
    for _ in range(4):
        for peer in peers:
            peer.get("/")
        assert [peer.read().body for peer in peers] == [b"same"] * 10
    assert worker_of(running).requests == 40
