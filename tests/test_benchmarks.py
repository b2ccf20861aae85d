"""The benchmarks' own logic: wrk's report, medians, tables, goals. No server, no load, no clock."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.apps import common, flare_app, wsgi
from benchmarks.environment import SetupError, require_programs
from benchmarks.goals import GOALS, judge
from benchmarks.launcher import Server
from benchmarks.load import Load, LoadError, parse_wrk
from benchmarks.measures import Ask
from benchmarks.peers import PEERS, Deployment, Place
from benchmarks.processes import choose_cores, cpu_seconds, process_tree, resident_bytes
from benchmarks.report import Run, as_json, as_markdown, number, spread, table, write
from benchmarks.results import Results, Summary, summarise
from benchmarks.tls import TLS_GOALS, TLS_PEERS, TLS_WORKLOADS
from benchmarks.tls import run as run_tls
from benchmarks.workloads import WORKLOADS
from flare import HttpServer, SocketAddr
from flare.cli.tls import self_signed
from flare.testing import TestClient, running_server
from flare.tls import TlsServerConfig

REPORT = """\
Running 2s test @ http://127.0.0.1:40123/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.99ms    1.20ms  29.31ms   99.00%
    Req/Sec    66.01k     5.02k   75.00k    50.00%
  Latency Distribution
     50%  823.00us
     75%    1.00ms
     90%    1.20ms
     99%    1.95s
  131360 requests in 2.00s, 19.29MB read
