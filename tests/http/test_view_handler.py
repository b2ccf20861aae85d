from __future__ import annotations

import pytest

from flare.http.cancel import Cancel, CancelCell, CancelReason
from flare.http.handler import (
    FnHandler,
    ViewHandler,
    WithViewCancel,
    dispatch,
    dispatch_key,
)
from flare.http.request import Request
from flare.http.request_view import RequestView, parse_request_view
from flare.http.response import Response, ok
from flare.http.router import Router

NEVER = Cancel.never()


def view(target: str = "/", body: bytes = b"") -> RequestView:
    head = f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    return parse_request_view(head.encode() + body)


def echo(req: Request) -> Response:
    return ok(req.body)


class Sizes:
    def serve_view(self, req: RequestView, cancel: Cancel) -> Response:
        return ok(f"{len(req.body())} {cancel.reason()}")


def test_a_view_handler_needs_only_its_method():
    assert isinstance(Sizes(), ViewHandler)
    assert not isinstance(FnHandler(echo), ViewHandler)
    cell = CancelCell()
    cell.flip(CancelReason.SHUTDOWN)
    assert Sizes().serve_view(view(body=b"abc"), cell.handle()).body == b"3 3"


@pytest.mark.parametrize("inner", [echo, FnHandler(echo)])
def test_an_ordinary_handler_gets_the_owned_request(inner):
    adapter = WithViewCancel(inner)
    assert isinstance(adapter, ViewHandler)
    assert adapter.inner is inner
    request = view(body=b"abc")
    assert adapter.serve_view(request, NEVER).body == b"abc"
    assert adapter(view(body=b"d"), NEVER).body == b"d"


def test_what_the_inner_handler_kept_outlives_the_view():
    kept = []
    adapter = WithViewCancel(lambda req: kept.append(req) or ok())
    request = view("/a?b", b"abc")
    adapter.serve_view(request, NEVER)
    request.release()
    assert (kept[0].url, kept[0].body, kept[0].headers["host"]) == ("/a?b", b"abc", "h")


def test_asking_for_the_key_and_serving_share_one_request_and_one_match():
    router = Router()
    router.post("/users/:id", lambda req: ok(req.param("id")))
    router.post("/other/:id", echo)
    adapter = WithViewCancel(router)
    matches = []
    match = router.match
    router.match = lambda req: matches.append(req) or match(req)
    request = view("/users/7")
    key = dispatch_key(adapter, request)
    assert adapter.serve_view(request, NEVER).body == b"7"
    assert len(matches) == 1
    assert dispatch_key(adapter, view("/users/8")) is key
    assert dispatch_key(adapter, view("/other/8")) is not key


def test_the_dispatch_mark_shines_through():
    assert WithViewCancel(dispatch("pool")(lambda req: ok())).flare_dispatch == "pool"
    assert WithViewCancel(echo).flare_dispatch is None


@pytest.mark.parametrize("inner", [None, "text", Router])
def test_what_cannot_serve_is_refused_at_once(inner):
    with pytest.raises(TypeError):
        WithViewCancel(inner)
