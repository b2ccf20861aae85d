from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.errors import ValidationError
from flare.http.comptime_router import ComptimeRoute, ComptimeRouter
from flare.http.request import Request
from flare.http.response import Response, ok
from flare.http.router import Router

REQ = Request.test_get("/")


def home(req: Request) -> Response:
    return ok("home")


def user(req: Request) -> Response:
    return ok(f"user={req.param('id')}")


ROUTES = (ComptimeRoute("GET", "/", home), ComptimeRoute("GET", "/users/:id", user))


def test_it_routes():
    made = ComptimeRouter[ROUTES]()
    assert made.serve(REQ).body == b"home"
    assert made(Request.test_get("/users/7")).body == b"user=7"
    assert made.serve(Request("POST", "/")).status == 405
    assert made.serve(Request.test_get("/x")).status == 404


def test_the_same_tuple_gives_the_same_class():
    assert ComptimeRouter[ROUTES] is ComptimeRouter[ROUTES]
    assert ComptimeRouter[ROUTES] is not ComptimeRouter[ROUTES[:1]]
    assert ComptimeRouter[ROUTES].__name__ == "ComptimeRouter[2 routes]"


def test_a_list_that_has_grown_gives_another_class():
    routes = list(ROUTES)
    first = ComptimeRouter[routes]
    assert ComptimeRouter[routes] is first
    routes.append(ComptimeRoute("GET", "/x", home))
    assert ComptimeRouter[routes] is not first
    assert (first().route_count(), ComptimeRouter[routes]().route_count()) == (2, 3)


def test_routes_may_stand_in_the_brackets():
    one = ComptimeRouter[ComptimeRoute("GET", "/", home)]
    two = ComptimeRouter[ComptimeRoute("GET", "/", home), ComptimeRoute("PUT", "/", home)]
    assert (one().route_count(), two().route_count()) == (1, 2)


def test_it_can_do_without_the_class():
    made = ComptimeRouter(ROUTES)
    assert made.serve(Request.test_get("/users/7")).body == b"user=7"
    assert [route.path for route in made.routes()] == ["/", "/users/:id"]
    assert made.route_openapi_template(1) == "/users/{id}"
    assert made.dispatch_key(Request.test_get("/users/7")) is list(made.routes())[1]
    assert made.match(REQ).params is None


def test_it_needs_its_routes_once():
    with pytest.raises(TypeError, match="ROUTES"):
        ComptimeRouter()
    with pytest.raises(TypeError, match="ROUTES"):
        ComptimeRouter[ROUTES](ROUTES)
    with pytest.raises(TypeError, match="already"):
        ComptimeRouter[ROUTES][ROUTES]


@pytest.mark.parametrize("make", [ComptimeRouter, ComptimeRouter.__class_getitem__])
@pytest.mark.parametrize(
    ("routes", "error"),
    [
        ([ComptimeRoute("GET", "/*/x", home)], ValidationError),
        ([ComptimeRoute("GET", "/:a/:a", home)], ValidationError),
        ([ComptimeRoute("GET", "/a/*b", home)], ValidationError),
        ([ComptimeRoute("get", "/", home)], ValidationError),
        ([ComptimeRoute("GET", "/", home), ComptimeRoute("GET", "", home)], ValidationError),
        ([ComptimeRoute("GET", "/", None)], TypeError),
        ([("GET", "/", home)], TypeError),
    ],
)
def test_a_bad_route_is_refused_when_the_table_is_made(make, routes, error):
    with pytest.raises(error):
        make(routes)


def test_many_tables_do_not_pile_up():
    for _ in range(200):
        ComptimeRouter[(ComptimeRoute("GET", "/", home),)]
    assert len(ComptimeRouter._classes) <= 128


def test_a_route_is_frozen():
    with pytest.raises(AttributeError):
        ROUTES[0].method = "POST"


# A matcher with no tree, no table and no shortcut: every route is tried, the best one taken.

_RANK = {"literal": 0, "param": 1, "wildcard": 2}


def _kind(segment: str) -> str:
    if segment == "*":
        return "wildcard"
    return "param" if segment.startswith(":") and segment != ":" else "literal"


def _capture(pattern: list[str], path: list[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    for i, segment in enumerate(pattern):
        if i >= len(path):
            return None
        match _kind(segment):
            case "wildcard":
                return params | {"*": "/".join(path[i:])}
            case "param":
                params[segment[1:]] = path[i]
            case _:
                if path[i] != segment:
                    return None
    return params if len(pattern) == len(path) else None


def naive(routes: list[tuple[str, str]], method: str, path: str) -> tuple[object, ...]:
    segments = [segment for segment in path.split("/") if segment]
    taken = []
    for number, (name, pattern) in enumerate(routes):
        params = _capture(pattern.split("/")[1:] if pattern != "/" else [], segments)
        if params is not None:
            rank = [_RANK[_kind(segment)] for segment in pattern.split("/")[1:]]
            taken.append((name, rank, number, params))
    for wanted in (method, "GET") if method == "HEAD" else (method,):
        best = min((t for t in taken if t[0] == wanted), key=lambda t: t[1:3], default=None)
        if best is not None:
            return 200, best[2], best[3]
    if not taken:
        return (404,)
    allow = list(dict.fromkeys(t[0] for t in taken))
    if "GET" in allow and "HEAD" not in allow:
        allow.insert(allow.index("GET") + 1, "HEAD")
    if method == "OPTIONS":
        return 204, ", ".join([*allow, "OPTIONS"])
    return 405, ", ".join(allow)


def outcome(made: Router | ComptimeRouter, method: str, path: str) -> tuple[object, ...]:
    response = made.serve(Request(method, path))
    match response.status:
        case 200:
            number, params = response.json()
            return 200, number, params
        case 204 | 405:
            return response.status, response.headers["Allow"]
        case status:
            return (status,)


def _answer(number: int):
    import json

    return lambda req: Response(body=json.dumps([number, req.params()]))


names = st.sampled_from(["a", "b", ":", ":x", ":y"])


@st.composite
def patterns(draw: st.DrawFn) -> str:
    segments = draw(st.lists(names, max_size=4))
    if draw(st.booleans()) and draw(st.booleans()):
        segments.append("*")
    captured = [s for s in segments if _kind(s) == "param"]
    if len(set(captured)) != len(captured):
        segments = [f":p{i}" if _kind(s) == "param" else s for i, s in enumerate(segments)]
    return "/" + "/".join(segments)


methods = st.sampled_from(["GET", "POST", "HEAD"])
tables = st.lists(st.tuples(methods, patterns()), max_size=12, unique=True)
paths = st.lists(st.sampled_from(["a", "b", "c", ":", ""]), max_size=6).map(
    lambda segments: "/" + "/".join(segments)
)


@given(tables, st.lists(paths, min_size=1, max_size=8))
def test_both_routers_agree_with_a_naive_matcher(table, urls):
    dynamic = Router()
    for number, (method, pattern) in enumerate(table):
        dynamic.route(method, pattern, _answer(number))
    fixed = ComptimeRouter(
        [ComptimeRoute(m, p, _answer(number)) for number, (m, p) in enumerate(table)]
    )
    for url in urls:
        for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
            expected = naive(table, method, url)
            assert outcome(dynamic, method, url) == expected
            assert outcome(fixed, method, url) == expected


@given(st.text(alphabet="/%?#:*aé\x00%2F7", max_size=30))
def test_any_target_gets_an_answer(url):
    made = ComptimeRouter[ROUTES]()
    assert made.serve(Request("GET", url)).status in (200, 400, 404)