Requests/sec:  65668.15
Transfer/sec:      9.64MB
"""
ERRORS = "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
STATUSES = "  Non-2xx or 3xx responses: 17\n"


def with_lines(lines: str) -> str:
    return REPORT.replace("Requests/sec", lines + "Requests/sec")


def results_of(**rates: list[float]) -> Results:
    """Results of the workload plaintext: the rate of each peer, round by round."""
    results = Results()
    for peer, values in rates.items():
        for round_, value in enumerate(values, 1):
            results.add("plaintext", peer, round_, {"rate": value})
    return results


def test_the_report_of_wrk_is_read() -> None:
    result = parse_wrk(REPORT)
    assert result.requests == 131360
    assert result.seconds == 2.0
    assert result.rate == 65668.15
    assert result.read_bytes == 19.29 * 2**20
    assert result.p50_ms == pytest.approx(0.823)
    assert result.p99_ms == pytest.approx(1950)
    assert (result.socket_errors, result.bad_statuses) == (0, 0)
    result.check(body_bytes=13)


@pytest.mark.parametrize(
    ("total", "seconds", "read"),
    [
        ("7 requests in 998.50ms, 112.00MB read", 0.9985, 112 * 2**20),
        ("7 requests in 1.00m, 1.50GB read", 60.0, 1.5 * 2**30),
        ("7 requests in 2.00s, 812B read", 2.0, 812),
    ],
)
def test_units_of_time_and_size_are_understood(total: str, seconds: float, read: float) -> None:
    result = parse_wrk(REPORT.replace("131360 requests in 2.00s, 19.29MB read", total))
    assert result.seconds == pytest.approx(seconds)
    assert result.read_bytes == read


def test_a_server_that_answered_nothing_has_no_percentiles() -> None:
    text = REPORT.replace("131360 requests in 2.00s, 19.29MB", "0 requests in 2.00s, 0.00B")
    result = parse_wrk(text.replace("1.95s", "0.00us").replace("65668.15", "0.00"))
    assert (result.requests, result.rate, result.p99_ms) == (0, 0.0, None)
    result.check(body_bytes=13)


@pytest.mark.parametrize(
    ("lines", "message"),
    [(ERRORS, "4321 socket errors"), (STATUSES, "17 bad statuses"), (ERRORS + STATUSES, "17 bad")],
)
def test_a_measurement_with_errors_does_not_count(lines: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        parse_wrk(with_lines(lines)).check(body_bytes=13)


def test_fewer_bytes_than_the_bodies_have_do_not_count() -> None:
    with pytest.raises(LoadError, match="131360 bodies of 1000"):
        parse_wrk(REPORT).check(body_bytes=1000)


@pytest.mark.parametrize("text", ["", "unable to connect to 127.0.0.1:1 Connection refused\n"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(LoadError, match="expected the report of wrk"):
        parse_wrk(text)


def test_the_command_of_a_load_has_everything_asked_for() -> None:
    load = Load("http://127.0.0.1:9/", 64, (("Connection", "close"),), Path("upload.lua"))
    command = load.command(5)
    assert command[0] == "wrk"
    assert command[-1] == "http://127.0.0.1:9/"
    for pair in (["-c", "64"], ["-d", "5s"], ["-H", "Connection: close"], ["-s", "upload.lua"]):
        at = command.index(pair[0])
        assert command[at : at + 2] == pair


@pytest.mark.parametrize(
    ("values", "summary"),
    [
        ([], None),
        ([3.0], Summary(3.0, 3.0, 3.0)),
        ([5.0, 1.0, 2.0], Summary(2.0, 1.0, 5.0)),
        ([1.0, 2.0, 4.0, 100.0], Summary(3.0, 1.0, 100.0)),
    ],
)
def test_a_summary_is_the_median_with_its_spread(values, summary) -> None:
    assert summarise(values) == summary


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    results = results_of(flare=[90.0, 100.0, 300.0], granian=[45.0, 100.0, 100.0])
    assert results.ratio("plaintext", "rate", "flare", "granian") == Summary(1.0, 1.0, 3.0)


def test_a_round_that_failed_for_one_does_not_shift_the_others() -> None:
    results = results_of(flare=[10.0, 20.0, 30.0])
    results.add("plaintext", "nginx", 1, {"rate": 10.0})
    results.add("plaintext", "nginx", 3, {"rate": 10.0})
    assert results.ratio("plaintext", "rate", "flare", "nginx") == Summary(2.0, 1.0, 3.0)


def test_there_is_no_ratio_without_both_sides() -> None:
    results = results_of(flare=[10.0], waitress=[0.0])
    assert results.ratio("plaintext", "rate", "flare", "granian") is None
    assert results.ratio("plaintext", "rate", "granian", "flare") is None
    assert results.ratio("plaintext", "rate", "flare", "waitress") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (99.96, "100"),
        (99.94, "99.9"),
        (9.999, "10.0"),
        (1.0, "1.00"),
        (0.004, "0.00"),
    ],
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_a_spread_shows_only_where_there_is_one() -> None:
    assert spread(None) == "-"
    assert spread(Summary(2.0, 2.0, 2.0), "x") == "2.00x"
    assert spread(Summary(12.0, 11.0, 14.5), "ms") == "12.0 ms (11.0 - 14.5)"


def test_a_table_lines_up() -> None:
    assert table(["", "rate"], [["flare", "1,000"], ["b", "7"]]).splitlines() == [
        "|       |  rate |",
        "| ----- | ----: |",
        "| flare | 1,000 |",
        "| b     |     7 |",
    ]


def test_goals_are_judged_at_their_limits() -> None:
    results = results_of(flare=[150.0], granian=[100.0], uvicorn=[60.1])
    for name, share, p99 in (("beside-sleep", 0.4, 50.0), ("beside-compute", 0.1999, 50.01)):
        results.add(name, "flare", 1, {"share": share, "p99_ms": p99})
    verdicts = {goal.text: verdict for goal, _, verdict in judge(results, set(WORKLOADS))}
    assert verdicts["plaintext: of granian"] == "reached"
    assert verdicts["plaintext: of uvicorn"] == "not reached"
    assert verdicts["plaintext: of nginx"] == "not measured"
    assert verdicts["beside sleepers: speed, of alone"] == "reached"
    assert verdicts["beside sleepers: p99"] == "reached"
    assert verdicts["beside computers: speed, of alone"] == "not reached"
    assert verdicts["beside computers: p99"] == "not reached"


def test_every_goal_is_about_something_that_is_measured() -> None:
    for goal in (*GOALS, *TLS_GOALS):
        workload = {**WORKLOADS, **TLS_WORKLOADS}[goal.workload]
        assert goal.metric in {metric.name for metric in workload.metrics}
        assert "flare" in workload.peers
        assert goal.peer is None or goal.peer in workload.peers
        assert math.isfinite(goal.limit)


def test_workloads_name_peers_that_exist() -> None:
    for workload in (*WORKLOADS.values(), *TLS_WORKLOADS.values()):
        assert set(workload.peers) <= set(PEERS)
        names = [metric.name for metric in workload.metrics]
        assert len(set(names)) == len(names)


def a_run() -> Run:
    results = results_of(flare=[100.0, 120.0], granian=[50.0, 60.0])
    results.note("plaintext", "nginx", "a round does not count: 3 socket errors\nin 9 requests")
    results.note("static", "flare", "not available: this flare has no serve_static")
    facts = {"machine": "some", "commit": "abc", "python": "CPython"}
    return Run(facts, [WORKLOADS["plaintext"], WORKLOADS["static"]], results)


def test_the_report_tells_figures_failures_and_goals() -> None:
    text = as_markdown(a_run())
    assert "- machine: some" in text
    assert "2.00x" in text
    assert "- nginx: a round does not count: 3 socket errors in 9 requests\n" in text
    assert "- flare: not available: this flare has no serve_static\n" in text
    assert "uvicorn, uvloop" not in text  # was not measured at all
    goal = next(line for line in text.splitlines() if "plaintext: of granian" in line)
    assert goal.split("|")[-2].strip() == "reached"
    static = next(line for line in text.splitlines() if "static: of nginx" in line)
    assert static.split("|")[-2].strip() == "not measured"
    assert "idle: memory" not in text  # goals of other workloads


def test_the_json_has_every_value_of_every_round(tmp_path: Path) -> None:
    run = a_run()
    data, text = write(run, tmp_path / "new" / "run")
    assert text.read_text("utf-8") == as_markdown(run)
    read: dict[str, Any] = json.loads(data.read_text("utf-8"))
    assert read == as_json(run)
    peers = {peer["name"]: peer for peer in read["workloads"][0]["peers"]}
    assert peers["flare"]["rounds"] == [{"round": 1, "rate": 100.0}, {"round": 2, "rate": 120.0}]
    assert peers["nginx"]["notes"]


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_listens_where_it_is_told(name: str, tmp_path: Path) -> None:
    place = Place(Path("python"), 40321, tmp_path)
    few = PEERS[name].command(place, Deployment())
    many = PEERS[name].command(place, Deployment(blocking=True))
    told = " ".join(few)
    if name == "nginx":
        conf = (tmp_path / "nginx.conf").read_text("ascii")
        assert "{{" not in conf
        told = conf
    assert "40321" in told
    assert ("64" in " ".join(many).replace("=", " ").split()) == (
        name in {"granian", "gunicorn", "waitress", "cheroot"}
    )


@pytest.mark.parametrize("name", TLS_PEERS)
def test_a_peer_has_a_certificate_where_it_needs_one(name: str, tmp_path: Path) -> None:
    place = Place(Path("python"), 40321, tmp_path)
    for deployment in (Deployment(tls=True), Deployment(tls=True, resumption=False)):
        told = " ".join(PEERS[name].command(place, deployment))
        if name == "nginx":
            told = (tmp_path / "nginx.conf").read_text("ascii")
            assert "{{" not in told
            assert "listen 127.0.0.1:40321 ssl backlog" in told
        assert str(tmp_path / "cert.pem") in told
        assert ("ticket" in told) == (name != "granian" and not deployment.resumption)
        assert (tmp_path / "key.pem").stat().st_size


def test_a_server_with_tls_answers_over_it(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    server = HttpServer.bind(SocketAddr.localhost(0), tls=TlsServerConfig(cert, key))
    with running_server(flare_app.make_router(), server):
        found = Server(PEERS["flare"], server.local_addr().port, os.getpid(), tls=True)
        assert found.url.startswith("https://127.0.0.1:")
        Ask().check(found)


def test_the_tls_run_needs_openssl(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(SetupError, match="openssl not found"):
        run_tls(argparse.Namespace())


def test_the_programs_missing_are_named(monkeypatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(SetupError, match="apt-get install wrk nginx"):
        require_programs(["flare", "nginx"])
    with pytest.raises(SetupError, match=r"^wrk not found"):
        require_programs(["flare", "granian"])


@pytest.mark.parametrize(
    ("available", "server", "workers", "load"),
    [
        ({0}, {0}, {0}, {0}),
        ({0, 1}, {0}, {0}, {1}),
        ({3, 5, 9}, {3}, {3, 9}, {5}),
    ],
)
def test_server_and_load_get_cores_of_their_own(
    available, server, workers, load, monkeypatch
) -> None:
    monkeypatch.setattr("benchmarks.processes._siblings", lambda core: {core})
    cores = choose_cores(available)
    assert (cores.server, cores.workers, cores.load) == (server, workers, load)


def test_the_load_avoids_a_core_that_shares_hardware(monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.processes._siblings", lambda core: {core, core ^ 1})
    cores = choose_cores({0, 1, 2, 3})
    assert (cores.server, cores.load) == ({0}, {2})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_system_tells_of_this_process() -> None:
    assert process_tree(os.getpid())[0] == os.getpid()
    assert resident_bytes(os.getpid()) > 2**20
    assert cpu_seconds(os.getpid()) > 0
    assert cpu_seconds(2**22 + 1) == resident_bytes(2**22 + 1) == 0


@pytest.mark.parametrize("name", ["plaintext", "json", "post-1k", "download-64k", "sleep"])
def test_the_plain_application_answers_what_the_workloads_expect(name: str, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    ask = WORKLOADS[name].ask  # type: ignore[attr-defined]
    path, _, query = ask.path.partition("?")

    class Upload:
        def read(self, size: int) -> bytes:
            return b"x" * size

    environ = {
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(ask.upload),
        "wsgi.input": Upload(),
    }
    started: list[Any] = []
    body = b"".join(wsgi.app(environ, lambda status, headers: started.append((status, headers))))
    assert body == ask.answer
    status, headers = started[0]
    assert status == "200 OK"
    assert dict(headers)["Content-Length"] == str(len(body))


@pytest.mark.parametrize("name", ["plaintext", "json", "post-1k", "download-64k", "sleep"])
def test_the_application_on_flare_answers_the_same(name: str, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    ask = WORKLOADS[name].ask  # type: ignore[attr-defined]
    method = "POST" if ask.upload else "GET"
    response = TestClient(flare_app.make_router()).request(method, ask.path, b"x" * ask.upload)
    assert response.status == 200
    assert response.body == ask.answer


def test_a_blob_has_its_size_and_is_made_once() -> None:
    assert len(common.blob(1000)) == 1000
    assert common.blob(1000) is common.blob(1000)


class OlderServer:
    """Neither ``serve_static`` nor kinds of workers."""

    def serve(self, handler: object, num_workers: int = 1) -> None:
        raise AssertionError("was not to be called")


class NewerServer:
    def __init__(self) -> None:
        self.served: list[tuple[object, ...]] = []

    def serve(self, handler: object, num_workers: int = 1, *, worker_kind: str = "auto") -> None:
        self.served.append((num_workers, worker_kind))

    def serve_static(self, response: object) -> None:
        self.served.append((response,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("serve_static",), "no serve_static"), (("serve_workers", 2), "no process workers")],
)
def test_what_a_flare_has_not_got_is_said_and_ends_with_69(arguments, message, capsys) -> None:
    name, *rest = arguments
    with pytest.raises(SystemExit) as ended:
        getattr(flare_app, name)(OlderServer(), *rest)
    assert ended.value.code == 69
    assert message in capsys.readouterr().err


def test_what_a_flare_has_got_is_used(monkeypatch) -> None:
    monkeypatch.setattr("flare.http.precompute_response", lambda **given: given, raising=False)
    server = NewerServer()
    flare_app.serve_static(server)  # type: ignore[arg-type]
    flare_app.serve_workers(server, 1)  # type: ignore[arg-type]
    flare_app.serve_workers(server, 2)  # type: ignore[arg-type]
    static, one, two = server.served
    assert static[0]["body"] == common.PLAINTEXT  # type: ignore[index]
    assert one == (1, "auto")
    assert two == (2, "process")
