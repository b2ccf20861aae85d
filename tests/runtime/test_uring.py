"""The sockets and listeners of ``UringReactor``, with a ring of usual size and a tiny one.

What it shares with every reactor is in ``test_reactor.py``.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flare.errors import NetworkError
from flare.runtime import (
    EVENT_ERROR,
    EVENT_HUP,
    EVENT_READABLE,
    EVENT_WRITABLE,
    INTEREST_READ,
    INTEREST_WRITE,
    WAKEUP_TOKEN,
    _ring,
    uring,
)
from flare.runtime.uring import UringReactor, is_bufring_available

pytestmark = pytest.mark.skipif(
    not is_bufring_available(), reason="needs a Linux kernel with provided buffers for io_uring"
)

PATIENCE_MS = 5000
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(params=["usual", "tiny", "old"])
def r(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[UringReactor]:
    """Where everything is tiny, queues overflow and buffers run out all the time. An old kernel
    sets no limit to a receive."""
    if request.param == "tiny":
        monkeypatch.setattr(_ring, "_ENTRIES", 2)
        monkeypatch.setattr(_ring, "_BUFFERS", 2)
    elif request.param == "old":
        monkeypatch.setattr(uring.UringPoller, "_find_limit", lambda _: 0)
    with UringReactor(write_timeout_ms=PATIENCE_MS) as reactor:
        yield reactor


def connected(r: UringReactor, token: int = 1, **buffers: int) -> tuple[Any, socket.socket]:
    """A socket of *r*, watched for reading, and its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.socket()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers.get("receive", 1 << 17))
        theirs.connect(listener.getsockname())
        theirs.settimeout(PATIENCE_MS / 1000)
        accepted, _ = listener.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers.get("send", 1 << 17))
    ours = r.socket(accepted)
    r.register(ours, token, INTEREST_READ)
    return ours, theirs


@pytest.fixture
def pair(r: UringReactor) -> Iterator[tuple[Any, socket.socket]]:
    ours, theirs = connected(r, receive=4096, send=4096)
    with theirs:
        yield ours, theirs
        if not ours.closed:
            r.unregister(ours)
            ours.close()


def until(r: UringReactor, done: Callable[[], Any], events: list[Any] | None = None) -> None:
    """Turn *r*'s loop until *done*; what it reports is added to *events*."""
    give_up_at = time.monotonic() + PATIENCE_MS / 1000
    while not done():
        assert time.monotonic() < give_up_at
        found = r.poll(10)
        if events is not None:
            events += found


def flags_of(r: UringReactor) -> int:
    """The flags of the one event that comes."""
    events: list[Any] = []
    until(r, lambda: events, events)
    ((token, flags),) = events
    assert token == 1
    return flags


def most_ahead(r: UringReactor) -> int:
    """What is received and not read, at most: too little to change anything, and one receive."""
    return 12 * 1024 + (r._uring._ahead_bytes or _ring._BUFFERS * _ring.BUFFER_BYTES)


def take(sock: socket.socket, size: int) -> bytes:
    pieces = []
    while size:
        piece = sock.recv(size)
        assert piece
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


# -- receiving ----------------------------------------------------------------------------


def test_what_came_is_received_then_nothing_then_the_end(r, pair):
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        ours.recv(10)
    theirs.send(b"hello")
    assert flags_of(r) == EVENT_READABLE
    assert ours.recv(10) == b"hello"
    assert r.poll(0) == []
    theirs.send(b"bye")
    theirs.shutdown(socket.SHUT_WR)
    seen = b""
    while not seen.endswith(b"bye"):
        assert flags_of(r) & EVENT_READABLE
        seen += ours.recv(10)
    assert flags_of(r) == EVENT_READABLE | EVENT_HUP
    assert (ours.recv(10), ours.recv(10)) == (b"", b"")


def test_recv_finds_what_came_after_the_last_event(r, pair):
    ours, theirs = pair
    r.poll(0)
    theirs.send(b"now")
    found = b""
    while not found:
        try:
            found = ours.recv(10)
        except BlockingIOError:
            continue
    assert found == b"now"
    assert r.poll(0) == []


def test_unread_bytes_are_reported_until_they_are_read(r, pair):
    ours, theirs = pair
    theirs.send(b"abcdef")
    for expected in (b"ab", b"cd", b"ef"):
        assert flags_of(r) == EVENT_READABLE
        assert ours.recv(2) == expected
    assert r.poll(0) == []


