"""No race shows under load, however often the threads switch."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import flare

LONG = bool(os.environ.get("FLARE_LONG"))
SECONDS = 60.0 if LONG else 1.5


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("program", ["stress_dispatch.py", "stress_h2.py"])
def test_every_answer_belongs_to_its_request_and_nothing_is_left(
    program: str, workers: int
) -> None:
    script = Path(__file__).with_name(program)
    root = str(Path(flare.__file__).parents[1])
    seed = random.randrange(10_000)
    finished = subprocess.run(
        [sys.executable, "-X", "faulthandler", script, str(SECONDS), str(workers), str(seed)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=SECONDS + 100,
    )
    assert finished.returncode == 0, f"seed {seed}\n{finished.stdout}\n{finished.stderr[-5000:]}"
    answered = sum(int(line.strip("()").split(",")[0]) for line in finished.stdout.splitlines())
    assert answered > 20
