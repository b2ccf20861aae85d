from __future__ import annotations

from dataclasses import dataclass

import pytest

from flare.http.app import App, State
from flare.http.handler import Handler, dispatch
from flare.http.request import Request
from flare.http.response import Response, ok
from flare.http.router import Router


@dataclass
class Counters:
    hits: int


def home(req: Request) -> Response:
    return ok("home")


class WithHits(Handler):
    inner: App
    snapshot: State

    def serve(self, req: Request) -> Response:
        response = self.inner.serve(req)
        response.headers.set("X-Hits", str(self.snapshot.get().hits))
        return response


def test_state_and_handler_stand_side_by_side_and_middleware_reads_the_state():
    router = Router()
    router.get("/", home)
    app = App(state=Counters(hits=37), handler=router)
    stack = WithHits(inner=app, snapshot=app.state_view())
    response = stack.serve(Request.test_get("/"))
    assert (response.body, response.headers["X-Hits"]) == (b"home", "37")
    app.state.hits += 1
    assert stack.serve(Request.test_get("/none")).headers["X-Hits"] == "38"


def test_an_app_serves_by_its_handler():
    app = App(None, home)
    assert app.serve(Request.test_get("/")).body == app(Request.test_get("/")).body == b"home"
    assert isinstance(app, Handler)
    assert (app.state, app.handler) == (None, home)
    with pytest.raises(TypeError, match="not None"):
        App({}, None)


def test_a_view_gives_the_object_itself_and_nothing_to_set_it_by():
    value = {"a": 1}
    view = App(value, home).state_view()
    assert view.get() is view.value is value
    with pytest.raises(AttributeError):
        view.value = {}
    assert repr(view) == "State({'a': 1})"


def test_as_an_extractor_a_state_stays_what_it_is():
    view = State(7)
    assert view.apply(Request.test_get("/")) is None
    assert view.get() == 7


def test_an_app_is_dispatched_as_its_handler_is():
    router = Router()
    router.get("/", home)
    request = Request.test_get("/")
    assert App(None, router).dispatch_key(request) is next(router.routes())
    assert App(None, home).dispatch_key(request) is home
    assert App(None, dispatch("pool")(lambda req: ok())).flare_dispatch == "pool"
    assert App(None, home).flare_dispatch is None


def test_both_can_be_subscripted_for_type_checkers():
    assert App[Counters, Router](Counters(1), Router()).state.hits == 1
    assert State[int](3).get() == 3
