"""The application as plain WSGI, without a framework: what the WSGI peers serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from benchmarks.apps.common import PLAINTEXT, SLEEP_SECONDS, blob, compute, user_json

__all__ = ["app"]

_Environ = dict[str, Any]
_StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def app(environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    status, kind = "200 OK", "text/plain; charset=utf-8"
    if path == "/":
        body = PLAINTEXT
    elif path.startswith("/users/"):
        query = parse_qs(environ["QUERY_STRING"])
        kind = "application/json"
        body = user_json(
            int(path[len("/users/") :]), query["tag"][0], query["verbose"][0] == "true"
        )
    elif path == "/upload":
        body = b"%d" % len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    elif path.startswith("/blob/"):
        kind = "application/octet-stream"
        body = blob(int(path[len("/blob/") :]))
    elif path == "/sleep":
        time.sleep(SLEEP_SECONDS)
        body = b"slept"
    elif path == "/compute":
        compute()
        body = b"computed"
    else:
        status, body = "404 Not Found", b"Not Found"
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
