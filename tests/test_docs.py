"""What README and docs/ show as Python runs, page by page, in the order a reader meets it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flare import ConnectionRefused, Request, Response, Router, get, ok, ok_json_value
from flare.http import StreamingResponse, redirect
from flare.testing import running_server

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text("utf-8"))


def everything() -> Router:
    """What the client's examples may ask for."""
    router = Router()

    def echo(request: Request) -> Response:
        kind = request.headers.get("content-type")
        return ok_json_value(
            {"method": request.method, "path": request.path, "type": kind, "text": request.text()}
        )

    router.get("/hello/:name", lambda request: ok("hello " + request.param("name")))
    router.get("/items", lambda request: ok_json_value([{"name": "one"}]))
    router.get("/moved", lambda request: redirect("/items"))
    router.get("/large", lambda request: StreamingResponse(200, iter([b"x" * 65536] * 16)))
    router.get("/lines", lambda request: StreamingResponse(200, iter([b"one\n", b"two\n"])))
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        router.route(method, "/items", echo)
        router.route(method, "/echo", echo)
    return router


@pytest.fixture
def base() -> Iterator[str]:
    with running_server(everything()) as server:
        yield f"http://{server.local_addr()}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_python_of_a_page_runs(page: Path, base: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page", "base": base}
    for number, block in enumerate(blocks_of(page), 1):
        if "\nwith HttpServer.bind(" in block and ".serve(" in block:
            serve_and_stop(block, tmp_path / f"block{number}.py")
            continue
        block = block.replace("http://127.0.0.1:8080", base)
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


def serve_and_stop(block: str, path: Path) -> None:
    """Run a block that serves for ever as a program: it answers, and a SIGTERM ends it well."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert "8080" in block
    path.write_text(block.replace("8080", str(port)))
    program = subprocess.Popen([sys.executable, "-W", "error", str(path)])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                # A connection alone shows no more than bind(): before serve() SIGTERM just kills.
                get(f"http://127.0.0.1:{port}/", timeout=20)
                break
            except ConnectionRefused:
                assert program.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 0
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()


def test_there_is_python_to_run() -> None:
    assert sum(len(blocks_of(page)) for page in PAGES) >= 15


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8")):
            assert os.path.exists(page.parent / target), f"{page.name} links to {target}"


def test_every_test_that_the_security_page_names_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", page)
    assert len(named) > 30
    sources = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [
        f"{file}::{test}" for file, test in named if f"def {test}(" not in sources.get(file, "")
    ]
    assert not missing
