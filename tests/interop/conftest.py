"""What the tests against real peers share: asking for the peer, and a server to point it at."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

sys.path.append(str(Path(__file__).parents[1] / "http" / "server"))
from serving import Running


def _need(name: str) -> Any:
    """The Python module *name*, or else the path of the program of that name.

    Where there is neither, the test is skipped; with FLARE_REQUIRE_PEERS=1 in the environment it
    fails instead.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != name:
            raise
    if program := shutil.which(name):
        return program
    _lacks(f"{name} is not installed")


def _lacks(why: str) -> NoReturn:
    if os.environ.get("FLARE_REQUIRE_PEERS") == "1":
        pytest.fail(why)
    pytest.skip(f"{why}: install it to run this test")


@pytest.fixture(scope="session")
def stream_module() -> str:
    """What an nginx's configuration begins with so that it has the module ``stream``."""
    said = subprocess.run([_need("nginx"), "-V"], capture_output=True, text=True, timeout=30).stderr
    options = dict(option.partition("=")[::2] for option in said.split())
    if options.get("--with-stream") == "":
        return ""
    path = Path(options.get("--modules-path", "/usr/lib/nginx/modules"), "ngx_stream_module.so")
    if not path.exists():
        _lacks("nginx's module stream (libnginx-mod-stream) is not installed")
    return f"load_module {path};"


@pytest.fixture(scope="session")
def need() -> Callable[[str], Any]:
    """``need("curl")``: the program's path; ``need("httpx")``: the module; else a skip."""
    return _need


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a server for a handler and return its URL without a path."""
    with ExitStack() as stack:

        def begin(handler: Any, config: Any = None) -> str:
            running = Running(handler, config)
            stack.callback(running.stop)
            host, port = running.address
            return f"http://{host}:{port}"

        yield begin
