"""A browser shows the demo: headless Chromium, its document after the page's own script ran."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flare import Request, Response
from flare.cli.demo import application

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
).split()


@pytest.mark.timeout(120)
def test_chromium_shows_the_demo_and_its_routes(
    need: Callable[[str], Any], serve: Callable[..., str], tmp_path: Path
) -> None:
    chromium = need("chromium")
    site = application()

    # A page that clicks every button of the welcome page and writes what came back.
    def tour(request: Request) -> Response:
        script = """
          const done = [];
          for (const [path, options] of [["/hello/you", {}], ["/echo", {method: "POST",
               body: "it again"}], ["/stream", {}], ["/", {}]]) {
            const response = await fetch(path, options);
            done.push(path + "=" + response.status + ":" + (await response.text()).length);
          }
          document.title = done.join(" ");
        """
        page = f"<!doctype html><script type=module>{script}</script>"
        return Response(200, body=page, headers={"Content-Type": "text/html"})

    site.get("/tour", tour)
    base = serve(site)

    def dump(path: str) -> str:
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
        command += ["--virtual-time-budget=10000", "--dump-dom", base + path]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=90, check=True
        ).stdout

    page = dump("/")
    assert "<h1>flare" in page
    assert page.count("<button") == 3
    toured = dump("/tour")
    assert "/echo=200:8" in toured
    assert "/stream=200:1492" in toured
    assert "/hello/you=200:" in toured
