"""The client benchmarks' own logic: the table, the goals, the worker, the sink. No figures."""

from __future__ import annotations

import http.client
import json
import math
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.apps.common import PLAINTEXT
from benchmarks.client import measure_all
from benchmarks.client_peers import CLIENTS, make_client
from benchmarks.client_worker import Worker
from benchmarks.client_workloads import CLIENT_GOALS, CLIENT_WORKLOADS, ClientBench, WorkerError
from benchmarks.environment import SetupError, require_programs
from benchmarks.processes import Cores
from benchmarks.report import Run, as_json, as_markdown
from benchmarks.results import Results
from flare import Request, Response, Router, ok
from flare.testing import running_server

ROOT = Path(__file__).resolve().parent.parent
HERE = ("flare", "http.client", "urllib3", "httpx", "requests")  # what the tests' own needs bring


def site() -> Router:
    router = Router()
    router.get("/", lambda request: ok(PLAINTEXT))
    router.get("/wrong", lambda request: Response(404))

    def swallow(request: Request) -> Response:
        return ok("ok") if len(request.body) == 5000 else Response(400)

    router.put("/upload", swallow)
    return router


def test_every_goal_is_about_something_that_is_measured() -> None:
    for goal in CLIENT_GOALS:
        workload = CLIENT_WORKLOADS[goal.workload]
        assert goal.metric in {metric.name for metric in workload.metrics}
        assert "flare" in workload.peers
        assert goal.peer is None or goal.peer in workload.peers
        assert math.isfinite(goal.limit)
    assert {goal.workload for goal in CLIENT_GOALS} == set(CLIENT_WORKLOADS)


def test_workloads_name_clients_that_exist() -> None:
    for workload in CLIENT_WORKLOADS.values():
        assert set(workload.peers) <= set(CLIENTS)


@pytest.mark.parametrize("name", HERE)
def test_a_client_gets_saves_and_sends(name: str, tmp_path: Path) -> None:
    for package in CLIENTS[name].packages:
        pytest.importorskip(package, reason=f"pip install {package}")
    with running_server(site()) as server:
        client = make_client(name, f"http://{server.local_addr()}")
        try:
            assert client.get("/") == client.get("/") == PLAINTEXT
            client.save("/", tmp_path / "saved")
            assert (tmp_path / "saved").read_bytes() == PLAINTEXT
            (tmp_path / "large").write_bytes(bytes(5000))
            client.send("/upload", tmp_path / "large")
            with pytest.raises(Exception, match="404"):
                client.get("/wrong")
        finally:
            client.close()


def test_a_worker_carries_out_orders(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(5000))
    answer = PLAINTEXT.decode()
    with running_server(site()) as server:
        worker = Worker("flare", f"http://{server.local_addr()}")
        try:
            for order in (
                {"do": "get", "path": "/", "answer": answer, "count": 3},
                {"do": "save", "path": "/", "target": str(tmp_path / "x"), "size": len(answer)},
                {"do": "send", "path": "/upload", "source": str(tmp_path / "large")},
                {"do": "threads", "path": "/", "answer": answer, "count": 2, "threads": 3,
                 "shared": False},
                {"do": "threads", "path": "/", "answer": answer, "count": 2, "threads": 3,
                 "shared": True},
            ):  # fmt: skip
                figures = worker.do(order)
                assert figures["wall"] > 0
                assert figures["cpu"] >= 0
            if sys.platform.startswith("linux"):
                assert "grown" in worker.do({"do": "memory", "path": "/", "count": 2})
            with pytest.raises(AssertionError):
                worker.do({"do": "get", "path": "/", "answer": "other", "count": 1})
            with pytest.raises(AssertionError):
                worker.do({"do": "save", "path": "/", "target": str(tmp_path / "x"), "size": 1})
        finally:
            worker._client.close()


def test_a_worker_answers_line_by_line_and_says_what_failed() -> None:
    with running_server(site()) as server:
        orders = [
            {"do": "get", "path": "/", "answer": PLAINTEXT.decode(), "count": 1},
            {"do": "get", "path": "/wrong", "answer": "", "count": 1},
        ]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.client_worker", "http.client",
             f"http://{server.local_addr()}"],
            input="".join(json.dumps(order) + "\n" for order in orders),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=30,
            check=True,
        )  # fmt: skip
    first, second = map(json.loads, done.stdout.splitlines())
    assert set(first) == {"wall", "cpu"}
    assert "expected 200, got 404" in second["error"]


def test_the_sink_answers_when_the_last_byte_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sink = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.client_sink", "--port", str(port)], cwd=ROOT
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        for size in (0, 10, 3_000_000):
            connection.request("PUT", "/", bytes(size))
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"ok")
        connection.close()
    finally:
        sink.kill()
        sink.wait()


def test_the_report_names_clients_and_their_goals() -> None:
    results = Results()
    results.add("get", "flare", 1, {"rate": 100.0, "per_cpu": 50.0})
    results.add("get", "requests", 1, {"rate": 10.0, "per_cpu": 5.0})
    titles = {peer.name: peer.title for peer in CLIENTS.values()}
    run = Run({"commit": "abc"}, [CLIENT_WORKLOADS["get"]], results, titles, CLIENT_GOALS)
    text = as_markdown(run)
    assert "requests.Session" in text
    goal = next(line for line in text.splitlines() if "get: of requests" in line)
    assert goal.split("|")[-2].strip() == "reached"
    assert "plaintext" not in text
    told = as_json(run)
    assert {each["workload"] for each in told["goals"]} == {"get"}


def test_a_client_that_fails_has_a_note_and_stops_nobody(monkeypatch, tmp_path: Path) -> None:
    class Process:
        def __init__(self, name: str) -> None:
            self.peer = CLIENTS[name]

    class Flaky:
        name, title, peers, metrics = "get", "t", ("flare", "urllib3", "httpx"), ()
        share, sink = 1.0, False

        def warm_up(self, worker: Process, bench: ClientBench) -> None:
            if worker.peer.name == "urllib3":
                raise WorkerError("urllib3: not at home")

        def measure(self, worker: Process, bench: ClientBench) -> dict[str, float]:
            if worker.peer.name == "httpx":
                raise WorkerError("httpx: tired")
            return {"rate": 1.0}

    class Workers:
        def __init__(self, peers, sink, bench) -> None:
            self.workers = {peer.name: Process(peer.name) for peer in peers}

        def __enter__(self):
            return self.workers

        def __exit__(self, *exc_info: object) -> None:
            pass

    monkeypatch.setattr("benchmarks.client.client_workers", Workers)
    nowhere = Cores(frozenset({0}), frozenset({0}), frozenset({0}))
    bench = ClientBench(Path(sys.executable), nowhere, tmp_path)
    results = measure_all([Flaky()], list(CLIENTS.values()), 3, bench)  # type: ignore[list-item]
    assert list(results.rounds("get", "flare", "rate")) == [1, 2, 3]
    assert results.notes[("get", "urllib3")] == ["not measured: urllib3: not at home"]
    assert results.notes[("get", "httpx")] == ["a round does not count: httpx: tired"]
    assert ("get", "requests") not in results.values


def test_clients_need_nginx_and_no_load_generator(monkeypatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(SetupError, match=r"^nginx not found"):
        require_programs(["nginx"], load=False)
