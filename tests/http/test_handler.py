from __future__ import annotations

import types
from dataclasses import dataclass, field

import pytest

from flare.errors import ValidationError
from flare.http.cancel import Cancel
from flare.http.handler import (
    CancelHandler,
    FnHandler,
    FnHandlerCT,
    Handler,
    HandlerInfallible,
    WithCancel,
    WithRaises,
    as_handler_function,
    dispatch,
    dispatch_key,
)
from flare.http.request import Request
from flare.http.response import Response, ok

REQ = Request.test_get("/")


def hello(req: Request) -> Response:
    return ok("hello")


class Duck:
    def serve(self, req: Request) -> Response:
        return ok("duck")


class Greeter(Handler):
    name: str
    seen: list[str] = field(default_factory=list)

    def serve(self, req: Request) -> Response:
        return ok(self.name)


class TestFieldsOfHandlerClasses:
    def test_annotated_fields_make_a_constructor(self):
        assert Greeter("a").name == "a"
        assert Greeter(name="b", seen=["x"]).seen == ["x"]

    def test_default_factories_run_for_each_instance(self):
        assert Greeter("a").seen is not Greeter("a").seen

    def test_it_shows_its_fields(self):
        assert repr(Greeter("a")) == "Greeter(name='a', seen=[])"

    def test_it_is_compared_by_identity_and_hashable(self):
        assert Greeter("a") != Greeter("a")
        assert len({Greeter("a"), Greeter("a")}) == 2

    def test_a_missing_argument_is_named(self):
        with pytest.raises(TypeError, match=r"Greeter.__init__\(\) missing .* 'name'"):
            Greeter()

    def test_a_class_without_fields_takes_no_arguments(self):
        class Bare(Handler):
            def serve(self, req: Request) -> Response:
                return ok()

        assert Bare().serve(REQ).status == 200
        with pytest.raises(TypeError, match="positional"):
            Bare(1)

    def test_fields_of_base_classes_come_first(self):
        class Polite(Greeter):
            title: str = "Dr"

        polite = Polite("a", [], "Mx")
        assert (polite.name, polite.title) == ("a", "Mx")
        assert repr(Greeter("a")) == "Greeter(name='a', seen=[])"

    def test_an_explicit_dataclass_wins_with_all_its_options(self):
        @dataclass(kw_only=True)
        class Explicit(Handler):
            first: int = 1
            second: str
            rest: list[int] = field(default_factory=list)

            def serve(self, req: Request) -> Response:
                return ok()

        made = Explicit(second="x")
        assert (made.first, made.second, made.rest) == (1, "x", [])
        assert made == Explicit(second="x")
        with pytest.raises(TypeError):
            Explicit(1, "x")

    def test_a_frozen_slotted_dataclass_works(self):
        @dataclass(frozen=True, slots=True)
        class Frozen(Handler):
            number: int = 7

            def serve(self, req: Request) -> Response:
                return ok()

        assert Frozen() == Frozen(7)
        with pytest.raises(AttributeError):
            Frozen().number = 8

    def test_an_explicit_dataclass_sees_the_fields_of_an_implicit_one(self):
        @dataclass
        class Louder(Greeter):
            volume: int = 11

        louder = Louder("a", volume=12)
        assert (louder.name, louder.volume) == ("a", 12)

    def test_an_own_constructor_wins(self):
        class Own(Handler):
            name: str

            def __init__(self, number: int) -> None:
                self.name = str(number)

            def serve(self, req: Request) -> Response:
                return ok(self.name)

        assert Own(3).name == "3"

    def test_an_inherited_constructor_wins(self):
        class Base(Handler):
            def __init__(self, number: int) -> None:
                self.number = number

            def serve(self, req: Request) -> Response:
                return ok()

        class Derived(Base):
            extra: int = 0

        class Plain:
            def __init__(self, number: int) -> None:
                self.number = number

        class Mixed(Handler, Plain):
            extra: int = 0

            def serve(self, req: Request) -> Response:
                return ok()

        assert Derived(4).number == 4
        assert Mixed(5).number == 5

    def test_post_init_runs(self):
        class Doubled(Handler):
            number: int = 4

            def __post_init__(self) -> None:
                self.doubled = self.number * 2

            def serve(self, req: Request) -> Response:
                return ok()

        assert (Doubled().doubled, Doubled(5).doubled) == (8, 10)

    def test_a_class_without_serve_cannot_be_made(self):
        class Lazy(Handler):
            pass

        with pytest.raises(TypeError, match="serve"):
            Lazy()


class TestProtocols:
    @pytest.mark.parametrize("protocol", [Handler, HandlerInfallible, CancelHandler])
    def test_whatever_has_serve_is_an_instance(self, protocol):
        assert isinstance(Duck(), protocol)
        assert isinstance(Greeter("a"), protocol)
        assert not isinstance(hello, protocol)
        assert not isinstance(3, protocol)


