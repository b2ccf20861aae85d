"""``flare serve`` with several workers: who imports the application, and the flags."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flare import get, post
from flare.cli import main

DEADLINE = 20
SERVE = [sys.executable, "-u", "-W", "error", "-m", "flare", "serve", "app:app", "--port", "0"]

APP = """
import json, os, signal
from flare import ok

def app(request):
    return ok(json.dumps([os.getpid(), "first"]))
"""


@contextmanager
def started(folder: Path, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """``flare serve app:app`` on some port; its session is killed at the end."""
    program = subprocess.Popen(
        [*SERVE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        start_new_session=True,
        env={**os.environ, **env},
    )
    try:
        yield program
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        program.communicate()


def read_until(program: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert program.stdout is not None
    seen = []
    for line in program.stdout:
        seen.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the program ended without {pattern!r}: {seen}")


def rest_of(program: subprocess.Popen[str]) -> str:
    """What a program that has ended said besides."""
    assert program.stdout is not None
    return program.stdout.read()


def base_of(program: subprocess.Popen[str]) -> str:
    return read_until(program, r"on (http://\S+/) \(\d workers?\)")[1]


def ask(base: str) -> tuple[int, str]:
    pid, text = json.loads(get(base).text())
    return pid, text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_several_workers_are_processes_and_sighup_takes_new_code(folder: Path) -> None:
    with started(folder, "--workers", "2") as program:
        base = base_of(program)
        pid, text = ask(base)
        assert (text, pid != program.pid) == ("first", True)
        (folder / "app.py").write_text(APP.replace("first", "the second"))
        program.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + DEADLINE
        renewed = set()
        while len(renewed) < 2:
            assert time.monotonic() < deadline
            pid, text = ask(base)
            if text == "the second":
                renewed.add(pid)
        (folder / "app.py").write_text("def f(:\n")
        program.send_signal(signal.SIGHUP)
        read_until(program, "did not start: CommandError: cannot import 'app': SyntaxError.*given")
        assert ask(base)[1] == "the second"
        program.send_signal(signal.SIGTERM)
        assert program.wait(DEADLINE) == 0


def test_threads_if_asked_for(folder: Path) -> None:
    for arguments, env in (
        (["--worker-kind", "thread"], {}),
        ([], {"FLARE_WORKER_KIND": "thread"}),
    ):
        with started(folder, "--workers", "2", *arguments, **env) as program:
            assert ask(base_of(program))[0] == program.pid
            program.send_signal(signal.SIGINT)
            assert program.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nothing_of_that_name", "cannot import 'app': ModuleNotFoundError.*app.py:1"),
        ("raise RuntimeError('two\\nlines')", "cannot import 'app': RuntimeError: two lines"),
        ("import sys; sys.exit(3)", "cannot import 'app': SystemExit: 3"),
        ("application = 5", "module 'app' has no 'app'"),
        ("app = 5", "app:app: .*handler"),
        ("import os; os._exit(9)", "worker . could not start: exit code 9"),
    ],
)
def test_an_application_that_does_not_load_is_told_in_one_line(
    folder: Path, code: str, says: str
) -> None:
    (folder / "app.py").write_text(code)
    done = subprocess.run(
        [*SERVE, "--workers", "2"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=folder,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert re.match(f"flare: {says}", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workers", "257"], "--workers: at most 256"),
        (["--workers", "0"], "--workers: must be >= 1, got 0"),
        (["--workers", "-3"], "--workers: must be >= 1, got -3"),
        (["--backlog", "0"], "--backlog: must be >= 1"),
        (["--graceful-timeout", "-1"], "--graceful-timeout: must be >= 0"),
        (["--max-requests", "-1"], "--max-requests: must be >= 0"),
        (["--max-requests", "9"], "--max-requests: only .* a process .*--worker-kind process"),
        (
            ["--max-requests", "9", "--workers", "2", "--worker-kind", "thread"],
            "--max-requests: only .* a process .*--worker-kind process",
        ),
    ],
)
def test_flags_that_cannot_be_meant_get_one_line(
    folder: Path, arguments: list[str], says: str, monkeypatch, capfd
) -> None:
    monkeypatch.chdir(folder)
    for reload in ([], ["--reload"]):
        assert main(["serve", "app:app", "--port", "0", *arguments, *reload]) == 2
        error = capfd.readouterr().err
        assert re.match(f"flare: {says}", error), error
        assert error.count("\n") == 1


def test_workers_are_replaced_after_so_many_requests(folder: Path) -> None:
    with started(folder, "--workers", "2", "--max-requests", "20") as program:
        base = base_of(program)
        # Each serves on until the one in its place does.
        pids: set[int] = set()
        deadline = time.monotonic() + DEADLINE
        while len(pids) < 3:
            assert time.monotonic() < deadline
            pids.add(ask(base)[0])
        program.send_signal(signal.SIGTERM)
        assert program.wait(DEADLINE) == 0


def test_reload_takes_several_workers_along(folder: Path) -> None:
    with started(folder, "--workers", "2", "--reload", "--graceful-timeout", "1") as program:
        base = base_of(program)
        assert ask(base)[1] == "first"
        (folder / "app.py").write_text(APP.replace("first", "the second"))
        base_of(program)
        deadline = time.monotonic() + DEADLINE
        while ask(base)[1] != "the second":
            assert time.monotonic() < deadline
        program.send_signal(signal.SIGINT)
        assert program.wait(DEADLINE) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_routes_of_a_router_are_served_as_they_ask(folder: Path, workers: str) -> None:
    (folder / "app.py").write_text(
        "from flare import Router, ok\n"
        "app = Router()\n"
        "app.post('/', lambda req: ok(type(req).__name__), stream_body=True)\n"
    )
    with started(folder, "--workers", workers) as program:
        assert post(base_of(program), b"body").text() == "StreamedRequest"
        program.send_signal(signal.SIGTERM)
        assert program.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--log-level", "debug"], True),
        (["--log-level", "debug", "--workers", "2"], True),
        (["--log-level", "info"], False),
        ([], False),
    ],
)
def test_tracebacks_are_shown_to_who_asks(folder: Path, arguments: list[str], shown: bool) -> None:
    (folder / "app.py").write_text("def app(request):\n    return {}['key']\n")
    with started(folder, *arguments) as program:
        assert get(base_of(program)).status == 500
        read_until(program, r"^GET / from .*: KeyError: 'key' at .*app\.py:2 in app$")
        program.send_signal(signal.SIGTERM)
        assert program.wait(DEADLINE) == 0
        assert ("Traceback (most recent call last)" in rest_of(program)) == shown


def test_the_applications_own_logging_is_left_alone(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import logging\n"
        "logging.basicConfig(format='mine: %(message)s')\n"
        "def app(request):\n    return {}['key']\n"
    )
    with started(folder, "--log-level", "error", "--workers", "2") as program:
        assert get(base_of(program)).status == 500
        program.send_signal(signal.SIGTERM)
        assert program.wait(DEADLINE) == 0
        rest = rest_of(program)
        assert [line[:15] for line in rest.splitlines() if "KeyError" in line] == [
            "mine: GET / fro"
        ]


@pytest.mark.parametrize("arguments", [[], ["--workers", "2"]])
def test_an_output_that_takes_nothing_is_told_in_one_line(
    folder: Path, arguments: list[str]
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SERVE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, cwd=folder,
            timeout=DEADLINE,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "flare: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("arguments", [[], ["--workers", "2"], ["--log-level", "error"]])
@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
def test_serving_goes_on_where_nobody_reads_the_access_log(
    folder: Path, arguments: list[str], unbuffered: list[str]
) -> None:
    command = [sys.executable, *unbuffered, *SERVE[2:], "--access-log", *arguments]
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    try:
        base = base_of(program)
        assert program.stdout is not None
        program.stdout.close()
        for _ in range(20):
            assert get(base).status == 200
        program.send_signal(signal.SIGTERM)
        assert program.wait(DEADLINE) == 0
        assert program.stderr is not None
        said = program.stderr.read().splitlines()
        assert len(said) <= (2 if "--workers" in arguments else 1), said
        assert set(said) <= {"the access log cannot be written: Broken pipe"}
        assert bool(said) == ("--log-level" not in arguments)
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        program.wait(DEADLINE)
        for stream in (program.stdout, program.stderr):
            assert stream is not None
            stream.close()
