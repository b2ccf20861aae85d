"""What ``Reactor`` promises, on each of the four system interfaces."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import select
import socket
import struct
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
    Event,
    Reactor,
    ReactorError,
)

BOTH = INTEREST_READ | INTEREST_WRITE
# -- readiness ----------------------------------------------------------------------------


def test_nothing_ready_is_an_empty_answer(r, pair):
    r.register(pair[0], 7, INTEREST_READ)
    assert r.poll(0) == []
    assert r.poll(1) == []


def test_data_makes_a_descriptor_readable_until_it_is_read(r, pair):
    a, b = pair
    r.register(a, 7, INTEREST_READ)
    b.send(b"x")
    assert r.poll(5000) == [Event(7, EVENT_READABLE)]
    assert r.poll(5000) == [Event(7, EVENT_READABLE)]
    a.recv(10)
    assert r.poll(0) == []


def test_an_idle_socket_is_writable_when_asked(r, pair):
    r.register(pair[0], 8, INTEREST_WRITE)
    (event,) = r.poll(5000)
    assert event == (8, EVENT_WRITABLE)
    assert event.is_writable()
    assert not event.is_readable()


def test_readable_and_writable_come_as_one_event(r, pair):
    a, b = pair
    r.register(a.fileno(), 3, BOTH)
    b.send(b"x")
    assert r.poll(5000) == [Event(3, EVENT_READABLE | EVENT_WRITABLE)]


def test_a_half_closed_peer_is_readable_and_hung_up_with_its_data_still_there(r, tcp):
    a, b = tcp
    r.register(a, 5, INTEREST_READ)
    b.sendall(b"last words")
    b.shutdown(socket.SHUT_WR)
    select.select([a], [], [], 5)
    flags = 0
    while not flags & EVENT_HUP:  # the FIN may be a moment behind the data
        ((_, flags),) = r.poll(5000)
    assert flags == EVENT_READABLE | EVENT_HUP
    assert a.recv(100) == b"last words"
    assert a.recv(100) == b""


def test_a_reset_is_reported_without_being_asked_for(r, tcp):
    a, b = tcp
    r.register(a, 5, INTEREST_READ)
    b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    b.close()
    (event,) = r.poll(5000)
    assert event.is_error()
    assert event.is_hup()
    r.modify(a, INTEREST_WRITE)
    ((_, flags),) = r.poll(5000)
    assert flags & (EVENT_ERROR | EVENT_HUP)


def test_modify_changes_the_interest_and_keeps_the_token(r, pair):
    a, b = pair
    r.register(a, 5, INTEREST_WRITE)
    r.modify(a, INTEREST_READ)
    assert r.poll(0) == []
    b.send(b"x")
    assert r.poll(5000) == [(5, EVENT_READABLE)]
    r.modify(a, BOTH)
    assert r.poll(5000) == [(5, EVENT_READABLE | EVENT_WRITABLE)]


def test_unregistered_descriptors_are_silent(r, pair):
    a, b = pair
    r.register(a, 5, BOTH)
    r.unregister(a)
    b.send(b"x")
    assert r.poll(0) == []
    r.register(a, 6, INTEREST_READ)
    assert r.poll(5000) == [(6, EVENT_READABLE)]


def test_at_most_max_events_come_at_once_and_none_starves(r):
    pairs = [socket.socketpair() for _ in range(6)]
    try:
        for token, (a, b) in enumerate(pairs):
            r.register(a, token, INTEREST_READ)
            b.send(b"x")
        seen = set()
        for _ in range(12):
            batch = r.poll(5000, max_events=2)
            assert 1 <= len(batch) <= 2
            for token, _flags in batch:
                seen.add(token)
                pairs[token][0].recv(1)
                pairs[token][1].send(b"y")  # ready again at once
        assert seen == set(range(6))
        assert len(r.poll(0, max_events=64)) == 6
    finally:
        for sockets in pairs:
            for s in sockets:
                s.close()


@pytest.mark.parametrize("most", [0, -1])
def test_without_room_for_events_poll_returns_at_once(r, pair, most):
    r.register(pair[0], 1, INTEREST_WRITE)
    assert r.poll(-1, max_events=most) == []


def test_poll_empties_and_fills_the_list_it_is_given(r, pair):
    out = [Event(99, 15)]
    assert r.poll(0, out) == 0
    assert out == []
    r.register(pair[0], 1, INTEREST_WRITE)
    assert r.poll(5000, out) == 1
    assert out == [Event(1, EVENT_WRITABLE)]
    assert r.poll(5000, out, 0) == 0
    assert out == []


def test_a_timeout_longer_than_the_system_counts_is_taken(r, pair):
    r.register(pair[0], 1, INTEREST_WRITE)
    assert r.poll(2**40) == [(1, EVENT_WRITABLE)]


def test_a_fraction_of_a_millisecond_is_waited_for(r, pair):
    assert r._poll_raw(1.5) == []
    r.register(pair[0], 1, INTEREST_WRITE)
    assert r._poll_raw(0.5) == [(1, EVENT_WRITABLE)]


def test_the_raw_poll_gives_plain_pairs(r, pair):
    r.register(pair[0], 2**64 - 2, INTEREST_WRITE)
    assert r._poll_raw(5000) == [(2**64 - 2, EVENT_WRITABLE)]


# -- stale events -------------------------------------------------------------------------


def test_an_event_of_a_closed_descriptor_never_bears_its_successors_token(r):
    """Two are ready; dispatching the first closes the second, whose number is used again."""
    pairs = [socket.socketpair() for _ in range(2)]
    by_token = {1: pairs[0][0], 2: pairs[1][0]}
    try:
        for token, (a, b) in zip(by_token, pairs, strict=True):
            r.register(a, token, INTEREST_READ)
            b.send(b"x")
        batch = r.poll(5000)
        assert sorted(batch) == [(1, EVENT_READABLE), (2, EVENT_READABLE)]
        victim = by_token.pop(batch[1].token)
        number = victim.fileno()
        r.unregister(victim)
        victim.close()
        fresh, peer = socket.socketpair()
        pairs.append((fresh, peer))
        if fresh.fileno() != number:
            os.dup2(fresh.fileno(), number)
            fresh.close()
            fresh = socket.socket(fileno=number)
            pairs.append((fresh, fresh))
        by_token[3] = fresh
        r.register(fresh, 3, INTEREST_READ)
        assert batch[1].token not in by_token
        still = [token for token, _ in r.poll(0)]
        assert still == [batch[0].token]
    finally:
        for sockets in pairs:
            for s in sockets:
                s.close()


def test_unregister_after_close_frees_the_number(r, pair):
    a, b = pair
    number = a.fileno()
    r.register(number, 1, INTEREST_READ)
    a.close()
    assert number in r
    r.unregister(number)
    assert number not in r
    assert r.poll(0) == []
    other = socket.socket(fileno=os.dup2(b.fileno(), number))
    with other:
        r.register(number, 2, INTEREST_WRITE)
        assert [token for token, _ in r.poll(5000)] == [2]
        r.unregister(number)


def test_unregister_copes_with_a_number_that_is_another_file_by_now(r, pair, tmp_path):
    a, _ = pair
    number = a.detach()
    r.register(number, 1, INTEREST_READ)
    with open(tmp_path / "file", "wb") as file:
        os.dup2(file.fileno(), number)
    r.unregister(number)
    os.close(number)
    assert r.registered_count() == 0


def test_a_socket_kept_open_by_a_duplicate_does_not_haunt_the_reactor(pair):
    """epoll goes on reporting it under a number that nobody can remove any more."""
    a, b = pair
    with Reactor() as r:
        twin = a.dup()
        with twin, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            number = a.fileno()
            r.register(number, 1, INTEREST_READ)
            r.register(other, 2, INTEREST_WRITE)
            b.send(b"x")
            a.close()
            r.unregister(number)
            assert [token for token, _ in r.poll(5000)] == [2]
            r.unregister(other)
            assert r.poll(0) == []
            r.wakeup()
            assert r.poll(0) == [(WAKEUP_TOKEN, EVENT_READABLE)]


# -- misuse -------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [WAKEUP_TOKEN, WAKEUP_TOKEN + 1, -1])
def test_tokens_out_of_range_are_refused(r, pair, token):
    with pytest.raises(ReactorError, match="token"):
        r.register(pair[0], token, INTEREST_READ)
    with pytest.raises(ReactorError, match="token"):
        r.arm_oneshot_hup(pair[0], token)
    assert len(r) == 0


@pytest.mark.parametrize("interest", [0, 4, -1])
def test_an_interest_in_nothing_is_refused(r, pair, interest):
    with pytest.raises(ReactorError, match="interest"):
        r.register(pair[0], 1, interest)
    r.register(pair[0], 1, INTEREST_READ)
    with pytest.raises(ReactorError, match="interest"):
        r.modify(pair[0], interest)


def test_registering_twice_is_refused(r, pair):
    r.register(pair[0], 1, INTEREST_READ)
    for register in (r.register, r.register_exclusive):
        with pytest.raises(ReactorError, match="already registered"):
            register(pair[0], 2, INTEREST_READ)


@pytest.mark.parametrize("call", ["modify", "unregister"])
def test_unknown_descriptors_are_refused(r, pair, call):
    arguments = (INTEREST_READ,) if call == "modify" else ()
    for fd in (pair[0], r._wake_fd, -1):
        with pytest.raises(ReactorError, match="not registered"):
            getattr(r, call)(fd, *arguments)


def test_an_argument_error_is_a_value_error_and_a_network_error_without_code(r):
    with pytest.raises(ReactorError) as caught:
        r.unregister(12345)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, NetworkError)
    assert caught.value.code == 0
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert (type(twin), str(twin)) == (ReactorError, str(caught.value))


def test_a_closed_descriptor_cannot_be_registered(r):
    a, b = socket.socketpair()
    number = a.fileno()
    a.close()
    b.close()
    for fd in (a, number):
        with pytest.raises(NetworkError) as caught:
            r.register(fd, 1, INTEREST_READ)
        assert caught.value.errno == errno.EBADF
    assert len(r) == 0


def test_modify_of_a_descriptor_closed_meanwhile_is_the_systems_error(r, pair):
    number = pair[0].fileno()
    r.register(number, 1, INTEREST_READ)
    pair[0].close()
    with pytest.raises(NetworkError) as caught:
        r.modify(number, INTEREST_WRITE)
    assert caught.value.errno == errno.EBADF
    r.unregister(number)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs Linux's epoll")
def test_a_regular_file_is_refused_by_epoll(tmp_path):
    with (
        Reactor() as r,
        open(tmp_path / "file", "wb") as file,
        pytest.raises(NetworkError) as caught,
    ):
        r.register(file, 1, INTEREST_READ)
    assert caught.value.errno == errno.EPERM


# -- counting -----------------------------------------------------------------------------


def test_the_count_leaves_the_wakeup_descriptor_out(r, pair):
    a, b = pair
    assert (len(r), r.registered_count(), bool(r)) == (0, 0, True)
    r.register(a, 1, INTEREST_READ)
    r.register_exclusive(b, 2, INTEREST_READ)
    assert len(r) == 2
    assert a in r
    assert a.fileno() in r
    assert r.is_registered(b)
    assert r._wake_fd not in r
    assert repr(r) == "Reactor(2 registered)"


def test_an_event_unpacks_compares_and_prints():
    token, flags = event = Event(4, EVENT_ERROR | EVENT_HUP)
    assert (token, flags) == (4, 12)
    assert event == Event(4, 12)
    assert event != Event(4, 13)
    assert hash(event) == hash(Event(4, 12))
    assert (event.is_error(), event.is_hup(), event.is_readable()) == (True, True, False)
    assert not event.is_wakeup()
    assert repr(event) == "Event(token=4, flags=12)"


# -- exclusive and one-shot ---------------------------------------------------------------


def test_an_exclusive_listener_reports_connections_and_cannot_be_modified(r):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        r.register_exclusive(listener, 0, INTEREST_READ)
        with pytest.raises(ReactorError, match="exclusively"):
            r.modify(listener, BOTH)
        with pytest.raises(ReactorError, match="exclusively"):
            r.arm_oneshot_hup(listener, 1)
        with socket.create_connection(listener.getsockname()):
            assert r.poll(5000) == [(0, EVENT_READABLE)]
            listener.accept()[0].close()
        r.unregister(listener)
        r.register(listener, 0, INTEREST_READ)
        r.modify(listener, BOTH)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs Linux's epoll")
def test_a_kernel_without_exclusive_wakeups_gets_a_plain_registration(pair, monkeypatch):
    class OldEpoll:
        def __init__(self) -> None:
            self.inner = inner()

        def register(self, fd: int, mask: int) -> None:
            if mask & select.EPOLLEXCLUSIVE:
                raise OSError(errno.EINVAL, "unknown flag")
            self.inner.register(fd, mask)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    inner = select.epoll
    monkeypatch.setattr(select, "epoll", OldEpoll)
    with Reactor() as r:
        r.register_exclusive(pair[0], 1, INTEREST_READ)
        pair[1].send(b"x")
        assert r.poll(5000) == [(1, EVENT_READABLE)]


@pytest.mark.parametrize("registered", [True, False])
def test_the_one_shot_sees_the_peer_leave_once_and_never_the_data(r, tcp, registered):
    a, b = tcp
    if registered:
        r.register(a, 1, BOTH)
    r.arm_oneshot_hup(a, 4)
    b.sendall(b"pipelined")
    select.select([a], [], [], 5)
    assert r.poll(0) == []
    b.shutdown(socket.SHUT_WR)
    (event,) = r.poll(5000)
    assert event.token == 4
    assert event.is_hup()
    assert r.poll(0) == []
    assert len(r) == 1
    r.modify(a, INTEREST_READ)
    assert r.poll(5000) == [(4, EVENT_READABLE | EVENT_HUP)]
    r.arm_oneshot_hup(a, 4)
    r.poll(5000)
    r.unregister(a)
    assert len(r) == 0


def test_a_reset_ends_the_one_shot_too(r, tcp):
    a, b = tcp
    r.arm_oneshot_hup(a, 4)
    b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    b.close()
    (event,) = r.poll(5000)
    assert event.is_hup()
    assert r.poll(0) == []
