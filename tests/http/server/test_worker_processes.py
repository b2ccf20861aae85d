"""Worker processes: started, replaced, drained, and never left behind."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from programs import Begin, Load, is_alive, until_gone, until_refused
from serving import Connect, Peer

from flare.http.server.processes import WorkerStartError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SHARED = {"FLARE_REUSEPORT_WORKERS": "0"}


@pytest.fixture(params=["separate", "shared"])
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    """Both ways of listening."""
    return SHARED if request.param == "shared" else {}


def ask(address: tuple[str, int], target: str = "/") -> str:
    peer = Peer(address)
    try:
        peer.get(target, "Connection: close")
        return peer.read().body.decode()
    finally:
        peer.close()


def connect_to(connect: Connect, address: tuple[str, int], pid: int) -> Peer:
    """A connection that the worker *pid* has."""
    while True:
        # Several at once: an idle worker may be the one that is woken for each single one.
        peers = [connect(address) for _ in range(4)]
        for peer in peers:
            peer.get("/")
        answers = {int(peer.read().body): peer for peer in peers}
        found = answers.get(pid)
        for peer in peers:
            if peer is not found:
                peer.close()
        if found is not None:
            return found


# -- serving --------------------------------------------------------------------------------


def test_all_workers_serve_and_none_is_the_parent(program: Begin, env: dict[str, str]) -> None:
    running = program(env=env, workers=3)
    workers = set(running.await_workers(3))
    with Load(running.address) as load:
        load.until(lambda answers: set(answers) == workers)
    assert not load.failures
    assert running.pid not in workers


def test_a_worker_has_one_listener_a_cpu_and_chance_of_its_own(
    program: Begin, connect: Connect, env: dict[str, str]
) -> None:
    running = program(env=env)
    seen = []
    for pid in running.await_workers(2):
        peer = connect_to(connect, running.address, pid)
        peer.get("/look")
        seen.append(json.loads(peer.read().body))
    one, other = seen
    assert one["listening"] == other["listening"] == 1
    assert one["cpus"] == other["cpus"] == 1
    assert one["random"] != other["random"]
    assert one["ignores_sigint"]


def test_without_pinning_a_worker_may_run_anywhere(program: Begin) -> None:
    running = program(pin=False)
    assert json.loads(ask(running.address, "/look"))["cpus"] == len(os.sched_getaffinity(0))


def test_one_worker_stays_in_the_process(program: Begin) -> None:
    running = program(workers=1, env={"FLARE_WORKER_KIND": "process"})
    assert int(ask(running.address)) == running.pid


def test_one_worker_in_a_process_of_its_own_if_asked_for(program: Begin) -> None:
    running = program(workers=1, kind="process")
    assert int(ask(running.address)) != running.pid
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_the_environment_chooses_threads(program: Begin) -> None:
    running = program(env={"FLARE_WORKER_KIND": "thread"})
    assert int(ask(running.address)) == running.pid
    assert running.await_workers(2) == [running.pid] * 2


def test_beside_another_thread_workers_are_threads_and_the_log_says_why(program: Begin) -> None:
    running = program(close_by_thread=True)
    assert int(ask(running.address)) == running.pid
    running.until("log: the 2 workers are threads .* other threads are alive")
    running.tell()
    assert running.wait() == 0


def test_processes_may_be_forced_beside_a_thread_and_off_the_main_one(program: Begin) -> None:
    running = program(close_by_thread=True, off_main=True, kind="process")
    workers = running.await_workers(2)
    assert int(ask(running.address)) in workers
    running.tell()
    assert running.wait() == 0
    running.until("^returned")
    assert not any(map(is_alive, workers))


# -- deaths ---------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_only_its_own_requests_fail(
    program: Begin, env: dict[str, str]
) -> None:
    running = program(env=env)
    workers = running.await_workers(2)
    with Load(running.address) as load:
        load.until(lambda answers: set(answers) == set(workers))
        os.kill(workers[0], signal.SIGKILL)
        (new,) = set(running.await_workers(3)) - set(workers)
        load.until(lambda answers: answers.get(new, 0) > 50)
    assert {server for server, _ in load.failures} <= {workers[0], 0}
    assert len(load.failures) <= 8
    running.until(f"log: worker . \\(process {workers[0]}\\) died: ended by SIGKILL; replaced in")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert running.lines[-1] == "returned"


def test_a_worker_that_exits_by_itself_is_replaced(program: Begin, connect: Connect) -> None:
    running = program()
    running.await_workers(2)
    peer = connect(running.address)
    peer.get("/die")
    assert peer.is_ended()
    running.until("log: worker . .* died: exit code 7")
    running.await_workers(3)


def test_a_worker_that_keeps_dying_ends_the_server(
    program: Begin, connect: Connect, tmp_path: Any
) -> None:
    marker = tmp_path / "marker"
    running = program(marker=str(marker))
    workers = running.await_workers(2)
    for pid in workers:
        connect_to(connect, running.address, pid).close()
    marker.write_text("")
    os.kill(workers[0], signal.SIGKILL)
    assert running.wait() == 0
    running.until(
        r"^raised NetworkError .*worker . died 5 times in a row, each time within 5 s of its start;"
        r" the last time: RuntimeError: no second time"
    )
    assert len(running.pids()) == 6
    assert not is_alive(workers[1])


def test_a_worker_that_cannot_start_ends_serve_at_once(program: Begin) -> None:
    running = program(fail=True)
    assert running.wait() == 0
    running.until("^raised WorkerStartError .*worker . could not start: RuntimeError: no database")
    assert len(running.pids()) <= 2
    assert not running.pids("stop")


def test_the_error_of_a_start_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(WorkerStartError(1, "ValueError", "bad")))
    assert (error.number, error.kind, error.reason) == (1, "ValueError", "bad")


def test_system_exit_in_a_handler_comes_out_of_serve(program: Begin) -> None:
    running = program()
    workers = running.await_workers(2)
    with suppress(AssertionError, ConnectionError):
        ask(running.address, "/exit")
    assert running.wait() == 3
    assert not any(map(is_alive, workers))


def test_workers_end_with_their_parent(program: Begin, connect: Connect) -> None:
    running = program(slow=0.3)
    workers = running.await_workers(2)
    peer = connect(running.address)
    peer.get("/slow")
    running.until("^inside")
    os.kill(running.pid, signal.SIGKILL)
    assert peer.read().status == 200  # what is begun is finished
    peer.close()
    until_gone(*workers)
    until_refused(running.address)


# -- reload ---------------------------------------------------------------------------------


def test_a_reload_under_load_fails_no_request(program: Begin, env: dict[str, str]) -> None:
    running = program(env=env, patient=True)
    before = set(running.await_workers(2))
    with Load(running.address) as load:
        load.until(lambda answers: set(answers) == before)
        for turn in (1, 2, 3):
            running.signal(signal.SIGHUP)
            new = set(running.await_workers(2 + 2 * turn)[-2:])
            load.until(lambda answers, new=new: all(answers.get(pid, 0) > 20 for pid in new))
            until_gone(*before)
            before = new
    assert not load.failures
    assert len(load.answers) == 8


def test_a_reload_leaves_time_to_what_runs(
    program: Begin, connect: Connect, tmp_path: Path
) -> None:
    go_on = tmp_path / "go on"
    running = program(slow_until=str(go_on), config={"shutdown_timeout_ms": 20_000})
    pid, _ = running.await_workers(2)
    peer, idle = (connect_to(connect, running.address, pid) for _ in range(2))
    peer.get("/slow")
    running.until("^inside")
    running.signal(signal.SIGHUP)
    running.await_workers(4)
    assert idle.is_ended()  # its worker leaves
    go_on.touch()
    reply = peer.read()
    assert (reply.status, reply.get("connection")) == (200, "close")


def test_reloads_in_a_row_end_with_as_many_workers(program: Begin) -> None:
    running = program(env=SHARED)
    running.await_workers(2)
    ask(running.address)
    for _ in range(5):
        running.signal(signal.SIGHUP)
    running.until("^stop", 2)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not any(map(is_alive, running.pids()))


def test_a_reload_that_cannot_start_leaves_the_workers_there_are(
    program: Begin, connect: Connect, tmp_path: Any
) -> None:
    marker = tmp_path / "marker"
    running = program(marker=str(marker))
    workers = running.await_workers(2)
    for pid in workers:
        connect_to(connect, running.address, pid).close()
    marker.write_text("")
    running.signal(signal.SIGHUP)
    running.until("log: .* did not start: RuntimeError: no second time; the reload is given up")
    assert int(ask(running.address)) in workers
    assert len(running.pids()) == 3


def test_sigterm_to_one_worker_replaces_it(program: Begin) -> None:
    running = program(patient=True)
    workers = running.await_workers(2)
    with Load(running.address) as load:
        load.until(lambda answers: set(answers) == set(workers))
        os.kill(workers[0], signal.SIGTERM)
        (new,) = set(running.await_workers(3)) - set(workers)
        load.until(lambda answers: answers.get(new, 0) > 20)
        until_gone(workers[0])
    assert not load.failures


def test_workers_are_replaced_after_so_many_requests(program: Begin) -> None:
    running = program(config={"max_requests": 200, "max_requests_jitter": 50}, patient=True)
    running.await_workers(2)
    with Load(running.address) as load:
        load.until(lambda answers: len(answers) >= 5)
        running.until("^stop", 3)
    assert not load.failures
    assert not [line for line in running.lines if line.startswith("log")]


# -- the end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "says"), [(signal.SIGTERM, "returned"), (signal.SIGINT, "interrupted")]
)
def test_a_signal_drains_all_workers(
    program: Begin,
    connect: Connect,
    env: dict[str, str],
    number: int,
    says: str,
    tmp_path: Path,
) -> None:
    go_on = tmp_path / "go on"
    running = program(env=env, slow_until=str(go_on), config={"shutdown_timeout_ms": 20_000})
    workers = running.await_workers(2)
    idle = [connect_to(connect, running.address, pid) for pid in workers]
    busy = [connect_to(connect, running.address, pid) for pid in workers]
    for peer in busy:
        peer.get("/slow")
    running.until("^inside", 2)
    os.killpg(running.pid, number) if number == signal.SIGINT else running.signal(number)
    assert all(peer.is_ended() for peer in idle)
    go_on.touch()
    for peer in busy:
        reply = peer.read()
        assert (reply.status, reply.get("connection")) == (200, "close")
        peer.close()
    assert running.wait() == 0
    assert running.lines[-1] == says
    assert sorted(running.pids("stop")) == sorted(workers)


def test_a_drain_under_load_loses_no_request_that_was_accepted(
    program: Begin, env: dict[str, str]
) -> None:
    running = program(env=env, patient=True)
    workers = set(running.await_workers(2))
    with Load(running.address) as load:
        load.until(lambda answers: set(answers) == workers)
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
    assert not load.lost


def test_a_second_signal_cuts_the_drain_short(program: Begin, connect: Connect) -> None:
    running = program(slow=60, config={"shutdown_timeout_ms": 600_000})
    running.await_workers(2)
    peer = connect(running.address)
    peer.get("/slow")
    running.until("^inside")
    running.signal(signal.SIGTERM)
    until_refused(running.address)
    running.signal(signal.SIGTERM)
    assert peer.is_ended()
    assert running.wait() == 0


def test_workers_that_are_still_starting_do_not_hold_up_the_end(program: Begin) -> None:
    running = program(start_seconds=60, config={"shutdown_timeout_ms": 600_000})
    workers = running.await_workers(2)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert running.lines[-1] == "returned"
    assert not any(map(is_alive, workers))


def test_a_worker_that_does_not_end_is_killed(program: Begin, connect: Connect) -> None:
    running = program(config={"shutdown_timeout_ms": 100, "dispatch": "inline"})
    workers = running.await_workers(2)
    peer = connect_to(connect, running.address, workers[0])
    peer.get("/stuck")
    running.until("^inside")
    os.kill(workers[0], signal.SIGSTOP)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    running.until(f"log: worker process {workers[0]} does not end, killed")
    assert not any(map(is_alive, workers))


@pytest.mark.parametrize("how", ["thread", "signal"])
def test_drain_reports_the_connections_of_all_workers(
    program: Begin, connect: Connect, how: str
) -> None:
    kind = "process"
    if how == "thread":
        running = program(drain_by_thread=10_000, kind=kind)
    else:
        running = program(drain_on_usr1=10_000, kind=kind)
    workers = running.await_workers(2)
    peers = [connect_to(connect, running.address, pid) for pid in (*workers, *workers, workers[0])]
    running.tell() if how == "thread" else running.signal(signal.SIGUSR1)
    assert all(peer.is_ended() for peer in peers)
    running.until(r"^ShutdownReport\(drained=5, timed_out=0, in_flight_at_deadline=0, crashed=0\)")
    assert running.wait() == 0


def test_drain_reports_what_was_cut_off_and_who_died(program: Begin, connect: Connect) -> None:
    running = program(drain_by_thread=300, kind="process")
    workers = running.await_workers(2)
    half, lost = (connect_to(connect, running.address, pid) for pid in workers)
    idle = connect_to(connect, running.address, workers[0])
    half.send(b"GET / HT")
    lost.send(b"GET / HT")
    os.kill(workers[1], signal.SIGSTOP)  # so that it has not ended by itself
    running.tell()
    assert idle.is_ended()
    os.kill(workers[1], signal.SIGKILL)
    running.until(r"^ShutdownReport\(drained=1, timed_out=1, in_flight_at_deadline=1, crashed=1\)")
    assert running.wait() == 0


def test_a_handler_may_close_the_server_but_not_drain_it(program: Begin, connect: Connect) -> None:
    running = program()
    workers = running.await_workers(2)
    for pid in workers:
        connect_to(connect, running.address, pid).close()
    assert "ValidationError" in ask(running.address, "/drain")
    with suppress(AssertionError, ConnectionError):
        ask(running.address, "/close")
    assert running.wait() == 0
    assert running.lines[-1] == "returned"
    assert sorted(running.pids("stop")) == sorted(workers)


def test_hooks_are_called_once_for_each_worker_thread(program: Begin) -> None:
    running = program(env={"FLARE_WORKER_KIND": "thread"}, workers=3)
    ask(running.address)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert running.pids() == running.pids("stop") == [running.pid] * 3
