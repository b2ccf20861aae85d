"""An application: a handler, and the state that its handlers share."""

from __future__ import annotations

from typing import Generic, TypeVar

from flare.http.handler import DispatchMode, Handler, HandlerLike, as_handler_function, dispatch_key
from flare.http.request import Request
from flare.http.response import Response

__all__ = ["App", "State"]

T = TypeVar("T")
S = TypeVar("S")
H = TypeVar("H", bound=HandlerLike)


class State(Generic[T]):
    """A view of a value: read it with ``get()``; there is no way to put another in its place.

    ``get()`` gives the object itself, every time, so a mutable one is shared by all who hold a
    view. Handlers run on several threads at once: what they change needs a lock, and with
    process workers each process has an object of its own.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    @property
    def value(self) -> T:
        """The same as ``get()``."""
        return self._value

    def get(self) -> T:
        """The object."""
        return self._value

    def apply(self, req: Request) -> None:
        """Nothing: as a field of an ``Extracted`` handler the state stays what it is."""

    def __repr__(self) -> str:
        return f"State({self._value!r})"


class App(Handler, Generic[S, H]):
    """*handler* with *state* at its side; serves as the handler does."""

    def __init__(self, state: S, handler: H) -> None:
        self.state = state
        self.handler = handler
        self._serve = as_handler_function(handler)

    def state_view(self) -> State[S]:
        """A view of the state, for handlers and middleware to hold."""
        return State(self.state)

    @property
    def flare_dispatch(self) -> DispatchMode | None:
        """The handler's."""
        return getattr(self.handler, "flare_dispatch", None)

    def dispatch_key(self, req: Request) -> object:
        """The handler's."""
        return dispatch_key(self.handler, req)

    def serve(self, req: Request) -> Response:
        """What the handler answers."""
        return self._serve(req)

    __call__ = serve

    def __repr__(self) -> str:
        return f"App({self.handler!r})"
