"""A router whose routes are one constant list, compiled once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from flare.http._routes import Match, Route, RouteListing
from flare.http.handler import Handler, HandlerLike
from flare.http.request import Request
from flare.http.response import Response
from flare.http.router import Router

__all__ = ["ComptimeRoute", "ComptimeRouter"]


@dataclass(frozen=True, slots=True)
class ComptimeRoute:
    """One route of a ``ComptimeRouter``: a method, a pattern as ``Router`` takes it, a handler."""

    method: str
    pattern: str
    handler: HandlerLike


# Tables kept by the identity of the list they came from. Programs have a few; the bound is for
# those that make lists as they go.
_MAX_TABLES = 128
_Kept = tuple[Any, tuple[Any, ...], type["ComptimeRouter"]]


class ComptimeRouter(RouteListing, Handler):
    """``Router`` for routes that never change: ``ComptimeRouter[ROUTES]()``.

    *ROUTES* is a tuple or list of ``ComptimeRoute``. ``ComptimeRouter[ROUTES]`` is a class, the
    same one each time for the same object; ``ComptimeRouter(ROUTES)`` does without it. A bad or
    repeated pattern raises ``ValidationError`` there, what is no handler ``TypeError``. Routing
    is ``Router``'s to the letter.
    """

    _classes: ClassVar[OrderedDict[int, _Kept]] = OrderedDict()
    _table: ClassVar[Router | None] = None

    def __init__(self, routes: Iterable[ComptimeRoute] | None = None) -> None:
        table = self._table
        if (table is None) == (routes is None):
            raise TypeError("write ComptimeRouter[ROUTES]() or ComptimeRouter(ROUTES)")
        self._router = table if table is not None else _compile(routes or ())
        self._routes: list[Route] = self._router._routes
        self._serve = self._router.serve

    def __class_getitem__(cls, routes: Any) -> type[ComptimeRouter]:
        if cls._table is not None:
            raise TypeError(f"{cls.__name__} has its routes already")
        if isinstance(routes, ComptimeRoute):
            routes = (routes,)
        listed = tuple(routes)
        kept = cls._classes.get(id(routes))
        # A list may have grown since, and its class must not.
        if kept is not None and kept[0] is routes and kept[1] == listed:
            return kept[2]
        name = f"{cls.__name__}[{len(listed)} routes]"
        made = type(name, (cls,), {"_table": _compile(listed), "__module__": cls.__module__})
        cls._classes[id(routes)] = (routes, listed, made)
        if len(cls._classes) > _MAX_TABLES:
            cls._classes.popitem(last=False)
        return made

    def serve(self, req: Request) -> Response:
        """Call the handler that *req* leads to, or answer 400, 404, 405 or an OPTIONS."""
        return self._serve(req)

    __call__ = serve

    def match(self, req: Request) -> Match:
        """Where *req* leads. Changes nothing about the request."""
        return self._router.match(req)

    def _may_stream_body(self, seen: set[int]) -> bool:
        return self._router._may_stream_body(seen)

    def dispatch_key(self, req: Request) -> object:
        """The matched ``Route``; else the router."""
        return self._router.dispatch_key(req)

    def __repr__(self) -> str:
        return f"<ComptimeRouter of {len(self._routes)} routes>"


def _compile(routes: Iterable[ComptimeRoute]) -> Router:
    router = Router()
    for route in routes:
        if not isinstance(route, ComptimeRoute):
            raise TypeError(f"expected a ComptimeRoute, got a {type(route).__name__}")
        router.route(route.method, route.pattern, route.handler)
    return router
