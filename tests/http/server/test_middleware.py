"""What a route asks for holds through whatever stands around its router."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from serving import PATIENCE, Connect, Serve

from flare.http import (
    Handler,
    HttpClient,
    HttpServer,
    Request,
    Response,
    Router,
    dispatch,
    ok,
    stream_body,
)
from flare.http.handler import HandlerLike, as_handler_function, dispatch_key, may_stream_body
from flare.http.server import ServerConfig
from flare.net import SocketAddr
from flare.testing import running_server


class Middleware(Handler):
    inner: HandlerLike

    def serve(self, req: Request) -> Response:
        response = as_handler_function(self.inner)(req)
        response.headers.set("X-Seen", "1")
        return response


class Rewriting(Handler):
    """Has every request for *old* be one for *new*."""

    inner: HandlerLike
    old: str
    new: str

    def serve(self, req: Request) -> Response:
        if req.url == self.old:
            req.url = self.new
        return as_handler_function(self.inner)(req)


class Duck:
    """No ``Handler``, and any number of other things besides."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, req: Request) -> Response:
        return as_handler_function(self.inner)(req)


def fallback_to(handler: HandlerLike) -> Router:
    outer = Router()
    outer.get("/other", lambda request: ok())
    outer.fallback(handler)
    return outer


def mounted(handler: HandlerLike) -> Router:
    outer = Router()
    outer.mount("/m", handler)
    return outer


WAYS: dict[str, tuple[Callable[[Router], HandlerLike], str]] = {
    "around": (lambda router: Middleware(router), ""),
    "twice": (lambda router: Middleware(inner=Duck(Middleware(router))), ""),
    "duck": (Duck, ""),
    "fallback": (fallback_to, ""),
    "around a fallback": (lambda router: Middleware(fallback_to(Middleware(router))), ""),
    "mounted": (lambda router: mounted(Middleware(router)), "/m"),
    "around a mount": (lambda router: Middleware(mounted(Duck(router))), "/m"),
}


def kind_and_body(request: Request) -> Response:
    return ok(type(request).__name__.encode() + b" " + request.stream.read())


def app() -> tuple[Router, threading.Event, threading.Event]:
    inside, go_on = threading.Event(), threading.Event()

    def blocking(request: Request) -> Response:
        inside.set()
        assert go_on.wait(PATIENCE)
        return ok("done")

    router = Router()
    router.post("/up", kind_and_body, stream_body=True, max_body_size=8)
    router.post("/plain", lambda request: ok(request.body))
    router.get("/blocking", blocking, dispatch="pool")
    router.get("/fast", lambda request: ok("fast"))
    return router, inside, go_on


@pytest.mark.parametrize("way", WAYS)
def test_routes_keep_their_marks(serve: Serve, connect: Connect, way: str) -> None:
    router, inside, go_on = app()
    wrap, prefix = WAYS[way]
    address = serve(wrap(router), ServerConfig(dispatch="inline", max_body_size=4))
    peer, slow = connect(address), connect(address)
    slow.get(f"{prefix}/blocking")
    assert inside.wait(PATIENCE)
    peer.get(f"{prefix}/fast")
    assert peer.read().body == b"fast"
    go_on.set()
    assert slow.read().body == b"done"
    peer.post(b"12345678", target=f"{prefix}/up")
    assert peer.read().body == b"StreamedRequest 12345678"
    peer.post(b"1234", target=f"{prefix}/plain")
    assert peer.read().body == b"1234"
    for target, body in (("/up", b"123456789"), ("/plain", b"12345")):
        other = connect(address)
        other.post(body, target=prefix + target)
        assert other.read().status == 413


@pytest.mark.parametrize("way", WAYS)
def test_they_keep_them_over_http2(way: str) -> None:
    router, _, _ = app()
    wrap, prefix = WAYS[way]
    server = HttpServer.bind(SocketAddr.localhost(0), ServerConfig(max_body_size=4))
    with running_server(wrap(router), server), HttpClient(prefer_h2c=True) as client:
        base = f"http://{server.local_addr()}{prefix}"
        assert client.post(f"{base}/up", b"12345678").body.endswith(b" 12345678")
        assert client.post(f"{base}/up", b"123456789").status == 413
        assert client.post(f"{base}/plain", b"1234").body == b"1234"
        assert client.post(f"{base}/plain", b"12345").status == 413


@pytest.mark.parametrize("inside", [lambda router: router, mounted, fallback_to])
def test_a_rewritten_request_breaks_nothing(
    serve: Serve, connect: Connect, inside: Callable[[Router], Router]
) -> None:
    """What the request seemed to ask for, and what it asks in the end, are two."""
    router, _, _ = app()
    prefix = "/m" if inside is mounted else ""
    limited = ServerConfig(max_body_size=4)
    from_streamed = serve(Rewriting(inside(router), f"{prefix}/up", f"{prefix}/plain"), limited)
    from_plain = serve(Rewriting(inside(router), "/alias", f"{prefix}/up"), limited)
    # A plain handler gets no more than any other, and then the whole of it.
    peer = connect(from_streamed)
    for _ in range(2):
        peer.post(b"1234", target=f"{prefix}/up")
        assert peer.read().body == b"1234"
    peer.post(b"12345", target=f"{prefix}/up")
    assert peer.read().status == 413
    # One that streams gets what is there already.
    peer = connect(from_plain)
    peer.post(b"1234", target="/alias")
    assert peer.read().body == b"Request 1234"
    peer.post(b"12345", target="/alias")
    assert peer.read().status == 413


