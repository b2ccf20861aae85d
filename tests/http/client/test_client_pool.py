"""ConnectionPool: what is kept, who waits, and that no slot is ever lost."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare.errors import ConnectionRefused, NetworkError, ValidationError
from flare.http.client.pool import ConnectionPool
from flare.http.client.route import Route
from flare.http.client.timeouts import CallTimeout, Clock, Timeouts

A, B, C = (Route("http", name, 80, None, False) for name in "abc")


class FakeConnection:
    """What the pool sees of a connection."""

    shared = False
    capacity = 1

    def __init__(self) -> None:
        self.leases = 0
        self.generation = 0
        self.idle_since = 0.0
        self.closed = False
        self.stale = False
        self.reusable = True

    def is_stale(self, clock) -> bool:
        return self.stale

    def close(self) -> None:
        self.closed = True
        self.reusable = False

    forget = cancel = close


class Network:
    """Dials fake connections, or fails as told, and remembers them all."""

    def __init__(self) -> None:
        self.made: list[FakeConnection] = []
        self.failing = False

    def dial(self, origin, peer, clock):
        if self.failing:
            raise ConnectionRefused(peer)
        connection = FakeConnection()
        self.made.append(connection)
        return connection

    def open(self) -> int:
        return sum(not each.closed for each in self.made)


@contextmanager
def pooled(**settings):
    network = Network()
    defaults = {"max_idle_per_host": 8, "max_idle_total": 64, "idle_timeout_ms": 90_000,
                "max_connections": 100}  # fmt: skip
    pool = ConnectionPool(network.dial, **{**defaults, **settings})
    yield pool, network
    pool.close()
    assert pool.counts() == (network.open(), 0, 0)


def clock(ms: int = 5000) -> Clock:
    return Clock(Timeouts.of(ms))


def take(pool, origin=A, ms=5000, **kwargs):
    return pool.acquire(origin, f"{origin.host}:80", clock(ms), **kwargs)


def test_the_last_one_given_back_is_the_first_one_lent():
    with pooled() as (pool, network):
        first, second = take(pool), take(pool)
        assert pool.counts() == (2, 0, 0)
        pool.release(A, first)
        pool.release(A, second)
        assert pool.counts() == (0, 2, 0)
        assert take(pool) is second
        assert take(pool) is first
        assert take(pool) not in (first, second)
        for each in network.made:
            pool.discard(each)
        assert pool.counts() == (0, 0, 0)


def test_a_fresh_one_is_asked_for():
    with pooled() as (pool, _):
        first = take(pool)
        pool.release(A, first)
        second = take(pool, fresh=True)
        assert second is not first
        pool.release(A, second)
        assert pool.idle_count() == 2


def test_idle_ones_are_capped_for_an_origin():
    with pooled(max_idle_per_host=2) as (pool, network):
        held = [take(pool) for _ in range(3)]
        for each in held:
            pool.release(A, each)
        assert pool.idle_count() == 2
        assert [each.closed for each in held] == [True, False, False]  # the oldest goes
        assert network.open() == 2


def test_idle_ones_are_capped_in_all():
    with pooled(max_idle_total=2) as (pool, _):
        held = [(origin, take(pool, origin)) for origin in (A, B, C)]
        for origin, each in held:
            pool.release(origin, each)
        assert pool.idle_count() == 2
        assert [each.closed for _, each in held] == [True, False, False]


def test_zero_keeps_none_for_an_origin_and_caps_nothing_in_all():
    with pooled(max_idle_per_host=0) as (pool, network):
        pool.release(A, take(pool))
        assert (pool.idle_count(), network.open()) == (0, 0)
    with pooled(max_idle_total=0, max_idle_per_host=100) as (pool, _):
        for each in [take(pool) for _ in range(70)]:
            pool.release(A, each)
        assert pool.idle_count() == 70


def test_one_that_is_too_old_is_closed():
    with pooled(idle_timeout_ms=60_000) as (pool, _):
        old, young = take(pool), take(pool, B)
        pool.release(A, old)
        pool.release(B, young)
        old.idle_since -= 61
        assert take(pool) is not old
        assert old.closed
        assert take(pool, B) is young


def test_old_ones_of_other_origins_are_swept():
    with pooled(idle_timeout_ms=1000) as (pool, _):
        old = take(pool)
        pool.release(A, old)
        old.idle_since -= 1.1
        pool._next_sweep = 0.0
        take(pool, B)
        assert old.closed
        assert pool.counts() == (1, 0, 0)


def test_zero_keeps_for_ever():
    with pooled(idle_timeout_ms=0) as (pool, _):
        old = take(pool)
        pool.release(A, old)
        old.idle_since -= 1e6
        assert take(pool) is old


def test_only_the_chosen_one_is_looked_at_and_a_dead_one_replaced():
    with pooled() as (pool, _):
        bottom, top = take(pool), take(pool)
        pool.release(A, bottom)
        pool.release(A, top)
        top.stale = True
        assert take(pool) is bottom
        assert top.closed
        assert pool.counts() == (1, 0, 0)


def test_one_not_fit_is_not_kept():
    with pooled() as (pool, _):
        connection = take(pool)
        connection.reusable = False
        pool.release(A, connection)
        assert connection.closed
        assert pool.counts() == (0, 0, 0)


def test_an_idle_one_of_another_origin_makes_room():
    with pooled(max_connections=2) as (pool, network):
        first, second = take(pool, A), take(pool, B)
        pool.release(A, first)
        pool.release(B, second)
        third = take(pool, C)
        assert first.closed
        assert not second.closed
        assert pool.counts() == (1, 1, 0)
        pool.discard(third)
        assert network.open() == 1


def test_a_full_pool_waits_and_gives_up():
    with pooled(max_connections=1) as (pool, _):
        held = take(pool)
        limits = Timeouts.of(20_000, pool_timeout_ms=30)
        with pytest.raises(CallTimeout) as caught:
            pool.acquire(A, "a:80", Clock(limits))
        assert caught.value.phase == "pool"
        assert "a:80" in str(caught.value)
        assert pool.counts() == (1, 0, 0)
        pool.release(A, held)
        assert take(pool) is held


@pytest.mark.parametrize("how", ["release", "discard", "unfit"])
def test_one_who_waits_is_woken(how):
    with pooled(max_connections=1) as (pool, _):
        held = take(pool)
        got = []
        waiter = threading.Thread(target=lambda: got.append(take(pool)))
        waiter.start()
        while pool.counts()[2] == 0:
            pass
        assert "waiting=1" in repr(pool)
        if how == "unfit":
            held.reusable = False
        (pool.discard if how == "discard" else lambda each: pool.release(A, each))(held)
        waiter.join(5)
        assert len(got) == 1
        assert (got[0] is held) == (how == "release")
        assert pool.counts() == (1, 0, 0)


def test_closing_wakes_who_waits_with_an_error():
    with pooled(max_connections=1) as (pool, _):
        held = take(pool)
        errors = []

        def wait():
            try:
                take(pool)
            except NetworkError as error:
                errors.append(str(error))

        waiter = threading.Thread(target=wait)
        waiter.start()
        while pool.counts()[2] == 0:
            pass
        pool.close()
        waiter.join(5)
        assert "closed" in errors[0]
        pool.release(A, held)
        assert held.closed
        assert "closed" in repr(pool)


def test_failed_dialling_costs_no_slot():
    with pooled(max_connections=1) as (pool, network):
        network.failing = True
        for _ in range(5):
            with pytest.raises(ConnectionRefused):
                take(pool)
        network.failing = False
        assert take(pool, ms=100)
        pool.discard(network.made[0])


def test_one_discarded_by_a_finaliser_frees_its_slot_even_for_one_who_waits():
    with pooled(max_connections=1) as (pool, _):
        held = take(pool)
        timer = threading.Timer(0.02, pool.release_later, [A, held, held])
        timer.start()
        assert take(pool) is not held
        timer.join()
        assert held.closed
        assert pool.counts() == (1, 0, 0)


def test_after_a_fork_the_child_starts_empty():
    with pooled(max_connections=2) as (pool, network):
        active, idle = take(pool), take(pool)
        pool.release(A, idle)
        pool._forget_in_child()
        assert pool.counts() == (0, 0, 0)
        assert idle.closed
        pool.release(A, active)  # of the parent's: closed here, counted nowhere
        assert active.closed
        assert pool.counts() == (0, 0, 0)
        assert network.open() == 0


@pytest.mark.parametrize(
    "name", ["max_idle_per_host", "max_idle_total", "idle_timeout_ms", "max_connections"]
)
def test_negative_limits_are_refused(name):
    with pytest.raises(ValidationError, match=name), pooled(**{name: -1}):
        pass


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "fresh", "refuse", "release", "unfit", "discard", "lose", "stale",
                         "age"]),
        st.sampled_from([A, B, C]),
        st.integers(0, 10),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=150)
@given(STEPS, st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))
def test_no_sequence_of_events_loses_a_slot(steps, cap, per_host, total):
    limits = {"max_connections": cap, "max_idle_per_host": per_host, "max_idle_total": total}
    with pooled(**limits, idle_timeout_ms=1000) as (pool, network):
        held = []
        for step, origin, pick in steps:
            if step in ("take", "fresh", "refuse"):
                network.failing = step == "refuse"
                if len(held) < cap:
                    try:
                        held.append((origin, take(pool, origin, fresh=step == "fresh")))
                    except ConnectionRefused:
                        pass
                else:
                    with pytest.raises(CallTimeout):
                        take(pool, origin, ms=1)
            elif step == "age":
                for each in network.made:
                    each.idle_since -= 2
                pool._next_sweep = 0.0
            elif step == "stale":
                for each in network.made[: pick + 1]:
                    each.stale = True
            elif held:
                origin, connection = held.pop(pick % len(held))
                connection.stale = False
                if step == "release":
                    pool.release(origin, connection)
                elif step == "unfit":
                    connection.reusable = False
                    pool.release(origin, connection)
                elif step == "discard":
                    pool.discard(connection)
                else:
                    pool.release_later(origin, connection, connection)
            active, idle, waiting = pool.counts()
            assert (active, waiting) == (len(held), 0)
            assert active + idle == network.open() <= cap
            assert not total or idle <= total
        for origin, connection in held:
            pool.release(origin, connection)
        network.failing = False
        again = [take(pool, C, ms=1000) for _ in range(cap)]
        assert pool.counts() == (cap, 0, 0)
        for each in again:
            pool.discard(each)


def test_no_slot_is_lost_among_threads():
    with pooled(max_connections=3, max_idle_per_host=2, max_idle_total=2) as (pool, network):
        over: list[int] = []

        def work(seed: int) -> None:
            choose = random.Random(seed)
            for _ in range(60):
                origin = choose.choice([A, B, C])
                try:
                    connection = take(pool, origin, ms=choose.choice([1, 50, 5000]))
                except CallTimeout:
                    continue
                if network.open() > 3:
                    over.append(network.open())
                connection.stale = choose.random() < 0.1
                connection.reusable = choose.random() < 0.7
                choose.choice(
                    [
                        pool.discard,
                        lambda c, o=origin: pool.release_later(o, c, c),
                        *[lambda c, o=origin: pool.release(o, c)] * 4,
                    ]
                )(connection)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(20)
        active, idle, waiting = pool.counts()
        assert (active, waiting) == (0, 0)
        assert idle == network.open()
        held = [take(pool, A, ms=1000) for _ in range(3)]
        for each in held:
            pool.discard(each)


class SharedConnection(FakeConnection):
    """One that serves several at a time."""

    shared = True

    def __init__(self, capacity: int = 2) -> None:
        super().__init__()
        self.capacity = capacity

    def close(self) -> None:
        super().close()
        self.capacity = 0

    forget = close

    def cancel(self) -> None:
        """Of a stream, not of the connection."""


S, T = (Route("https", name, 443, None, True) for name in "st")


class MixedNetwork(Network):
    """Dials shared connections on routes that may have them, unless told otherwise."""

    plain = False

    def dial(self, route, peer, clock):
        super().dial(route, peer, clock)
        if route.multiplexed and not self.plain:
            self.made[-1] = SharedConnection()
        return self.made[-1]


@contextmanager
def sharing(**settings):
    network = MixedNetwork()
    defaults = {"max_idle_per_host": 8, "max_idle_total": 64, "idle_timeout_ms": 90_000,
                "max_connections": 100}  # fmt: skip
    pool = ConnectionPool(network.dial, **{**defaults, **settings})
    yield pool, network
    pool.close()
    assert pool.counts() == (network.open(), 0, 0)


def test_a_shared_connection_is_lent_up_to_its_capacity():
    with sharing() as (pool, network):
        first, second = take(pool, S), take(pool, S)
        assert first is second
        assert pool.counts() == (1, 0, 0)
        with pytest.raises(CallTimeout):
            take(pool, S, ms=1)
        assert take(pool, T) is not first
        pool.release(S, first)
        assert take(pool, S) is first
        pool.release(S, first)
        pool.release(S, second)
        assert pool.counts() == (1, 1, 0)
        assert take(pool, S) is first
        assert len(network.made) == 2
        pool.release(S, first)
        pool.release(T, network.made[1])


def test_one_that_takes_no_more_is_replaced_and_closed_by_the_last():
    with sharing() as (pool, _network):
        first, again = take(pool, S), take(pool, S)
        first.capacity = 0
        first.reusable = False
        second = take(pool, S)
        assert second is not first
        pool.release(S, first)
        assert not first.closed
        pool.release(S, again)
        assert first.closed
        assert pool.counts() == (1, 0, 0)
        pool.release(S, second)


def test_who_waits_for_a_stream_gets_the_one_that_becomes_free():
    with sharing() as (pool, _):
        first = take(pool, S)
        take(pool, S)
        got = []
        thread = threading.Thread(target=lambda: got.append(take(pool, S)))
        thread.start()
        while pool.counts()[2] != 1:
            pass
        pool.release(S, first)
        thread.join(10)
        assert got == [first]
        pool.release(S, first)
        pool.release(S, first)


def test_servers_known_to_share_nothing_are_dialled_side_by_side():
    with sharing() as (pool, network):
        network.plain = True
        held = [take(pool, S) for _ in range(3)]
        assert len({id(each) for each in held}) == 3
        for each in held:
            pool.release(S, each)
        assert pool.counts() == (0, 3, 0)


SHARED_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "fresh", "refuse", "plain", "release", "leave", "lose", "stale",
                         "age"]),
        st.sampled_from([A, S, T]),
        st.integers(0, 9),
    ),
    max_size=60,
)  # fmt: skip


@given(steps=SHARED_STEPS, cap=st.integers(1, 3))
def test_no_sequence_of_events_loses_a_shared_slot(steps, cap):
    with sharing(max_connections=cap, max_idle_per_host=2, idle_timeout_ms=1000) as (pool, network):
        held = []
        for step, route, pick in steps:
            if step in ("take", "fresh", "refuse", "plain"):
                network.failing = step == "refuse"
                network.plain = step == "plain"
                try:
                    held.append((route, take(pool, route, ms=1, fresh=step == "fresh")))
                except (ConnectionRefused, CallTimeout):
                    pass
            elif step == "age":
                for each in network.made:
                    each.idle_since -= 2
                pool._next_sweep = 0.0
            elif step == "stale":
                for each in network.made[: pick + 1]:
                    each.stale = True
            elif held:
                route, connection = held.pop(pick % len(held))
                connection.stale = False
                if step == "leave":  # it takes no more, by a GOAWAY
                    connection.capacity = 0
                    connection.reusable = False
                if step == "lose":
                    pool.release_later(route, connection, connection)
                else:
                    pool.release(route, connection)
            active, idle, waiting = pool.counts()
            assert (active, waiting) == (len({id(each) for _, each in held}), 0)
            assert active + idle == network.open() <= cap
            assert not pool._opening
            lent = [each for shared in pool._shared.values() for each in shared]
            assert all(each.leases == sum(c is each for _, c in held) for each in lent)
        for route, connection in held:
            pool.release(route, connection)
        network.failing = network.plain = False
        assert pool.counts()[0] == 0
        again = [take(pool, A, ms=1000) for _ in range(cap)]
        assert pool.counts() == (cap, 0, 0)
        for each in again:
            pool.discard(each)
