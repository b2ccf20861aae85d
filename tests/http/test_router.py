from __future__ import annotations

import sys
import types

import pytest

from flare.errors import ValidationError
from flare.http.handler import FnHandler, Handler, dispatch
from flare.http.request import Request
from flare.http.response import Response, ok
from flare.http.router import Route, Router
from flare.net import SocketAddr


def say(name: str):
    def handler(req: Request) -> Response:
        captured = ",".join(f"{key}={value}" for key, value in req.params().items())
        return ok(f"{name}({captured})")

    return handler


def router(*routes: str) -> Router:
    """A router of "METHOD /pattern" lines, each handler answering with its own line."""
    made = Router()
    for line in routes:
        method, pattern = line.split(" ", 1)
        made.route(method, pattern, say(line))
    return made


def ask(made: Router, line: str, **options) -> Response:
    method, url = line.split(" ", 1)
    return made.serve(Request(method, url, **options))


def body(made: Router, line: str) -> str:
    return ask(made, line).body.decode()


class TestMatching:
    @pytest.mark.parametrize(
        ("pattern", "url", "captured"),
        [
            ("/", "/", ""),
            ("", "/", ""),
            ("/", "", ""),
            ("/", "//", ""),
            ("/", "/?q=1", ""),
            ("/users", "/users", ""),
            ("users", "/users", ""),
            ("/users/", "/users", ""),
            ("/users", "/users/", ""),
            ("/users", "//users///", ""),
            ("/users", "/users?x=/a/b", ""),
            ("/users", "/users#top?x", ""),
            ("/users/:id", "/users/7", "id=7"),
            ("/users/:id", "/users/7/?q", "id=7"),
            ("/users/:id", "/users/:id", "id=:id"),
            ("/users/:id", "/users/*", "id=*"),
            ("/:a/:b", "/1/2", "a=1,b=2"),
            ("/a/:", "/a/:", ""),
            ("/a/b*", "/a/b*", ""),
            ("/static/*", "/static/a", "*=a"),
            ("/static/*", "/static/a//b/c/", "*=a/b/c"),
            ("/:bucket/*", "/x/y/z", "bucket=x,*=y/z"),
            ("*", "/any/thing", "*=any/thing"),
            ("/café", "/caf%C3%A9", ""),
            ("/café", "/café", ""),
            ("/a b", "/a%20b", ""),
            ("/users/:id", "/users/a%2Fb", "id=a/b"),
            ("/users/:id", "/users/a%2fb%3F%23", "id=a/b?#"),
            ("/users/:id", "/users/%e2%82%ac+x", "id=€+x"),
            ("/users/:id", "/users/%2e%2E", "id=.."),
            ("/users/:id", "/users/%252F", "id=%2F"),
            ("/a%20b", "/a%2520b", ""),
            ("/a", "/%61", ""),
        ],
    )
    def test_a_pattern_takes_the_path(self, pattern, url, captured):
        made = Router()
        made.get(pattern, say("found"))
        assert body(made, f"GET {url}") == f"found({captured})"

    @pytest.mark.parametrize(
        ("pattern", "url"),
        [
            ("/", "/a"),
            ("/users", "/Users"),
            ("/users", "/user"),
            ("/users", "/users/7"),
            ("/users/:id", "/users"),
            ("/users/:id", "/users/"),
            ("/users/:id", "/users/7/x"),
            ("/static/*", "/static"),
            ("/static/*", "/static/"),
            ("*", "/"),
            ("/a/:", "/a/b"),
            ("/a%20b", "/a%20b"),
            ("/a/b", "/a%2Fb"),
        ],
    )
    def test_a_pattern_does_not_take_the_path(self, pattern, url):
        made = Router()
        made.get(pattern, say("found"))
        assert ask(made, f"GET {url}").status == 404

    @pytest.mark.parametrize(
        "url", ["/users/%", "/users/%2", "/users/%zz", "/users/%ff", "/x/%C3/%A9", "/%C3%28"]
    )
    def test_a_path_that_cannot_be_decoded_gets_400(self, url):
        made = router("GET /users/:id", "GET *")
        response = ask(made, f"GET {url}")
        assert (response.status, response.body) == (400, b"Bad Request")
        assert b"in the path" in ask(made, f"GET {url}", expose_errors=True).body

    def test_a_bad_escape_in_the_query_does_not_matter(self):
        assert body(router("GET /a"), "GET /a?%zz") == "GET /a()"

    @pytest.mark.parametrize("url", ["/a?b#c", "/a#b?c", "/a/%2E?x", "//h//p?", "/a;b"])
    def test_it_routes_on_req_path(self, url):
        seen = []
        made = Router()
        made.fallback(lambda req: seen.append(req.path) or ok())
        made.get("/:one", lambda req: seen.append(req.path) or ok())
        ask(made, f"GET {url}")
        request = Request("GET", request_path := Request("GET", url).path)
        assert seen == [request_path]
        assert made.match(request).target is made.match(Request("GET", url)).target