def test_more_than_a_buffer_comes_in_order(r, pair):
    ours, theirs = pair
    sent = random.Random(1).randbytes(300_000)
    sender = threading.Thread(target=theirs.sendall, args=(sent,))
    sender.start()
    got = bytearray()
    while len(got) < len(sent):
        r.poll(1000)
        try:
            got += ours.recv(50_000)
        except BlockingIOError:
            continue
    sender.join()
    assert got == sent


def test_a_reset_is_an_event_and_an_error(r, pair):
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    theirs.close()
    assert flags_of(r) == EVENT_READABLE | EVENT_HUP | EVENT_ERROR
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            ours.recv(1)
    with pytest.raises(ConnectionResetError):
        ours.send(b"x")


def test_a_peer_that_nobody_reads_from_is_held_back(r, pair):
    ours, theirs = pair
    r.modify(ours, INTEREST_WRITE)
    theirs.setblocking(False)
    sent = 0
    give_up_at = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < give_up_at:
        r.poll(0)
        try:
            sent += theirs.send(bytes(65536))
        except BlockingIOError:
            r.poll(10)
            if not select.select([], [theirs], [], 0.1)[1]:
                break
    else:
        pytest.fail("it took everything")
    assert len(ours.data) + ours._unread <= most_ahead(r)
    r.modify(ours, INTEREST_READ)
    theirs.setblocking(True)
    theirs.shutdown(socket.SHUT_WR)
    got = 0
    while True:
        r.poll(100)
        try:
            piece = ours.recv(1 << 20)
        except BlockingIOError:
            continue
        if not piece:
            break
        got += len(piece)
    assert got == sent


def test_once_more_came_than_was_read_the_rest_stays_in_the_kernel(r, pair):
    ours, theirs = pair
    theirs.setblocking(False)
    sent = got = 0
    try:
        while True:
            sent += theirs.send(bytes(65536))
            r.poll(0)
    except BlockingIOError:
        pass
    until(r, lambda: not ours._receiving)
    while got < sent:
        assert flags_of(r) == EVENT_READABLE
        got += len(ours.recv(1000))
        assert len(ours.data) + ours._unread <= most_ahead(r)
    theirs.send(b"little")
    assert flags_of(r) == EVENT_READABLE
    assert ours.recv(100) == b"little"
    assert ours._receiving  # ahead again
    assert r.poll(0) == []


def test_in_either_way_to_receive_the_end_is_seen(r, pair):
    ours, theirs = pair
    sender = threading.Thread(target=lambda: (theirs.sendall(bytes(500_000)), theirs.close()))
    sender.start()
    got = 0
    while True:
        flags_of(r)
        piece = ours.recv(5000)
        if not piece:
            break
        got += len(piece)
    sender.join()
    assert got == 500_000
    assert flags_of(r) & EVENT_HUP


def test_buffers_that_run_out_lose_nothing(r):
    pairs = [connected(r, token) for token in range(50)]
    sent = [random.Random(token).randbytes(150_000) for token in range(50)]
    senders = [
        threading.Thread(target=theirs.sendall, args=(data,))
        for (_, theirs), data in zip(pairs, sent, strict=True)
    ]
    for sender in senders:
        sender.start()
    got = [bytearray() for _ in pairs]
    give_up_at = time.monotonic() + 20
    while sum(map(len, got)) < sum(map(len, sent)):
        assert time.monotonic() < give_up_at
        for token, _ in r.poll(1000, max_events=7):
            got[token] += pairs[token][0].recv(8192)
    for sender in senders:
        sender.join()
    assert got == sent
    for ours, theirs in pairs:
        r.unregister(ours)
        ours.close()
        theirs.close()


def test_the_one_shot_sees_a_hangup_behind_unread_data(r, pair):
    ours, theirs = pair
    theirs.setblocking(False)
    r.arm_oneshot_hup(ours, 1)
    while ours._receiving or not ours._unread:  # until so much is unread that it receives no more
        assert r.poll(1) == []
        try:
            theirs.send(bytes(4096))
        except BlockingIOError:
            pass
    theirs.shutdown(socket.SHUT_WR)
    assert flags_of(r) & EVENT_HUP
    assert r.poll(20) == []


