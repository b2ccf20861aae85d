"""Which workers a server has, and what it shares with its processes."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from serving import PATIENCE

from flare.errors import ValidationError
from flare.http import ok
from flare.http.server import HttpServer, ServerConfig
from flare.http.server.bell import Bell
from flare.http.server.channel import channel
from flare.http.server.crew import choose_kind
from flare.http.server.listeners import WorkerListeners, bind_all
from flare.http.server.processes import ProcessCrew, _cpus_to_pin
from flare.http.server.scoreboard import CLEAN, Scoreboard
from flare.http.server.stats import Counts, ServerStats
from flare.net import SocketAddr
from flare.runtime.report import ShutdownReport


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLARE_WORKER_KIND", raising=False)


@pytest.mark.parametrize(
    ("count", "asked", "env", "kind"),
    [
        (1, "auto", None, "thread"),
        (0, "auto", "process", "thread"),
        (1, "process", None, "process"),
        (4, "thread", "process", "thread"),
        (4, "process", "thread", "process"),
        (4, "auto", "process", "process"),
        (4, "auto", "thread", "thread"),
    ],
)
def test_the_kind_of_workers(
    monkeypatch: pytest.MonkeyPatch, count: int, asked: str, env: str | None, kind: str
) -> None:
    if env is not None:
        monkeypatch.setenv("FLARE_WORKER_KIND", env)
    assert choose_kind(count, asked) == kind


def test_without_the_lock_workers_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert choose_kind(4, "auto") == "thread"


def test_off_the_main_thread_workers_are_threads(caplog: pytest.LogCaptureFixture) -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(choose_kind(2, "auto")))
    thread.start()
    thread.join(PATIENCE)
    assert found == ["thread"]
    assert "not called on the main thread" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("count", "asked", "env", "field"),
    [
        (257, "auto", None, "num_workers"),
        (2, "fiber", None, "worker_kind"),
        (2, "auto", "fiber", "FLARE_WORKER_KIND"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    monkeypatch: pytest.MonkeyPatch, count: int, asked: str, env: str | None, field: str
) -> None:
    if env is not None:
        monkeypatch.setenv("FLARE_WORKER_KIND", env)
    server = HttpServer.bind(SocketAddr.localhost(0))
    with server, pytest.raises(ValidationError) as raised:
        server.serve(lambda _: ok(), count, worker_kind=asked)  # type: ignore[arg-type]
    assert raised.value.field == field


@pytest.mark.parametrize("name", ["max_requests", "max_requests_jitter"])
def test_a_negative_count_of_requests_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        ServerConfig(**{name: -1}).validate()


@pytest.mark.parametrize(
    ("quota", "cpus"), [(None, [2, 5]), (2.0, [2, 5]), (4.0, [2, 5]), (1.5, [])]
)
def test_workers_are_pinned_within_the_mask_and_not_under_a_smaller_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: list[int]
) -> None:
    monkeypatch.setattr("flare.http.server.processes.usable_cpus", lambda: [2, 5])
    monkeypatch.setattr("flare.http.server.processes.cpu_quota", lambda: quota)
    assert _cpus_to_pin() == cpus


def test_a_hook_that_raises_at_the_start_comes_out_of_serve() -> None:
    def fail() -> None:
        raise LookupError("no database")

    stopped: list[int] = []
    config = ServerConfig(on_worker_start=fail, on_worker_stop=lambda: stopped.append(1))
    server = HttpServer.bind(SocketAddr.localhost(0), config)
    with server, pytest.raises(LookupError, match="no database"):
        server.serve(lambda _: ok())
    assert not stopped


def test_a_hook_that_raises_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise LookupError("no goodbye")

    server = HttpServer.bind(SocketAddr.localhost(0), ServerConfig(on_worker_stop=fail))
    server.config.on_worker_start = server.close
    server.serve(lambda _: ok())
    assert "on_worker_stop raised LookupError: no goodbye" in caplog.text


def test_the_lines_of_a_scoreboard_are_apart() -> None:
    board = Scoreboard(3)
    first, second, third = board.lines
    second.publish(Counts(connections=5, requests=7))
    second.report = ShutdownReport(1, 2, 3)
    second.state = CLEAN
    second.errors[4] = 9
    assert (second.live, second.counts.requests, second.state) == (5, 7, CLEAN)
    assert second.report == ShutdownReport(1, 2, 3)
    for other in (first, third):
        assert (other.live, other.counts, other.state) == (0, Counts(), 0)
        assert not any(other.errors)
    second.clear()
    assert (second.live, second.report) == (0, ShutdownReport())
    assert not any(second.errors)
    board.close()


def test_the_counts_of_those_gone_stay_in_the_sum() -> None:
    board = Scoreboard(2)
    first, second = board.lines
    first.publish(Counts(*range(1, 9)))
    first.errors[4] = 2
    second.publish(Counts(*range(10, 18)))
    second.errors[4] = second.errors[103] = 1
    before = board.stats()
    assert before == ServerStats(11, 17, 19, 13, 21, 15, 23, 25, {404: 3, 503: 1})
    first.state = CLEAN
    board.settle(first)
    assert first.state == CLEAN
    # What was of the moment is gone; what counts the past is not.
    after = ServerStats(10, 17, 19, 11, 21, 12, 23, 25, {404: 3, 503: 1})
    assert board.stats() == after
    first.clear()
    board.settle(first)
    assert board.stats() == after
    board.close()
    with pytest.raises(ValueError, match="released"):
        board.stats()


def test_a_channel_carries_messages_both_ways_and_its_end() -> None:
    ours, theirs = channel()
    assert ours.hear() == []
    theirs.say("ready")
    theirs.say("failed", {"text": "é\n"})
    assert ours.hear() == [("ready", None), ("failed", {"text": "é\n"})]
    ours.say("drain", 5)
    assert theirs.hear() == [("drain", 5)]
    theirs.say("last")
    theirs.close()
    assert ours.hear() == [("last", None)]
    assert ours.ended
    ours.say("nobody hears")
    ours.close()
    ours.close()


def test_a_bell_rings_across_threads_and_for_descriptors() -> None:
    bell = Bell()
    ours, theirs = channel()
    bell.wait(0)
    for _ in range(100_000):  # more than fits
        bell.ring()
    bell.wait(None)
    ringer = threading.Timer(0.01, bell.ring)
    ringer.start()
    bell.wait(None)
    ringer.join(PATIENCE)
    bell.watch(ours.fileno())
    theirs.say("hello")
    bell.wait(None)
    bell.unwatch(ours.fileno())
    ours.close()
    theirs.close()
    bell.close()


def test_certificates_read_again_after_the_end_ring_no_bell() -> None:
    bell = Bell()
    config = ServerConfig()
    listeners = WorkerListeners(bind_all([SocketAddr.localhost(0)], 1), 1, backlog=1, own=True)
    crew = ProcessCrew(
        listeners,
        lambda: lambda request: ok(),
        config,
        1,
        False,
        bell,
        lambda process: None,
        lambda: None,
    )
    crew.end(0)
    number = bell.write_fd
    bell.close()
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    if number not in (ours, theirs):  # the system may give it to anything
        os.dup2(theirs, number)
    try:
        crew.renew_tls()
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        for fd in {ours, theirs, number}:
            os.close(fd)