class TestPrecedence:
    ROUTES = (
        "GET /*",
        "GET /:kind/:id",
        "GET /users/:id",
        "GET /users/me",
        "GET /:kind/me",
        "GET /users/:id/posts",
        "GET /users/me/*",
    )

    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize(
        ("url", "line"),
        [
            ("/users/me", "GET /users/me()"),
            ("/users/7", "GET /users/:id(id=7)"),
            ("/groups/me", "GET /:kind/me(kind=groups)"),
            ("/groups/7", "GET /:kind/:id(kind=groups,id=7)"),
            ("/groups", "GET /*(*=groups)"),
            ("/users/7/posts", "GET /users/:id/posts(id=7)"),
            ("/users/7/x", "GET /*(*=users/7/x)"),
            ("/users/me/x", "GET /users/me/*(*=x)"),
            ("/users/me/posts", "GET /users/me/*(*=posts)"),
        ],
    )
    def test_a_literal_goes_before_a_parameter_before_a_wildcard(self, order, url, line):
        assert body(router(*self.ROUTES[::order]), f"GET {url}") == line

    def test_it_goes_back_and_leaves_no_parameter_of_a_failed_try(self):
        made = router("GET /a/:x/c/:y/e", "GET /:p/b/c/*")
        assert body(made, "GET /a/b/c/d/f") == "GET /:p/b/c/*(p=a,*=d/f)"

    def test_a_route_of_another_method_hides_nothing(self):
        made = router("POST /users/me", "GET /users/:id")
        assert body(made, "GET /users/me") == "GET /users/:id(id=me)"

    def test_of_equal_shapes_the_first_wins(self):
        made = router("GET /:first", "GET /:second")
        assert body(made, "GET /x") == "GET /:first(first=x)"

    def test_a_hostile_path_costs_no_more_than_the_tree(self):
        made = Router()
        for depth in range(1, 14):
            made.get("/a" * depth + "".join(f"/:p{i}" for i in range(14 - depth)), say("x"))
        looked_at = 0
        node_type = type(made._root)
        find = node_type.find

        def counting(self, *arguments):
            nonlocal looked_at
            looked_at += 1
            return find(self, *arguments)

        node_type.find = counting
        try:
            assert ask(made, "GET " + "/a" * 5000).status == 404
        finally:
            node_type.find = find
        assert looked_at < 14 * 14 * 2


class TestRegistration:
    @pytest.mark.parametrize(
        "verb",
        ["get", "post", "put", "patch", "delete", "head", "options", "trace", "connect"],
    )
    def test_each_method_has_its_verb(self, verb):
        made = Router()
        getattr(made, verb)("/x", say(verb))

        @getattr(made, verb)("/y")
        def decorated(req: Request) -> Response:
            return ok("decorated")

        assert body(made, f"{verb.upper()} /x") == f"{verb}()"
        assert body(made, f"{verb.upper()} /y") == "decorated"
        assert decorated(Request("GET", "/")).body == b"decorated"

    def test_a_verb_with_a_handler_returns_nothing(self):
        assert Router().get("/x", say("x")) is None

    def test_a_handler_object_and_a_keyword_serve_as_well(self):
        made = Router()
        made.get("/x", handler=FnHandler(say("x")))
        assert body(made, "GET /x") == "x()"

    def test_any_token_is_a_method(self):
        assert body(router("PURGE /x"), "PURGE /x") == "PURGE /x()"

    @pytest.mark.parametrize("method", ["get", "Post", "", "A B", "É", None])
    def test_a_bad_method_is_refused(self, method):
        with pytest.raises(ValidationError, match="method"):
            Router().route(method, "/", say("x"))

    @pytest.mark.parametrize(
        "path",
        [
            "/*/a",
            "*/*",
            "/a/*b",
            "/*b/c",
            "/**",
            "/:id/:id",
            "/:a/b/:a/c",
            "/a?b",
            "/a#b",
            None,
            b"/a",
        ],
    )
    def test_a_bad_pattern_is_refused(self, path):
        with pytest.raises(ValidationError, match="path"):
            Router().get(path, say("x"))
        with pytest.raises(ValidationError, match="path"):
            Router().get(path)

    @pytest.mark.parametrize("again", ["/users/:id", "users/:id/", "//users//:id"])
    def test_the_same_route_twice_is_refused(self, again):
        made = router("GET /users/:id")
        with pytest.raises(ValidationError, match="registered already"):
            made.get(again, say("x"))
        made.post(again, say("x"))
        assert made.route_count() == 2

    @pytest.mark.parametrize("bad", [None, 3, FnHandler, ok()])
    def test_what_is_no_handler_is_refused(self, bad):
        made = Router()
        for register in (
            lambda: made.get("/", bad),
            lambda: made.mount("/a", bad),
            lambda: made.fallback(bad),
        ):
            with pytest.raises(TypeError):
                register()
        assert made.route_count() == 0

    def test_a_router_is_a_handler_and_callable(self):
        made = router("GET /")
        assert isinstance(made, Handler)
        assert made(Request("GET", "/")).body == b"GET /()"
        assert repr(made) == "<Router of 1 routes>"


