"""What a server calls: handlers, and the adapters between their shapes.

A handler is any object with ``serve(req) -> Response``, or any plain callable ``f(req)``. Servers
and routers ask ``as_handler_function`` once, at the start, for what they will call. A handler may
run on any thread, and several requests may be in it at once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    runtime_checkable,
)

from flare.errors import ValidationError
from flare.http.cancel import Cancel

if TYPE_CHECKING:
    from flare.http.request import Request
    from flare.http.request_view import RequestView
    from flare.http.response import Response, StreamingResponse

__all__ = [
    "CancelHandler",
    "DispatchMode",
    "FnHandler",
    "FnHandlerCT",
    "Handler",
    "HandlerFunction",
    "HandlerInfallible",
    "HandlerLike",
    "ViewHandler",
    "WithCancel",
    "WithRaises",
    "WithViewCancel",
    "as_handler_function",
    "dispatch",
    "dispatch_key",
    "stream_body",
]

DispatchMode = Literal["auto", "inline", "pool"]
HandlerFunction = Callable[["Request"], "Response"]


@runtime_checkable
@dataclass_transform(eq_default=False)
class Handler(Protocol):
    """Answers requests: ``serve(req)`` returns a ``Response`` or raises.

    Nobody needs to subclass it. A subclass that has annotated fields and no ``__init__``, its own
    or inherited, is a dataclass: it gets a constructor and a ``repr``; compared by identity. An
    explicit ``@dataclass`` or ``__init__`` wins.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Protocol not in cls.__bases__:
            _describe_fields(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        constructor = cls.__dict__.get(_CONSTRUCTOR) or _make_constructor(cls)
        constructor(self, *args, **kwargs)

    @abstractmethod
    def serve(self, req: Request, /) -> Response:
        """Answer *req*. What it raises is answered as ``flare.errors.map_handler_error`` says."""
        ...


# For type checkers alone. At run time Python 3.11 takes it for a member of the protocol.
del Handler.__dataclass_transform__  # type: ignore[attr-defined]

HandlerLike = Handler | Callable[["Request"], "Response | StreamingResponse[Any]"]
"""Whatever can be served: a handler, or a plain callable."""

_CONSTRUCTOR = "_flare_constructor"
_DATACLASS_NAMES = ("__dataclass_fields__", "__dataclass_params__", "__post_init__")


def _describe_fields(cls: type[Any]) -> None:
    """Make *cls* a dataclass but for its constructor, and leave its body as it was.

    Class decorators have not run yet. An explicit ``@dataclass`` must find the class as written,
    with the ``field()`` calls in it, and no ``__init__`` that it would keep.
    """
    if "__annotations__" not in cls.__dict__ or _written_init(cls) is not None:
        return
    written = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
    dataclass(init=False, eq=False)(cls)
    for name, value in written.items():
        setattr(cls, name, value)


def _written_init(cls: type[Any]) -> Callable[..., None] | None:
    """The ``__init__`` that *cls* has or inherits from a class that is no protocol."""
    for base in cls.__mro__[:-1]:
        if "__init__" in vars(base) and not getattr(base, "_is_protocol", False):
            return cast(Callable[..., None], vars(base)["__init__"])
    return None


def _make_constructor(cls: type[Any]) -> Callable[..., None]:
    """The constructor of a handler class that was written without one, made at its first use."""
    written = _written_init(cls)  # of a base class that comes behind Handler
    if written is not None:
        return written
    inherited = {name: getattr(cls, name) for name in _DATACLASS_NAMES if hasattr(cls, name)}
    base = type("base", (), inherited)
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    shadow: Any = dataclass(eq=False, repr=False)(type(cls.__name__, (base,), names))
    # No decorator will come any more: defaults take the places of their field() calls.
    for spec in fields(shadow):
        if isinstance(vars(cls).get(spec.name), Field):
            if spec.default is MISSING:
                delattr(cls, spec.name)
            else:
                setattr(cls, spec.name, spec.default)
    constructor: Callable[..., None] = shadow.__init__
    setattr(cls, _CONSTRUCTOR, constructor)
    return constructor


@runtime_checkable
class HandlerInfallible(Protocol):
    """A ``Handler`` that promises not to raise."""

    def serve(self, req: Request, /) -> Response: ...


@runtime_checkable
class CancelHandler(Protocol):
    """A handler that is told when its answer is no longer wanted.

    It has the method name of ``Handler``, so ``isinstance`` cannot tell them apart: where it is
    given, ``serve`` or ``serve_cancellable``, decides.
    """

    def serve(self, req: Request, cancel: Cancel, /) -> Response: ...


@runtime_checkable
class ViewHandler(Protocol):
    """A handler that reads the request where it was received, for ``serve_view``.

    The view is valid until ``serve_view`` returns; what outlives the call, a streamed body among
    it, must come from ``req.into_owned()``.
    """

    def serve_view(self, req: RequestView, cancel: Cancel, /) -> Response: ...


def as_handler_function(handler: object) -> HandlerFunction:
    """What to call with each request: ``handler.serve``, or *handler* itself if it is callable.

    Raises ``TypeError`` for a class in place of an instance, and for anything that cannot be
    called.
    """
    if isinstance(handler, type):
        name = handler.__name__
        raise TypeError(f"a handler must be an object, not the class {name}: write {name}()")
    serve = getattr(handler, "serve", None)
    if callable(serve):
        return cast(HandlerFunction, serve)
    if callable(handler):
        return cast(HandlerFunction, handler)
    what = "None" if handler is None else f"a {type(handler).__name__}"
    raise TypeError(f"a handler must be callable or have a serve method, not {what}")


def dispatch_key(handler: object, req: Request) -> object:
    """What the time that *req* takes in *handler* is remembered under.

    The answer of its ``dispatch_key(req)`` where it has that method, as routers have: the matched
    route. Else the same of its ``inner``, unless it is marked itself (``dispatch``,
    ``stream_body``); else the handler itself.
    """
    handler = key_source(handler)
    find = getattr(handler, "dispatch_key", None)
    return handler if find is None else find(req)


def key_source(handler: object) -> object:
    """Whom ``dispatch_key`` asks: *handler*, its ``inner``, the ``inner`` of that and so on, up to
    the first that has a ``dispatch_key`` or a mark of its own."""
    for _ in range(_MOST_LAYERS):
        if (
            hasattr(handler, "dispatch_key")
            or getattr(handler, "flare_dispatch", None) is not None
            or getattr(handler, "flare_stream_body", None) is not None
        ):
            break
        inner = getattr(handler, "inner", None)
        # A method of that name is another object each time, and nothing to remember by.
        if not _is_handler(inner) or inner is not getattr(handler, "inner", None):
            break
        handler = inner
    return handler


_T = TypeVar("_T")


def dispatch(mode: DispatchMode) -> Callable[[_T], _T]:
    """Say on which thread a handler function or handler class runs, whatever the server's own
    ``ServerConfig.dispatch``.

    ``"inline"`` is the reactor's own thread: for one that never blocks. ``"pool"`` is a pool
    thread: for one that always does. ``"auto"`` finds out. Raises ``ValidationError`` for any
    other *mode*.
    """
    check_dispatch(mode)

    def mark(handler: _T) -> _T:
        try:
            handler.flare_dispatch = mode  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            raise TypeError(
                f"dispatch() marks a function or a handler class, not a {type(handler).__name__}"
            ) from None
        return handler

    return mark


def check_dispatch(mode: object) -> None:
    """Raise ``ValidationError`` unless *mode* is a ``DispatchMode``."""
    if mode not in get_args(DispatchMode):
        raise ValidationError("dispatch", f"expected 'auto', 'inline' or 'pool', got {mode!r}")


def stream_body(max_body_size: int | None = None) -> Callable[[_T], _T]:
    """Have a handler function or handler class called as soon as the head of a request is there,
    to read the body from ``req.stream`` while it arrives.

    Such a handler never runs on the loop's thread. *max_body_size* is the most bytes it takes,
    instead of ``ServerConfig.max_body_size``. Raises ``ValidationError`` for a negative one.
    """
    check_stream_body(True, max_body_size)

    def mark(handler: _T) -> _T:
        try:
            handler.flare_stream_body = True  # type: ignore[attr-defined]
            handler.flare_max_body_size = max_body_size  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            raise TypeError(
                f"stream_body() marks a function or a handler class, not a {type(handler).__name__}"
            ) from None
        return handler

    return mark


def check_stream_body(stream_body: object, max_body_size: int | None) -> None:
    """Raise ``ValidationError`` for a limit that is none, or that nothing would keep to."""
    if max_body_size is not None:
        if not stream_body:
            raise ValidationError("max_body_size", "only a route with stream_body has its own")
        if max_body_size < 0:
            raise ValidationError("max_body_size", f"must be >= 0, got {max_body_size}")


def body_marks(handler: object) -> tuple[bool, int | None]:
    """What ``stream_body()`` set on *handler*, or on what it wraps."""
    for layer in _layers(handler):
        marked = getattr(layer, "flare_stream_body", None)
        if marked is not None:
            return bool(marked), getattr(layer, "flare_max_body_size", None)
    return False, None


def dispatch_mark(handler: object) -> DispatchMode | None:
    """What ``dispatch()`` set on *handler*, or on what it wraps."""
    for layer in _layers(handler):
        mode: DispatchMode | None = getattr(layer, "flare_dispatch", None)
        if mode is not None:
            return mode
    return None


def may_stream_body(handler: object, seen: set[int] | None = None) -> bool:
    """Whether a request for *handler* may be one that ``stream_body`` is for. *seen* are routers
    that are being asked: two may be each other's fallback."""
    layer = handler
    for layer in _layers(handler):
        ask = getattr(layer, "_may_stream_body", None)
        if ask is not None:
            return bool(ask(set() if seen is None else seen))
        if getattr(layer, "flare_stream_body", False):
            return True
    # One that wraps in its own way has only dispatch_key to tell what is in it.
    return hasattr(layer, "dispatch_key")


_MOST_LAYERS = 64  # one that wraps itself has no end


def _layers(handler: object) -> Iterator[object]:
    """*handler*, and what the adapters here, an ``App``, or a middleware wrap."""
    for _ in range(_MOST_LAYERS):
        yield handler
        found = (getattr(handler, name, None) for name in ("inner", "f", "handler"))
        inner = next(filter(_is_handler, found), None)
        if inner is None:
            return
        handler = inner


def _is_handler(what: object) -> bool:
    return not isinstance(what, type) and (
        callable(what) or hasattr(what, "serve") or hasattr(what, "serve_view")
    )


class FnHandler:
    """A plain function as a ``Handler``; ``f`` is the function. Still callable."""

    __slots__ = ("f",)

    def __init__(self, f: Callable[[Request], Response]) -> None:
        if not callable(f):
            raise TypeError(f"FnHandler takes a function, not a {type(f).__name__}")
        self.f = f

    @property
    def flare_dispatch(self) -> DispatchMode | None:
        """What ``dispatch()`` set on the function."""
        return getattr(self.f, "flare_dispatch", None)

    def dispatch_key(self, req: Request) -> object:
        """The function."""
        return self.f

    def serve(self, req: Request) -> Response:
        """What the function answers."""
        return self.f(req)

    __call__ = serve

    def __repr__(self) -> str:
        return f"FnHandler({getattr(self.f, '__qualname__', self.f)})"


class FnHandlerCT:
    """A function made part of a type: ``FnHandlerCT[f]()`` serves by calling ``f``.

    ``FnHandlerCT[f]`` is the same class each time.
    """

    f: ClassVar[Callable[[Request], Response]]
    _classes: ClassVar[dict[Any, type[FnHandlerCT]]] = {}

    def __new__(cls) -> FnHandlerCT:
        if cls is FnHandlerCT:
            raise TypeError("FnHandlerCT needs a function: FnHandlerCT[f]()")
        return super().__new__(cls)

    def __class_getitem__(cls, f: Callable[[Request], Response]) -> type[FnHandlerCT]:
        if cls is not FnHandlerCT or isinstance(f, type) or not callable(f):
            raise TypeError(f"FnHandlerCT takes a function, not {f!r}")
        made = cls._classes.get(f)
        if made is None:
            name = f"FnHandlerCT[{getattr(f, '__qualname__', f)}]"
            namespace: dict[str, Any] = {"f": staticmethod(f), "__module__": cls.__module__}
            for mark in ("flare_dispatch", "flare_stream_body", "flare_max_body_size"):
                if hasattr(f, mark):
                    namespace[mark] = getattr(f, mark)
            made = cls._classes.setdefault(f, type(name, (cls,), namespace))
        return made

    def serve(self, req: Request) -> Response:
        """What the function answers."""
        return type(self).f(req)

    __call__ = serve


class WithRaises:
    """A ``HandlerInfallible`` as a ``Handler``. In Python the two differ in their promise only."""

    __slots__ = ("_serve", "inner")

    def __init__(self, inner: HandlerInfallible | HandlerLike) -> None:
        self.inner = inner
        self._serve = as_handler_function(inner)

    @property
    def flare_dispatch(self) -> DispatchMode | None:
        """The inner handler's."""
        return getattr(self.inner, "flare_dispatch", None)

    def dispatch_key(self, req: Request) -> object:
        """The inner handler's."""
        return dispatch_key(self.inner, req)

    def serve(self, req: Request) -> Response:
        """What the inner handler answers."""
        return self._serve(req)

    __call__ = serve


class WithCancel:
    """A ``Handler`` as a ``CancelHandler``, which takes no notice of the token."""

    __slots__ = ("_serve", "inner")

    def __init__(self, inner: HandlerLike) -> None:
        self.inner = inner
        self._serve = as_handler_function(inner)

    @property
    def flare_dispatch(self) -> DispatchMode | None:
        """The inner handler's."""
        return getattr(self.inner, "flare_dispatch", None)

    def dispatch_key(self, req: Request) -> object:
        """The inner handler's."""
        return dispatch_key(self.inner, req)

    def serve(self, req: Request, cancel: Cancel) -> Response:
        """What the inner handler answers."""
        return self._serve(req)

    __call__ = serve


class WithViewCancel:
    """A ``Handler`` as a ``ViewHandler``: it gets the owned request, and no notice of the token."""

    __slots__ = ("_serve", "inner")

    def __init__(self, inner: HandlerLike) -> None:
        self.inner = inner
        self._serve = as_handler_function(inner)

    @property
    def flare_dispatch(self) -> DispatchMode | None:
        """The inner handler's."""
        return getattr(self.inner, "flare_dispatch", None)

    def dispatch_key(self, req: RequestView) -> object:
        """The inner handler's, for the very request that it will serve."""
        return dispatch_key(self.inner, req._owned_once())

    def serve_view(self, req: RequestView, cancel: Cancel) -> Response:
        """What the inner handler answers."""
        return self._serve(req._owned_once())

    __call__ = serve_view
