"""wrk against the server: 64 connections, and not one error."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from flare.http import Request, Response, ok
from flare.http.server import stream_response

SECONDS = 10 if os.environ.get("FLARE_LONG") == "1" else 2


def application(request: Request) -> Response:
    match request.url:
        case "/big":
            return ok(b"x" * 100_000)
        case "/stream":
            return stream_response([b"x" * 100] * 20)
    return ok("Hello, World!")


@pytest.mark.parametrize("target", ["/", "/big", "/stream"])
def test_a_load_without_an_error(
    need: Callable[[str], Any], serve: Callable[..., str], target: str
) -> None:
    seconds = SECONDS if target == "/" else 1
    done = subprocess.run(
        [
            need("wrk"),
            "-t1",
            "-c64",
            f"-d{seconds}",
            "--timeout",
            "20s",
            serve(application) + target,
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    assert "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"(\d+) requests in", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 100
