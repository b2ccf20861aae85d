"""A browser shows the demo: headless Chromium, its document after the page's own script ran."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flare import (
    Request,
    Response,
    Router,
    ok,
    parse_form_urlencoded,
    parse_multipart_form_data,
)
from flare.cli.demo import application

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
).split()


@pytest.fixture
def dump(need: Callable[[str], Any], tmp_path: Path) -> Callable[[str], str]:
    """The document at a URL once its scripts are done."""
    chromium = need("chromium")

    def run(url: str) -> str:
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
        command += ["--virtual-time-budget=10000", "--dump-dom", url]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=90, check=True
        ).stdout

    return run


@pytest.mark.timeout(120)
def test_chromium_shows_the_demo_and_its_routes(
    dump: Callable[[str], str], serve: Callable[..., str]
) -> None:
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

    page = dump(base + "/")
    assert "<h1>flare" in page
    assert page.count("<button") == 3
    toured = dump(base + "/tour")
    assert "/echo=200:8" in toured
    assert "/stream=200:1492" in toured
    assert "/hello/you=200:" in toured


FIELDS = [('a"b', "é&;+%"), ("c\\", "\r\n--"), ("%41", ""), ("c\\", '"')]
FILE = ("f\\", 'x";y="z\\', "text/plain", "a file")


@pytest.mark.timeout(120)
def test_chromium_sends_forms(dump: Callable[[str], str], serve: Callable[..., str]) -> None:
    site = Router()
    sent: dict[str, Any] = {}

    def page(request: Request) -> Response:
        script = f"""
          const multipart = new FormData(), plain = new URLSearchParams();
          for (const [name, value] of {json.dumps(FIELDS)}) {{
            multipart.append(name, value);
            plain.append(name, value);
          }}
          const [name, filename, type, content] = {json.dumps(FILE)};
          multipart.append(name, new File([content], filename, {{type}}));
          await fetch("/plain", {{method: "POST", body: plain}});
          await fetch("/multipart", {{method: "POST", body: multipart}});
          document.title = "sent";
        """
        body = f"<!doctype html><meta charset=utf-8><script type=module>{script}</script>"
        return Response(200, body=body, headers={"Content-Type": "text/html"})

    def plain(request: Request) -> Response:
        sent["plain"] = parse_form_urlencoded(request.body).items()
        return ok()

    def multipart(request: Request) -> Response:
        kind = request.headers.get("content-type")
        sent["multipart"] = parse_multipart_form_data(request.body, kind)
        return ok()

    site.get("/", page)
    site.post("/plain", plain)
    site.post("/multipart", multipart)
    assert "<title>sent</title>" in dump(serve(site) + "/")
    assert sent["plain"] == FIELDS
    *fields, file = sent["multipart"]
    assert [(part.name, part.text()) for part in fields] == FIELDS
    assert (file.name, file.filename, file.content_type, file.text()) == FILE