class TestAsHandlerFunction:
    def test_a_handler_gives_its_bound_serve(self):
        assert as_handler_function(Duck())(REQ).body == b"duck"

    def test_a_plain_function_is_itself(self):
        assert as_handler_function(hello) is hello

    def test_serve_goes_before_call(self):
        class Both(Duck):
            def __call__(self, req: Request) -> Response:
                return ok("called")

        assert as_handler_function(Both())(REQ).body == b"duck"

    def test_a_callable_object_is_itself(self):
        class Callable:
            def __call__(self, req: Request) -> Response:
                return ok("called")

        assert as_handler_function(Callable())(REQ).body == b"called"

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (Duck, r"not the class Duck: write Duck\(\)"),
            (None, "not None"),
            (types, "not a module"),
            ("module:app", "not a str"),
            (ok(), "not a Response"),
        ],
    )
    def test_anything_else_is_refused_in_one_line(self, bad, message):
        with pytest.raises(TypeError, match=message) as caught:
            as_handler_function(bad)
        assert "\n" not in str(caught.value)


class TestAdapters:
    def test_fn_handler_serves_by_its_function(self):
        handler = FnHandler(hello)
        assert handler.f is hello
        assert handler.serve(REQ).body == handler(REQ).body == b"hello"
        assert isinstance(handler, Handler)
        assert repr(handler) == "FnHandler(hello)"

    def test_fn_handler_refuses_what_is_no_function(self):
        with pytest.raises(TypeError, match="not a Response"):
            FnHandler(ok())

    def test_fn_handler_ct_is_one_class_for_one_function(self):
        cls = FnHandlerCT[hello]
        assert cls is FnHandlerCT[hello]
        assert cls is not FnHandlerCT[lambda req: ok()]
        assert cls().serve(REQ).body == cls()(REQ).body == b"hello"
        assert isinstance(cls(), Handler)
        assert cls.__name__ == "FnHandlerCT[hello]"

    def test_fn_handler_ct_needs_its_function(self):
        with pytest.raises(TypeError, match="needs a function"):
            FnHandlerCT()
        with pytest.raises(TypeError, match="takes a function"):
            FnHandlerCT[3]
        with pytest.raises(TypeError, match="takes a function"):
            FnHandlerCT[hello][hello]

    @pytest.mark.parametrize("inner", [hello, FnHandler(hello)])
    def test_with_raises_forwards(self, inner):
        assert WithRaises(inner).serve(REQ).body == b"hello"
        assert WithRaises(inner)(REQ).body == b"hello"
        assert WithRaises(inner).inner is inner

    @pytest.mark.parametrize("inner", [hello, FnHandler(hello)])
    def test_with_cancel_forwards_and_drops_the_token(self, inner):
        assert WithCancel(inner).serve(REQ, Cancel.never()).body == b"hello"
        assert WithCancel(inner)(REQ, Cancel.never()).body == b"hello"

    def test_adapters_check_what_they_wrap(self):
        for adapter in (WithRaises, WithCancel):
            with pytest.raises(TypeError, match="not None"):
                adapter(None)


class TestDispatch:
    @pytest.mark.parametrize("mode", ["auto", "inline", "pool"])
    def test_it_marks_functions_and_classes(self, mode):
        @dispatch(mode)
        def marked(req: Request) -> Response:
            return ok()

        @dispatch(mode)
        class Marked(Duck):
            pass

        assert marked.flare_dispatch == mode
        assert Marked().flare_dispatch == mode
        assert not hasattr(Duck, "flare_dispatch")

    @pytest.mark.parametrize("mode", ["Pool", "", None, 3])
    def test_an_unknown_mode_is_refused(self, mode):
        with pytest.raises(ValidationError, match="dispatch"):
            dispatch(mode)

    def test_what_cannot_be_marked_is_refused(self):
        with pytest.raises(TypeError, match="marks a function"):
            dispatch("pool")(Duck().serve)

    def test_adapters_show_what_they_wrap(self):
        @dispatch("pool")
        def marked(req: Request) -> Response:
            return ok()

        assert FnHandler(marked).flare_dispatch == "pool"
        assert FnHandlerCT[marked]().flare_dispatch == "pool"
        assert WithRaises(marked).flare_dispatch == "pool"
        assert WithCancel(FnHandler(marked)).flare_dispatch == "pool"
        assert FnHandler(hello).flare_dispatch is None

    def test_the_key_of_a_wrapper_is_what_it_wraps(self):
        duck = Duck()
        assert dispatch_key(duck, REQ) is duck
        assert dispatch_key(hello, REQ) is hello
        assert dispatch_key(FnHandler(hello), REQ) is hello
        assert dispatch_key(WithRaises(WithRaises(duck)), REQ) is duck
        assert dispatch_key(WithCancel(duck), REQ) is duck
