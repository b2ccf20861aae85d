from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flare import utils


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )


def test_signal_numbers_are_plain_ints() -> None:
    assert (utils.SIGINT, utils.SIGKILL, utils.SIGTERM) == (2, 9, 15)
    assert type(utils.SIGINT) is int


def test_getpid() -> None:
    assert utils.getpid() == os.getpid()


def test_a_forked_child_exits_with_its_code() -> None:
    done = run(
        "from flare.utils import *\n"
        "pid = fork()\n"
        "if pid == 0: exit(7)\n"
        "print(waitpid(pid), waitpid(pid))\n"
    )
    assert done.stdout == "7 0\n", done.stderr


def test_a_signal_shows_as_a_negative_code() -> None:
    done = run(
        "from flare.utils import *\n"
        "pid = fork()\n"
        "if pid == 0: usleep(30_000_000); exit()\n"
        "print(kill(pid, SIGKILL), waitpid(pid), kill(pid, SIGKILL))\n"
    )
    assert done.stdout == "0 -9 -1\n", done.stderr


def test_exit_flushes_and_runs_no_cleanup() -> None:
    done = run(
        "import atexit, sys\n"
        "from flare.utils import exit\n"
        "atexit.register(print, 'cleanup')\n"
        "print('out', end=''); print('err', end='', file=sys.stderr)\n"
        "try: exit(3)\n"
        "finally: print('finally')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "out", "err")


def test_exit_survives_closed_output() -> None:
    done = run(
        "import sys; sys.stdout.close(); sys.stderr = None\nimport flare.utils as u; u.exit(4)"
    )
    assert done.returncode == 4


@pytest.mark.parametrize("pid", [0, -1, -1234])
def test_kill_refuses_process_groups(pid: int) -> None:
    with pytest.raises(ValueError):
        utils.kill(pid, signal.SIGTERM)


def test_kill_reports_success_and_refusal() -> None:
    assert utils.kill(os.getpid(), 0) == 0
    assert utils.kill(os.getpid(), 12345) == -1


@pytest.mark.parametrize("microseconds", [0, -5, 1000])
def test_usleep_sleeps_no_less(microseconds: int) -> None:
    before = time.monotonic()
    utils.usleep(microseconds)
    assert time.monotonic() - before >= max(0, microseconds) / 1e6


def test_only_the_listed_names_are_exported() -> None:
    assert set(utils.__all__) == set(
        "fork waitpid kill usleep exit getpid SIGINT SIGKILL SIGTERM".split()
    )
