"""Timeouts: what the arguments mean, and the errors that name what ran out."""

from __future__ import annotations

import copy
import pickle

import pytest

from flare.errors import ConnectionTimeout, Timeout, ValidationError
from flare.http.client.connection import _socket_timeout
from flare.http.client.timeouts import CallTimeout, Clock, ConnectTimeout, Timeouts

CLIENT = Timeouts.of(30_000, read_timeout_ms=5_000)


def test_every_limit_is_the_total_unless_given():
    assert Timeouts.of(7) == Timeouts(7, 7, 7, 7, 7)
    assert Timeouts(30_000, 30_000, 5_000, 30_000, 30_000) == CLIENT
    assert Timeouts.of(0, connect_timeout_ms=9) == Timeouts(0, 9, 0, 0, 0)


@pytest.mark.parametrize(
    ("timeout", "timeout_ms", "expected"),
    [
        (None, None, CLIENT),
        (2.5, None, Timeouts.of(2_500)),
        (3, None, Timeouts.of(3_000)),
        (0.0001, None, Timeouts.of(1)),
        (0, None, Timeouts.of(0)),
        (None, 250, Timeouts.of(250)),
        ((3, 27), None, Timeouts(30_000, 3_000, 27_000, 30_000, 30_000)),
        ((3, 60), None, Timeouts(63_000, 3_000, 60_000, 30_000, 30_000)),
        ((3, 0), None, Timeouts(0, 3_000, 0, 30_000, 30_000)),
        ((3, None), None, Timeouts(30_000, 3_000, CLIENT.read, 30_000, 30_000)),
    ],
)
def test_a_call_replaces_the_limits(timeout, timeout_ms, expected):
    assert CLIENT.for_call(timeout, timeout_ms) == expected


@pytest.mark.parametrize(
    ("timeout", "timeout_ms"),
    [
        (1, 1000), (-1, None), (None, -1), (float("nan"), None), (float("inf"), None),
        ("5", None), (True, None), (None, 1.5), (None, True), ((1,), None), ((1, 2, 3), None),
        ((1, -2), None), (None, 2**31), (1e10, None),
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(timeout, timeout_ms):
    with pytest.raises(ValidationError):
        CLIENT.for_call(timeout, timeout_ms)


@pytest.mark.parametrize("phase", ["read", "write", "pool", "total"])
def test_a_timeout_names_phase_and_peer_and_survives_pickling(phase):
    error = CallTimeout(phase, 250, "h:80", "waiting")
    assert isinstance(error, Timeout)
    assert isinstance(error, TimeoutError)
    for each in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert each.phase == phase
        assert phase in str(each)
        assert "h:80" in str(each)
        assert "250 ms" in str(each)


def test_a_connect_timeout_does_too():
    error = pickle.loads(pickle.dumps(ConnectTimeout("h:80", 250)))
    assert isinstance(error, ConnectionTimeout)
    assert error.phase == "connect"
    assert "connect" in str(error)
    assert "h:80" in str(error)


def test_a_clock_cuts_waits_at_the_deadline():
    clock = Clock(Timeouts.of(60_000))
    assert 0 < clock.wait_ms(90_000, "x", "p") <= 60_000
    assert clock.wait_ms(10, "x", "p") == 10
    assert 0 < clock.wait_ms(0, "x", "p") <= 60_000
    clock.end = clock.started - 1
    with pytest.raises(CallTimeout) as caught:
        clock.wait_ms(10, "x", "p")
    assert caught.value.phase == "total"
    clock.lift_total()
    assert clock.wait_ms(0, "x", "p") == 0


@pytest.mark.parametrize(
    ("limit", "waited", "phase"),
    [(1000, 1000, "read"), (1000, 990, "read"), (1000, 300, "total"), (0, 300, "total")],
)
def test_a_wait_the_deadline_cut_short_ran_out_of_the_total(limit, waited, phase):
    clock = Clock(Timeouts.of(1000))
    assert clock.wait_error("read", limit, waited, "p", "x").phase == phase


@pytest.mark.parametrize(
    ("current", "want", "limit", "expected"),
    [
        (0, 30_000, 30_000, 30_000),
        (0, 29_999, 30_000, 30_000),  # set what the next call will want, too
        (30_000, 29_999, 30_000, 30_000),
        (30_000, 29_500, 30_000, 30_000),
        (30_000, 20_000, 30_000, 20_000),
        (20_000, 19_700, 30_000, 20_000),  # within 2 %
        (20_000, 19_000, 30_000, 19_000),
        (20_000, 30_000, 30_000, 30_000),
        (10, 40, 40, 40),  # never shorter than asked for
        (40, 10, 40, 40),  # within 50 ms
        (500, 10, 500, 10),
        (500, 0, 0, 0),
        (0, 0, 0, 0),
        (0, 700, 0, 700),  # only the deadline bounds it
        (700, 690, 0, 700),
    ],
)
def test_a_socket_timeout_is_set_only_where_it_matters(current, want, limit, expected):
    assert _socket_timeout(current, want, limit) == expected
