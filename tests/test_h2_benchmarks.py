"""The logic of ``python -m benchmarks h2``: h2load's report, the table, the codec's runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.apps import hpack_app
from benchmarks.h2_workloads import H2_GOALS, H2_PEERS, H2_WORKLOADS, parse_h2load
from benchmarks.load import LoadError
from benchmarks.peers import Deployment, Place

REPORT = """\
starting benchmark...
spawning thread #0: 16 total client(s). Timing-based test with 0s of warm-up time and 2s of main \
duration for measurements.
Main benchmark duration is started for thread #0.
finished in 2.01s, 8736.50 req/s, 537.79KB/s
requests: 17473 total, 17729 started, 17473 done, 17473 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 17475 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.58MB (1652233) total, 819.05KB (838712) headers (space savings 66.29%), 221.83KB \
(227149) data
                     min         max         mean         sd        +/- sd
time for request:      248us     72.96ms      7.64ms     11.01ms    94.40%
time for connect:      188us       534us       339us       146us    50.00%
"""


def test_the_report_of_h2load_is_read() -> None:
    result = parse_h2load(REPORT)
    assert (result.requests, result.succeeded, result.failed) == (17473, 17475, 0)
    assert (result.seconds, result.rate) == (pytest.approx(2.01), 8736.5)
    assert (result.body_bytes, result.mean_ms) == (227149, 7.64)
    result.check(body_bytes=13)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0 failed", "1 failed"),
        ("0 errored", "2 errored"),
        ("17475 2xx", "17000 2xx"),
        ("17473 done", "0 done"),
        ("(227149) data", "(227000) data"),
    ],
)
def test_a_run_with_errors_does_not_count(old: str, new: str) -> None:
    with pytest.raises(LoadError):
        parse_h2load(REPORT.replace(old, new)).check(body_bytes=13)


def test_another_text_is_no_report() -> None:
    with pytest.raises(LoadError, match="h2load"):
        parse_h2load("h2load: command not found")


def test_goals_are_about_what_is_measured() -> None:
    for goal in H2_GOALS:
        workload = H2_WORKLOADS[goal.workload]
        assert goal.metric in [metric.name for metric in workload.metrics]
        assert "flare" in workload.peers
        assert goal.peer in (None, *workload.peers)
        assert set(workload.peers) <= set(H2_PEERS)


@pytest.mark.parametrize(
    ("name", "words"),
    [("granian", "--http 2"), ("hypercorn", "127.0.0.1:1234"), ("flare", "--port 1234")],
)
def test_servers_are_asked_for_http2(name: str, words: str, tmp_path: Path) -> None:
    place = Place(Path("python"), 1234, tmp_path)
    assert words in " ".join(H2_PEERS[name].command(place, Deployment(http2=True)))


def test_nginx_listens_for_http2(tmp_path: Path) -> None:
    H2_PEERS["nginx"].command(Place(Path("python"), 1234, tmp_path), Deployment(http2=True))
    assert "listen 127.0.0.1:1234 http2 " in (tmp_path / "nginx.conf").read_text("utf-8")


@pytest.mark.parametrize("codec", ["flare", "hpack"])
def test_a_run_of_a_decoder_is_over_all_of_the_corpus(codec: str) -> None:
    if codec == "hpack":
        pytest.importorskip("hpack", reason="pip install hpack")
    heads = sum(len(story) for story in hpack_app.corpus())
    assert hpack_app.heads(codec)() == heads > 100
    assert hpack_app.strings(codec)() > 1000