def test_the_one_shot_is_fired_once_for_a_reset_that_two_things_find(r, pair):
    ours, theirs = pair
    r.arm_oneshot_hup(ours, 1)
    r.poll(0)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    theirs.close()
    ours.send(b"x")  # fails in the same turn that the receive ends in
    assert flags_of(r) == EVENT_HUP | EVENT_ERROR
    assert [r.poll(0) for _ in range(5)] == [[]] * 5


def test_a_wakeup_is_reported_in_its_turn(r):
    pairs = [connected(r, token) for token in range(4)]
    r.poll(0)
    for _, theirs in pairs[:2]:
        theirs.send(b"x")
    pairs[2][1].close()
    r.wakeup()
    pairs[3][1].send(b"x")
    events: list[Any] = []
    until(r, lambda: {2, 3} <= {event.token for event in events}, events)
    told = [event.token for event in events]
    assert told.index(WAKEUP_TOKEN) < told.index(3)
    if _ring._BUFFERS > 2:
        assert told.index(2) < told.index(WAKEUP_TOKEN)
    for ours, theirs in pairs:
        r.unregister(ours)
        ours.close()
        theirs.close()


def test_a_flood_of_data_does_not_keep_what_else_there_is_to_tell(r):
    busy = [connected(r, token) for token in range(1, 9)]
    ended, peer = connected(r, 9)
    r.poll(0)
    peer.close()
    seen: set[int] = set()
    give_up_at = time.monotonic() + PATIENCE_MS / 1000
    while 9 not in seen:
        assert time.monotonic() < give_up_at
        for ours, theirs in busy:
            if not ours.data:
                theirs.send(b"x")
        for token, _ in r.poll(0, max_events=4):
            seen.add(token)
            if token != 9:
                busy[token - 1][0].recv(100)
    for ours, theirs in (*busy, (ended, peer)):
        r.unregister(ours)
        ours.close()
        theirs.close()


# -- sending ------------------------------------------------------------------------------


def test_sends_of_one_turn_go_in_order(r, pair):
    ours, theirs = pair
    assert [ours.send(b"one,"), ours.send(b"two,"), ours.sendmsg([b"three,", b"four"])] == [
        4,
        4,
        10,
    ]
    r.poll(0)
    assert take(theirs, 18) == b"one,two,three,four"


def test_any_bytes_like_is_sent(r, pair):
    ours, theirs = pair
    for data in (bytearray(b"ab"), memoryview(b"cd"), b"ef"):
        assert ours.send(data) == 2
    r.poll(0)
    assert take(theirs, 6) == b"abcdef"


@pytest.mark.parametrize("seed", range(3))
def test_sends_of_any_size_to_a_slow_reader_arrive_whole_and_in_order(r, pair, seed):
    ours, theirs = pair
    rng = random.Random(seed)
    data = rng.randbytes(400_000)
    reader = Reader(theirs, 100, 5000, 50_000)
    at = 0
    while at < len(data):
        piece = data[at : at + rng.choice((1, 700, 9000, 40_000))]
        try:
            if rng.random() < 0.5:
                at += ours.send(piece)
            else:
                at += ours.sendmsg([piece[:300], memoryview(piece)[300:]])
        except BlockingIOError:
            r.modify(ours, INTEREST_WRITE)
            assert flags_of(r) == EVENT_WRITABLE
            r.modify(ours, INTEREST_READ)
        if rng.random() < 0.3:
            r.poll(0)
    r.unregister(ours)
    ours.close()
    until(r, lambda: not reader.is_alive())
    assert reader.got == data


def fill(r: UringReactor, ours: Any) -> bytes:
    """Send small pieces until no more is taken; what was taken."""
    taken = b""
    number = 0
    while True:
        piece = b"%08d" % number * 100
        try:
            taken += piece[: ours.send(piece)]
        except BlockingIOError:
            return taken
        number += 1
        r.poll(0)


def test_what_was_taken_is_sent_when_there_is_room_and_only_then_more(r, pair):
    ours, theirs = pair
    taken = fill(r, ours)
    with pytest.raises(BlockingIOError):
        ours.sendmsg([b"x", bytes(70_000)])
    r.modify(ours, INTEREST_WRITE)
    assert r.poll(20) == []
    got = bytearray()
    while not r.poll(0):
        got += theirs.recv(65536)
    ours.send(b"more")
    r.poll(0)
    got += take(theirs, len(taken) + 4 - len(got))
    assert got == taken + b"more"