class TestMisses:
    def test_a_path_that_nobody_has_gets_404(self):
        response = ask(router("GET /a"), "GET /b?secret")
        assert (response.status, response.body) == (404, b"Not Found")
        assert response.headers["Content-Type"].startswith("text/plain")

    def test_404_names_the_path_only_where_errors_are_exposed(self):
        response = ask(router(), "GET /b", expose_errors=True)
        assert response.body == b"Not Found: /b"

    def test_an_empty_router_answers_404(self):
        assert ask(Router(), "GET /").status == 404

    @pytest.mark.parametrize(
        ("routes", "line", "allow"),
        [
            (["GET /a"], "POST /a", "GET, HEAD"),
            (["POST /a", "GET /a", "DELETE /a"], "PUT /a", "POST, GET, HEAD, DELETE"),
            (["GET /a", "POST /a", "HEAD /a"], "PUT /a", "GET, POST, HEAD"),
            (["POST /b", "GET /a", "POST /a"], "PUT /a", "GET, HEAD, POST"),
            (["PUT /:x", "GET /a", "DELETE /*", "PUT /a"], "POST /a", "PUT, GET, HEAD, DELETE"),
            (["POST /a"], "HEAD /a", "POST"),
            (["POST /a"], "CONNECT /a", "POST"),
            (["POST /a"], "PURGE /a/?x", "POST"),
        ],
    )
    def test_a_method_that_the_path_has_not_gets_405(self, routes, line, allow):
        response = ask(router(*routes), line)
        assert (response.status, response.body) == (405, b"Method Not Allowed")
        assert response.headers["Allow"] == allow
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"

    def test_head_runs_the_get_handler(self):
        made = router("GET /a", "GET /users/:id")
        assert body(made, "HEAD /a") == "GET /a()"
        assert body(made, "HEAD /users/7") == "GET /users/:id(id=7)"

    def test_an_explicit_head_route_wins(self):
        assert body(router("GET /a", "HEAD /a"), "HEAD /a") == "HEAD /a()"
        assert body(router("GET /a", "HEAD /:x"), "HEAD /a") == "HEAD /:x(x=a)"

    @pytest.mark.parametrize(
        ("routes", "line", "allow"),
        [
            (["GET /a", "POST /a"], "OPTIONS /a", "GET, HEAD, POST, OPTIONS"),
            (["GET /:x"], "OPTIONS /a?q", "GET, HEAD, OPTIONS"),
            (["GET /a", "POST /b", "GET /c"], "OPTIONS *", "GET, HEAD, POST, OPTIONS"),
            ([], "OPTIONS *", "OPTIONS"),
            (["GET /a", "OPTIONS /b"], "OPTIONS *", "GET, HEAD, OPTIONS"),
        ],
    )
    def test_options_gets_the_methods(self, routes, line, allow):
        response = ask(router(*routes), line)
        assert (response.status, response.body) == (204, b"")
        assert response.headers["Allow"] == allow

    def test_options_asks_mounted_routers_too(self):
        made = router("GET /a")
        made.mount("/api", router("PUT /x"))
        assert ask(made, "OPTIONS *").headers["Allow"] == "GET, HEAD, PUT, OPTIONS"

    def test_options_of_an_unknown_path_gets_404(self):
        assert ask(router("GET /a"), "OPTIONS /b").status == 404

    def test_an_explicit_options_route_wins(self):
        assert body(router("GET /a", "OPTIONS /a"), "OPTIONS /a") == "OPTIONS /a()"

    def test_the_fallback_answers_what_is_left(self):
        made = router("GET /a")

        @made.fallback
        def left(req: Request) -> Response:
            return ok("left")

        assert body(made, "GET /b") == "left"
        assert body(made, "OPTIONS /b") == "left"
        assert ask(made, "POST /a").status == 405
        assert left(Request("GET", "/")).body == b"left"
        with pytest.raises(ValidationError, match="fallback"):
            made.fallback(say("other"))