def test_a_rewritten_request_has_no_more_over_http2_either() -> None:
    """Where a body is all there at once, nobody reads it while it arrives."""
    router, _, _ = app()
    server = HttpServer.bind(SocketAddr.localhost(0), ServerConfig(max_body_size=4))
    rewriting = Rewriting(router, "/up", "/plain")
    with running_server(rewriting, server), HttpClient(prefer_h2c=True) as client:
        url = f"http://{server.local_addr()}/up"
        assert client.post(url, b"1234").body == b"1234"
        assert client.post(url, b"12345").status == 413


def test_a_body_past_the_limit_is_never_read_in_part(serve: Serve, connect: Connect) -> None:
    read: list[str] = []

    def stubborn(request: Request) -> Response:
        for _ in range(2):
            try:
                read.append(request.text())
            except (OSError, ValueError) as error:
                read.append(type(error).__name__)
        return ok()

    router, _, _ = app()
    router.post("/stubborn", stubborn)
    config = ServerConfig(max_body_size=4)
    peer = connect(serve(Rewriting(router, "/up", "/stubborn"), config))
    peer.post(b"1234567", target="/up")
    assert peer.read().status == 200
    assert read == ["RequestBodyError", "ValueError"]


def test_a_mounted_handler_sees_what_a_middleware_did(serve: Serve, connect: Connect) -> None:
    class Naming(Handler):
        inner: HandlerLike

        def serve(self, req: Request) -> Response:
            req.headers.set("X-User", "ann")
            req.params_mut()["tenant"] = "7"
            return as_handler_function(self.inner)(req)

    inner = Router()
    inner.get("/me", lambda req: ok(req.headers.get("x-user") + req.param("tenant")))
    peer = connect(serve(Naming(mounted(inner))))
    peer.get("/m/me")
    assert peer.read().body == b"ann7"


def test_a_marked_function_streams_through_a_middleware(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(Middleware(stream_body()(lambda request: kind_and_body(request)))))
    peer.post(b"abc")
    assert peer.read().body == b"StreamedRequest abc"


@pytest.mark.parametrize("inside", [mounted, fallback_to])
def test_a_middleware_inside_a_router_reads_what_its_route_may_have(
    serve: Serve, connect: Connect, inside: Callable[[HandlerLike], Router]
) -> None:
    class Reading(Middleware):
        def serve(self, req: Request) -> Response:
            return ok(req.body)

    router, _, _ = app()
    peer = connect(serve(Middleware(inside(Reading(router))), ServerConfig(max_body_size=4)))
    peer.post(b"12345678", target="/m/up" if inside is mounted else "/up")
    assert peer.read().body == b"12345678"


# -- whose word counts ---------------------------------------------------------------------


def test_a_wrapper_that_speaks_for_itself_is_heard() -> None:
    router, _, _ = app()
    request = Request("POST", "/up")
    route = next(router.routes())
    assert dispatch_key(Middleware(Duck(router)), request) is route
    assert dispatch_key(fallback_to(Middleware(router)), request) is route

    marked = dispatch("pool")(type("Marked", (Middleware,), {}))(router)
    assert dispatch_key(marked, request) is marked
    assert dispatch_key(Duck(marked), request) is marked

    class Keyed(Middleware):
        def dispatch_key(self, req: Request) -> object:
            return "mine"

    assert dispatch_key(Duck(Keyed(router)), request) == "mine"

    outer = Router()
    outer.get("/", Middleware(dispatch("pool")(lambda request: ok())))
    assert next(outer.routes()).flare_dispatch == "pool"
    outer.get("/own", marked, dispatch="inline")
    assert list(outer.routes())[1].flare_dispatch == "inline"


def test_what_only_looks_like_a_wrapper_is_none() -> None:
    class Method:
        def inner(self, req: Request) -> Response:
            return ok()

        def serve(self, req: Request) -> Response:
            return self.inner(req)

    class Other:
        inner = 5

        def serve(self, req: Request) -> Response:
            return ok()

    class Nested:
        class inner: ...

        def serve(self, req: Request) -> Response:
            return ok()

    request = Request("GET", "/")
    for handler in (Method(), Other(), Nested()):
        assert dispatch_key(handler, request) is handler
        assert not may_stream_body(handler)
    itself = Duck(None)
    itself.inner = itself
    assert dispatch_key(itself, request) is itself
    assert not may_stream_body(itself)


def test_two_routers_may_be_each_others_fallback(serve: Serve, connect: Connect) -> None:
    one, two = Router(), Router()
    one.get("/one", lambda request: ok("one"))
    two.get("/two", lambda request: ok("two"))
    one.fallback(two)
    two.fallback(one)
    peer = connect(serve(one))
    for name in ("one", "two"):
        peer.get(f"/{name}")
        assert peer.read().body == name.encode()