def test_a_half_closed_peer_that_does_not_read_costs_no_events(r, pair):
    ours, theirs = pair
    theirs.shutdown(socket.SHUT_WR)
    assert flags_of(r) == EVENT_READABLE | EVENT_HUP
    fill(r, ours)
    r.modify(ours, INTEREST_WRITE)
    turns = r._uring.ring.batch
    assert r.poll(100) == []
    assert r._uring.ring.batch - turns < 10


def test_a_peer_that_takes_nothing_for_too_long_breaks_the_socket():
    with UringReactor(write_timeout_ms=50) as r:
        ours, theirs = connected(r, receive=4096, send=4096)
        with theirs:
            fill(r, ours)
            assert flags_of(r) & EVENT_ERROR
            with pytest.raises(TimeoutError):
                ours.recv(1)
            r.unregister(ours)
            ours.close()


def test_a_peer_that_takes_nothing_does_not_keep_a_closed_socket():
    with UringReactor(write_timeout_ms=50) as r:
        ours, theirs = connected(r, receive=4096, send=4096)
        with theirs:
            fill(r, ours)
            r.unregister(ours)
            ours.close()
            assert r.unsent == 1
            until(r, lambda: not r.unsent)
            r.poll(0)
            assert is_reset(theirs)


def is_reset(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


class Reader(threading.Thread):
    """Reads from *sock* to the end; ``got`` is what came."""

    def __init__(self, sock: socket.socket, *sizes: int) -> None:
        super().__init__()
        self.sock, self.sizes, self.got = sock, sizes or (4096,), bytearray()
        self.start()

    def run(self) -> None:
        rng = random.Random(2)
        while piece := self.sock.recv(rng.choice(self.sizes)):
            self.got += piece


# -- the end of a socket ------------------------------------------------------------------


def test_what_was_sent_before_a_close_arrives_and_then_the_end(r, pair):
    ours, theirs = pair
    ours.send(b"last words")
    r.unregister(ours)
    ours.close()
    ours.close()
    assert ours.fileno() == -1
    r.poll(0)
    assert take(theirs, 10) == b"last words"
    assert theirs.recv(1) == b""


def test_what_a_full_buffer_did_not_take_still_arrives_after_a_close(r, pair):
    ours, theirs = pair
    taken = fill(r, ours)
    r.unregister(ours)
    ours.close()
    assert r.unsent == 1
    reader = Reader(theirs)
    until(r, lambda: not reader.is_alive())
    assert r.unsent == 0
    assert reader.got == taken


def test_a_socket_that_is_to_be_reset_does_not_wait(r, pair):
    ours, theirs = pair
    fill(r, ours)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    r.unregister(ours)
    ours.close()
    r.poll(0)
    assert r.unsent == 0
    assert is_reset(theirs)


@pytest.mark.parametrize("full", [False, True])
def test_a_half_close_comes_after_what_was_sent(r, pair, full):
    ours, theirs = pair
    taken = fill(r, ours) if full else b"all"
    if not full:
        ours.send(taken)
    ours.shutdown(socket.SHUT_WR)
    reader = Reader(theirs)
    until(r, lambda: not reader.is_alive())
    assert reader.got == taken
    theirs.send(b"still heard")
    assert flags_of(r) & EVENT_READABLE
    assert ours.recv(20) == b"still heard"


def test_data_of_a_closed_socket_gives_its_buffers_back(r):
    for _ in range(20):
        ours, theirs = connected(r)
        with theirs:
            theirs.sendall(bytes(50_000))
            r.poll(0)
            r.unregister(ours)
            ours.close()
            r.poll(0)
    ours, theirs = connected(r)
    with theirs:
        theirs.send(b"x")
        assert flags_of(r) == EVENT_READABLE
        r.unregister(ours)
        ours.close()


def test_a_reactor_closed_before_its_sockets_leaves_them_closable():
    r = UringReactor()
    ours, theirs = connected(r)
    with theirs:
        ours.send(b"sent")
        r.close()
        assert take(theirs, 4) == b"sent"
        ours.close()
        assert theirs.recv(1) == b""
        with pytest.raises(NetworkError):
            r.socket(theirs)


# -- threads ------------------------------------------------------------------------------


def in_thread(call: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(10)
    return found[0]


def test_requests_outlive_the_thread_that_made_them(r, pair):
    ours, theirs = pair
    assert in_thread(lambda: r.poll(0)) == []
    for number in range(3):
        theirs.send(b"%d" % number)
        assert flags_of(r) == EVENT_READABLE
        assert ours.recv(9) == b"%d" % number
        theirs.send(b"more")
        assert in_thread(lambda: flags_of(r)) == EVENT_READABLE
        assert ours.recv(9) == b"more"
    r.wakeup()
    events: list[Any] = []
    until(r, lambda: any(event.is_wakeup() for event in events), events)


def test_requests_of_a_thread_that_is_busy_complete(r, pair):
    ours, theirs = pair
    polled, end = threading.Event(), threading.Event()

    def lead_and_leave() -> None:
        r.poll(0)
        polled.set()
        end.wait(10)

    before = threading.Thread(target=lead_and_leave)
    before.start()
    polled.wait(5)
    for _ in range(3):
        theirs.send(b"x")
        assert flags_of(r) == EVENT_READABLE
        assert ours.recv(9) == b"x"
    assert ours.epoch == r._uring.epoch  # it has moved
    end.set()
    before.join()


def test_recv_finds_what_another_thread_has_to_receive(r):
    """That thread has other things to do, and the kernel waits for it."""
    pairs = [connected(r, token) for token in range(50)]
    polled, end = threading.Event(), threading.Event()

    def lead_and_leave() -> None:
        r.poll(0)
        polled.set()
        end.wait(10)

    before = threading.Thread(target=lead_and_leave)
    before.start()
    polled.wait(5)
    for turn in range(3):  # the receives are that thread's, then to be cancelled, then ours
        for ours, theirs in pairs:
            theirs.send(b"%d" % turn)
            assert ours.recv(10) == b"%d" % turn
            with pytest.raises(BlockingIOError):
                ours.recv(10)
    for ours, theirs in pairs:
        theirs.close()
        assert ours.recv(10) == b""
        r.unregister(ours)
        ours.close()
    end.set()
    before.join()


# -- listeners ----------------------------------------------------------------------------


@pytest.fixture(params=["ahead", "lazy"])
def listener(r: UringReactor, request: pytest.FixtureRequest) -> Iterator[Any]:
    sock = socket.create_server(("127.0.0.1", 0), backlog=64)
    sock.setblocking(False)
    listener = r.listener(sock, lazy=request.param == "lazy")
    r.register(listener, 1, INTEREST_READ)
    yield listener
    if listener in r:
        r.unregister(listener)
    listener.close()


def accept_all(r: UringReactor, listener: Any, count: int) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    while len(found) < count:
        assert flags_of(r) == EVENT_READABLE
        try:
            while True:
                found.append(listener.accept())
        except BlockingIOError:
            pass
    return found


def test_connections_are_accepted_with_their_peers_addresses(r, listener):
    address = listener._sock.getsockname()
    clients = [socket.create_connection(address) for _ in range(10)]
    found = accept_all(r, listener, 10)
    assert sorted(peer for _, peer in found) == sorted(c.getsockname() for c in clients)
    assert r.poll(0) == []
    for sock, _ in found:
        assert not os.get_inheritable(sock.fileno())
        sock.close()
    for client in clients:
        client.close()


def test_those_accepted_ahead_are_not_lost_when_that_stops(r, listener):
    address = listener._sock.getsockname()
    r.poll(0)
    clients = [socket.create_connection(address) for _ in range(5)]
    r.poll(0)
    ahead = r.stop_accepting(listener)
    assert ahead == (0 if listener._lazy else 5)
    clients += [socket.create_connection(address) for _ in range(2)]
    assert r.stop_accepting(listener) == ahead
    found = [listener.accept()[0] for _ in range(7)]
    with pytest.raises(BlockingIOError):
        listener.accept()
    r.unregister(listener)
    r.register(listener, 1, INTEREST_READ)
    clients.append(socket.create_connection(address))
    found += [sock for sock, _ in accept_all(r, listener, 1)]
    for sock in (*found, *clients):
        sock.close()


def test_a_listener_closed_with_connections_nobody_took_closes_them(r, listener):
    client = socket.create_connection(listener._sock.getsockname())
    with client:
        assert flags_of(r) == EVENT_READABLE
        r.unregister(listener)
        listener.close()
        client.settimeout(5)
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass


def test_a_shortage_of_descriptors_is_an_error_and_then_over(r, listener):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket()
    most = max(map(int, os.listdir("/proc/self/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    fillers = []
    try:
        while True:
            try:
                fillers.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        client.connect(listener._sock.getsockname())
        assert flags_of(r) == EVENT_READABLE
        with pytest.raises(OSError) as caught:
            listener.accept()
        assert caught.value.errno == errno.EMFILE
        r.unregister(listener)
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    r.register(listener, 1, INTEREST_READ)
    ((sock, _),) = accept_all(r, listener, 1)
    sock.close()
    client.close()


def test_a_connection_reset_while_it_waited_is_an_error_or_a_dead_socket(r, listener):
    client = socket.create_connection(listener._sock.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert flags_of(r) == EVENT_READABLE
    client.close()
    try:
        sock, _ = listener.accept()
    except ConnectionAbortedError:
        return
    with pytest.raises(ConnectionResetError):
        sock.inner.recv(1)
    sock.close()


# -- nothing is left ----------------------------------------------------------------------


def test_ten_thousand_exchanges_and_a_thousand_connections_leave_nothing(r, pair):
    ours, theirs = pair
    poller = r._uring

    def exchanges(count: int) -> None:
        for _ in range(count):
            theirs.send(b"question")
            r.poll(1000)
            ours.send(ours.recv(100)[::-1])
            r.poll(0)
            assert theirs.recv(100) == b"noitseuq"

    def connections(count: int) -> None:
        for _ in range(count):
            sock, peer = connected(r, 2)
            sock.send(b"x")
            peer.close()
            r.unregister(sock)
            sock.close()
            r.poll(0)

    def held() -> dict[str, int]:
        sizes = {
            name: len(value) for name, value in vars(poller).items() if hasattr(value, "__len__")
        }
        return sizes | {"descriptors": len(os.listdir("/proc/self/fd"))}

    exchanges(100)
    connections(20)
    r.poll(0)
    before, memory = held(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    exchanges(10_000 if poller.ring.limit > 100 else 500)
    connections(1000 if poller.ring.limit > 100 else 50)
    r.poll(0)
    assert held() == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8192  # KiB: the pool once


# -- what is asked for changes while something is on its way ----------------------------------


def listed(r: UringReactor, ours: Any, theirs: socket.socket) -> None:
    """Have what *theirs* sends come in between two polls, as it does when a send looks whether
    all has gone: *ours* will be reported as readable."""
    r.poll(0)  # begins to receive
    r.poll(0)
    theirs.send(b"come")
    for _ in range(1000):
        r._uring.turn(1)
        if ours.data:
            break
    assert ours.data == b"come"


def flags_seen(r: UringReactor, wanted: int) -> int:
    """What is reported in the end, *wanted* or part of it."""
    seen = 0
    for _ in range(50):
        for _, flags in r.poll(20):
            seen |= flags
        if seen & wanted == wanted:
            break
    return seen


def test_both_are_reported_where_writing_is_asked_for_too(
    r: UringReactor, pair: tuple[Any, socket.socket]
) -> None:
    ours, theirs = pair
    listed(r, ours, theirs)
    r.modify(ours, INTEREST_READ | INTEREST_WRITE)
    assert flags_seen(r, EVENT_READABLE) & EVENT_READABLE
    assert ours.recv(100) == b"come"
    assert flags_seen(r, EVENT_WRITABLE) & EVENT_WRITABLE


def test_room_is_reported_where_that_alone_is_asked_for(
    r: UringReactor, pair: tuple[Any, socket.socket]
) -> None:
    ours, theirs = pair
    listed(r, ours, theirs)
    r.modify(ours, INTEREST_WRITE)
    assert flags_seen(r, EVENT_WRITABLE) & EVENT_WRITABLE


def test_the_end_is_reported_where_that_alone_is_asked_for(
    r: UringReactor, pair: tuple[Any, socket.socket]
) -> None:
    ours, theirs = pair
    listed(r, ours, theirs)
    r.arm_oneshot_hup(ours, 1)
    theirs.close()
    for _ in range(20):
        r._uring.turn(1)
    assert flags_seen(r, EVENT_HUP) & EVENT_HUP
