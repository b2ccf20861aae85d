"""The application as plain ASGI, without a framework: what uvicorn serves.

Handlers that block run on a pool of threads, as the frameworks above ASGI run a plain ``def``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

from benchmarks.apps.common import (
    HANDLER_THREADS,
    PLAINTEXT,
    SLEEP_SECONDS,
    blob,
    compute,
    user_json,
)

__all__ = ["app"]

_Message = dict[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_threads = ThreadPoolExecutor(HANDLER_THREADS)


async def _size_of_body(receive: _Receive) -> int:
    pieces: list[bytes] = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return len(b"".join(pieces))


async def app(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    path = scope["path"]
    status, kind = 200, b"text/plain; charset=utf-8"
    if path == "/":
        body = PLAINTEXT
    elif path.startswith("/users/"):
        query = parse_qs(scope["query_string"].decode("ascii"))
        kind = b"application/json"
        body = user_json(
            int(path[len("/users/") :]), query["tag"][0], query["verbose"][0] == "true"
        )
    elif path == "/upload":
        body = b"%d" % await _size_of_body(receive)
    elif path.startswith("/blob/"):
        kind = b"application/octet-stream"
        body = blob(int(path[len("/blob/") :]))
    elif path == "/sleep":
        await asyncio.get_running_loop().run_in_executor(_threads, time.sleep, SLEEP_SECONDS)
        body = b"slept"
    elif path == "/compute":
        await asyncio.get_running_loop().run_in_executor(_threads, compute)
        body = b"computed"
    else:
        status, body = 404, b"Not Found"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