class TestRequestGoesOn:
    def test_the_handler_gets_the_same_request(self):
        seen = []
        made = Router()
        made.get("/:x", lambda req: seen.append(req) or ok())
        request = Request("GET", "/a", peer=SocketAddr("10.0.0.9", 1), tls_info=object())
        made.serve(request)
        assert seen[0] is request

    def test_parameters_of_an_outer_router_survive(self):
        inner = router("GET /users/:id")
        request = Request("GET", "/users/7")
        request.params_mut().update(tenant="t", id="outer")
        assert inner.serve(request).body == b"GET /users/:id(tenant=t,id=7)"

    def test_matching_leaves_the_request_as_it_was(self):
        made = router("GET /users/:id")
        request = Request("GET", "/users/7")
        assert made.match(request).params == {"id": "7"}
        assert not request.has_params()

    def test_what_a_handler_raises_comes_out(self):
        def broken(req: Request) -> Response:
            raise LookupError("x")

        made = Router()
        made.get("/", broken)
        with pytest.raises(LookupError):
            ask(made, "GET /")


class TestMount:
    @pytest.mark.parametrize(
        ("url", "inner"),
        [
            ("/api", "/"),
            ("/api/", "/"),
            ("/api?q=1", "/?q=1"),
            ("/api#f", "/#f"),
            ("/api/x", "/x"),
            ("/api//x//y/?q=/", "//x//y/?q=/"),
            ("//api/x", "/x"),
            ("/%61pi/%2F", "/%2F"),
        ],
    )
    def test_the_prefix_is_cut_and_the_rest_left_as_it_was_sent(self, url, inner):
        seen = []
        made = Router()
        made.mount("/api", lambda req: seen.append((req.url, req.mount_path)) or ok())
        request = Request("GET", url)
        made.serve(request)
        assert seen == [(inner, "/api")]
        assert (request.url, request.mount_path) == (url, "")

    def test_a_prefix_is_whole_segments(self):
        made = Router()
        made.mount("/api", say("sub"))
        assert ask(made, "GET /apis").status == 404

    def test_mounts_nest(self):
        leaf = Router()
        leaf.get("/:x", lambda req: ok(f"{req.mount_path} {req.url} {req.param('x')}"))
        middle = Router()
        middle.mount("b/c", leaf)
        outer = Router()
        outer.mount("/a", middle)
        assert body(outer, "GET /a/b/c/d?q") == "/a/b/c /d?q d"

    def test_the_request_keeps_everything_else(self):
        seen = []
        made = Router()
        made.mount("/api", lambda req: seen.append(req) or ok())
        info = object()
        request = Request(
            "POST",
            "/api/x",
            b"body",
            "HTTP/1.0",
            SocketAddr("10.0.0.9", 1),
            True,
            headers={"A": "b"},
            tls_info=info,
        )
        request.params_mut()["tenant"] = "t"
        made.serve(request)
        inner = seen[0]
        assert (inner.method, inner.body, inner.version) == ("POST", b"body", "HTTP/1.0")
        assert (inner.peer, inner.expose_errors) == (SocketAddr("10.0.0.9", 1), True)
        assert (inner.tls_info, inner.headers["A"], inner.param("tenant")) == (info, "b", "t")

    def test_direct_routes_go_first_then_longer_prefixes_then_the_fallback(self):
        made = router("GET /api/direct")
        made.mount("/api", say("short"))
        made.mount("/api/v1", say("long"))
        made.fallback(say("left"))
        assert body(made, "GET /api/direct") == "GET /api/direct()"
        assert ask(made, "POST /api/direct").status == 405
        assert body(made, "GET /api/v1/x") == "long()"
        assert body(made, "GET /api/v2") == "short()"
        assert body(made, "GET /other") == "left()"

    def test_a_mounted_router_answers_its_own_misses(self):
        made = Router()
        made.mount("/api", router("GET /x"))
        made.fallback(say("left"))
        assert ask(made, "GET /api/y").status == 404
        assert ask(made, "POST /api/x").headers["Allow"] == "GET, HEAD"
        assert ask(made, "OPTIONS /api/x").status == 204

    @pytest.mark.parametrize("prefix", ["", "/", "//", "/:x", "/a/*", "*", "/a?b", None])
    def test_a_bad_prefix_is_refused(self, prefix):
        with pytest.raises(ValidationError, match="prefix"):
            Router().mount(prefix, say("x"))

    def test_a_prefix_twice_is_refused(self):
        made = Router()
        made.mount("/a", say("x"))
        with pytest.raises(ValidationError, match="mounted already"):
            made.mount("a/", say("y"))


class TestIntrospection:
    def test_routes_are_listed_as_they_were_registered(self):
        made = router("GET /", "POST users/:id/", "GET /files/:bucket/*")
        assert made.route_count() == 3
        assert [(route.method, route.path) for route in made.routes()] == [
            ("GET", "/"),
            ("POST", "/users/:id"),
            ("GET", "/files/:bucket/*"),
        ]
        assert made.route_method(1) == "POST"
        assert made.route_path_params(2) == ["bucket", "*"]
        assert [made.route_openapi_template(i) for i in range(3)] == [
            "/",
            "/users/{id}",
            "/files/{bucket}/{path}",
        ]
        with pytest.raises(IndexError):
            made.route_method(3)

    def test_a_route_shows_itself(self):
        assert repr(next(router("GET /é").routes())) == r"<Route GET /\xe9>"


class TestDispatch:
    def test_the_key_is_the_matched_route(self):
        made = router("GET /", "GET /users/:id")
        home, user = made.routes()
        assert made.dispatch_key(Request("GET", "/")) is home
        assert made.dispatch_key(Request("GET", "/users/1")) is user
        assert made.dispatch_key(Request("HEAD", "/users/2")) is user
        assert made.dispatch_key(Request("GET", "/none")) is made
        assert made.dispatch_key(Request("GET", "/%")) is made

    def test_the_key_below_a_mount_is_the_inner_one(self):
        inner = router("GET /x")
        plain = say("plain")
        made = Router()
        made.mount("/api", inner)
        made.mount("/fn", plain)
        assert made.dispatch_key(Request("GET", "/api/x")) is next(inner.routes())
        assert made.dispatch_key(Request("GET", "/api/y")) is inner
        assert made.dispatch_key(Request("GET", "/fn")) is plain

    def test_the_key_of_the_fallback_is_a_route(self):
        made = Router()
        made.fallback(dispatch("pool")(say("left")))
        key = made.dispatch_key(Request("GET", "/"))
        assert isinstance(key, Route)
        assert key.flare_dispatch == "pool"

    def test_a_route_knows_how_its_handler_is_to_run(self):
        marked = dispatch("pool")(say("x"))
        made = Router()
        made.get("/marked", marked)
        made.get("/object", FnHandler(marked))
        made.get("/keyword", marked, dispatch="inline")
        made.get("/none", say("x"))
        made.post("/decorated", dispatch="pool")(say("x"))
        found = [route.flare_dispatch for route in made.routes()]
        assert found == ["pool", "pool", "inline", None, "pool"]

    def test_an_unknown_mode_is_refused(self):
        with pytest.raises(ValidationError, match="dispatch"):
            Router().get("/", say("x"), dispatch="thread")


class TestWebSockets:
    @pytest.fixture
    def endpoint(self, monkeypatch):
        class WsEndpoint:
            def __init__(self, handler, **options):
                self.handler, self.options = handler, options

            def serve(self, req: Request) -> Response:
                return Response(101)

        module = types.ModuleType("flare.ws")
        module.WsEndpoint = WsEndpoint
        monkeypatch.setitem(sys.modules, "flare.ws", module)
        return WsEndpoint

    def test_ws_makes_a_get_route_of_an_endpoint(self, endpoint):
        made = Router()
        handler = object()
        made.ws("/chat/:room", handler, max_size=7)
        (route,) = made.routes()
        assert (route.method, route.path) == ("GET", "/chat/:room")
        assert isinstance(route.handler, endpoint)
        assert (route.handler.handler, route.handler.options) == (handler, {"max_size": 7})
        assert ask(made, "GET /chat/x").status == 101

    def test_ws_is_a_decorator_without_a_handler(self, endpoint):
        made = Router()

        @made.ws("/chat", max_size=7)
        def chat(socket) -> None: ...

        (route,) = made.routes()
        assert route.handler.handler is chat
