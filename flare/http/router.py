"""From a request's method and path to the handler that answers it (RFC 9110 sections 9 and 15.5).

A path of literals alone is one look into a table; any other is looked up in a tree of patterns,
segment by segment. What is routed on is ``req.path`` and nothing else, so a check of ``req.path``
in front of a router sees what the router sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import copy
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast, overload

from flare.errors import ValidationError
from flare.http._routes import (
    BadPath,
    Match,
    Node,
    Route,
    RouteListing,
    check_method,
    path_segments,
    split_pattern,
)
from flare.http.handler import (
    DispatchMode,
    Handler,
    HandlerFunction,
    HandlerLike,
    as_handler_function,
    dispatch_key,
    key_source,
    may_stream_body,
)
from flare.http.request import Request
from flare.http.request_stream import StreamedRequest
from flare.http.response import Response, bad_request, not_found

__all__ = ["Match", "Route", "Router"]

_F = TypeVar("_F", bound=HandlerLike)
_LEFT_OUT: Final[Any] = object()


class _Register(Protocol):
    """``router.get`` and its kin: with a handler they register it, without one they decorate."""

    @overload
    def __call__(
        self,
        path: str,
        *,
        dispatch: DispatchMode | None = ...,
        stream_body: bool | None = ...,
        max_body_size: int | None = ...,
    ) -> Callable[[_F], _F]: ...
    @overload
    def __call__(
        self,
        path: str,
        handler: HandlerLike,
        *,
        dispatch: DispatchMode | None = ...,
        stream_body: bool | None = ...,
        max_body_size: int | None = ...,
    ) -> None: ...


class _Verb:
    """``Router.route`` with its method filled in."""

    def __init__(self, method: str) -> None:
        self._method = method
        self.__doc__ = f"``route`` for {method}: ``router.{method.lower()}(path, handler)``."

    def __get__(self, router: Router | None, owner: type[Router]) -> _Register:
        if router is None:
            return cast(_Register, self)
        return cast(_Register, partial(router.route, self._method))


class _Mount(NamedTuple):
    segments: tuple[str, ...]
    path: str
    handler: HandlerLike
    function: HandlerFunction


class Router(RouteListing, Handler):
    """Routes by method and path. Register everything before serving; then any thread may serve.

    ``router.get("/users/:id", handler)`` and so on, one method for each of HTTP's; without a
    handler they are decorators. ``:name`` captures one segment, a last ``*`` the rest, for
    ``req.param``. In each segment a literal goes before ``:name`` and that before ``*``, whatever
    the order of registration. Slashes that are doubled or at the end make no difference.

    HEAD is answered by the GET route where it has none of its own, OPTIONS with the methods the
    path has, a method it has not with 405, and a path nobody has with 404.
    """

    get = _Verb("GET")
    post = _Verb("POST")
    put = _Verb("PUT")
    patch = _Verb("PATCH")
    delete = _Verb("DELETE")
    head = _Verb("HEAD")
    options = _Verb("OPTIONS")
    trace = _Verb("TRACE")
    connect = _Verb("CONNECT")

    def __init__(self) -> None:
        self._routes: list[Route] = []
        self._patterns: set[tuple[str, tuple[str, ...]]] = set()
        self._root = Node()
        self._literals: dict[str, dict[str, Route]] = {}
        self._mounts: list[_Mount] = []
        self._fallback: Route | None = None
        self._keyed_fallback: Route | None = None  # the same, where it is asked for the key

    @overload
    def route(
        self,
        method: str,
        path: str,
        *,
        dispatch: DispatchMode | None = None,
        stream_body: bool | None = None,
        max_body_size: int | None = None,
    ) -> Callable[[_F], _F]: ...
    @overload
    def route(
        self,
        method: str,
        path: str,
        handler: HandlerLike,
        *,
        dispatch: DispatchMode | None = None,
        stream_body: bool | None = None,
        max_body_size: int | None = None,
    ) -> None: ...
    def route(
        self,
        method: str,
        path: str,
        handler: Any = _LEFT_OUT,
        *,
        dispatch: DispatchMode | None = None,
        stream_body: bool | None = None,
        max_body_size: int | None = None,
    ) -> Any:
        """Have *handler* answer *method* on *path*; a decorator where *handler* is left out.

        *dispatch* stands above the handler's own choice and the server's (see ``dispatch``), and
        so do *stream_body* and *max_body_size* (see ``stream_body``).
        Raises ``ValidationError`` for a bad method or pattern and for one registered before,
        ``TypeError`` for what is no handler.
        """
        check_method(method)
        segments = split_pattern(path)

        def register(handler: _F) -> _F:
            index = len(self._routes)
            self._add(Route(method, segments, handler, dispatch, index, stream_body, max_body_size))
            return handler

        if handler is _LEFT_OUT:
            return register
        register(handler)
        return None

    def _add(self, route: Route) -> None:
        identity = (route.method, route.segments)
        if identity in self._patterns:
            raise ValidationError("path", f"{route.method} {route.path!a} is registered already")
        self._patterns.add(identity)
        self._routes.append(route)
        self._root.add(route)
        if route.literal:
            self._literals.setdefault(route.method, {})[route.path] = route

    def mount(self, prefix: str, sub: HandlerLike) -> None:
        """Have *sub* answer whatever is below *prefix* and no route here takes.

        *sub* gets a request whose ``url`` is what follows the prefix, ``/`` at least, and whose
        ``mount_path`` is the prefix. Longer prefixes go first. Raises ``ValidationError`` for a
        prefix that is empty, not made of literals, or mounted before.
        """
        segments = split_pattern(prefix, "prefix")
        path = "/" + "/".join(segments)
        if not segments:
            raise ValidationError("prefix", "empty: use fallback() for whatever is left")
        if any(s == "*" or (s[0] == ":" and len(s) > 1) for s in segments):
            raise ValidationError("prefix", f"only literals can be mounted on: {prefix!a}")
        if any(mount.segments == segments for mount in self._mounts):
            raise ValidationError("prefix", f"{path!a} is mounted already")
        self._mounts.append(_Mount(segments, path, sub, as_handler_function(sub)))
        self._mounts.sort(key=lambda mount: -len(mount.segments))

    def fallback(self, handler: _F) -> _F:
        """Have *handler* answer what no route and no mount takes, in place of the 404.

        Works as a decorator. Raises ``ValidationError`` where there is one already.
        """
        if self._fallback is not None:
            raise ValidationError("fallback", "there is one already")
        route = self._fallback = Route("", (), handler)
        if hasattr(key_source(handler), "dispatch_key"):
            self._keyed_fallback = route
        return handler

    def ws(self, path: str, handler: Any = _LEFT_OUT, **options: Any) -> Any:
        """Have *handler* serve WebSockets on *path*: a GET route of
        ``flare.ws.WsEndpoint(handler, **options)``. A decorator where *handler* is left out."""
        from importlib import import_module

        # flare.ws stands above this module, so it is found by name and not imported at the top.
        endpoint = import_module("flare.ws").WsEndpoint

        def register(handler: _F) -> _F:
            self.get(path, endpoint(handler, **options))
            return handler

        if handler is _LEFT_OUT:
            return register
        register(handler)
        return None

    def serve(self, req: Request) -> Response:
        """Call the handler that *req* leads to, or answer 400, 404, 405 or an OPTIONS."""
        paths = self._literals.get(req.method)
        if paths is not None:
            route = paths.get(req.url)
            if route is not None:
                if type(req) is StreamedRequest:
                    req._bounded = not route.flare_stream_body
                return route.function(req)
        match = self._known(req)
        if match is None or match.request is not None:
            # What a mounted handler gets is made now: req may have changed since.
            match = self.match(req)
        if type(req) is StreamedRequest:
            _bound_body(req, match)
        return match.serve(req)

    __call__ = serve

    def resolve(self, req: Request) -> tuple[object, HandlerFunction]:
        """What ``dispatch_key`` says, and what ``serve`` would call: one look-up for both."""
        paths = self._literals.get(req.method)
        if paths is not None:
            route = paths.get(req.url)
            if route is not None:
                return route, route.function
        match = self.match(req)
        if match.request is not None or match.target is self._keyed_fallback:
            return self._key_of(match, req), match.serve
        return match.target, match.serve

    def literal_route(self, method: str, url: str) -> Route | None:
        """The route for *url* where it is a registered path to the letter. Registering more
        never changes it."""
        paths = self._literals.get(method)
        return paths.get(url) if paths is not None else None

    def dispatch_key(self, req: Request) -> object:
        """The matched ``Route``; for a mount or the fallback what its handler says; else this
        router."""
        match = self._known(req)
        if match is None:
            match = self.match(req)
            req._match = (self, req.method, req.url, match)
        return self._key_of(match, req)

    def _key_of(self, match: Match, req: Request) -> object:
        if match.request is not None:
            return dispatch_key(match.target, match.request)
        fallback = self._keyed_fallback
        if fallback is not None and match.target is fallback:
            return dispatch_key(fallback.handler, req)
        return match.target

    def _known(self, req: Request) -> Match | None:
        """The match found before for this very request."""
        known = getattr(req, "_match", None)
        if known is not None and known[:3] == (self, req.method, req.url):
            found: Match = known[3]
            return found
        return None

    def match(self, req: Request) -> Match:
        """Where *req* leads. Changes nothing about the request."""
        method = req.method
        path = req.url
        if "?" in path or "#" in path:
            path = req.path
        paths = self._literals.get(method)
        if paths is not None:
            route = paths.get(path)
            if route is not None:
                return route.match
        try:
            segments = path_segments(path)
        except BadPath as error:
            return Match(self, partial(_bad_path, str(error)))
        values: list[str] = []
        route = self._root.find(method, segments, 0, values)
        if route is None and method == "HEAD":
            route = self._root.find("GET", segments, 0, values)
        if route is None:
            return self._miss(req, path, segments)
        if not values:
            return route.match
        return Match(route, route.function, dict(zip(route.params, values, strict=True)))

    def _miss(self, req: Request, path: str, segments: list[str]) -> Match:
        """Who answers where no route does."""
        options = req.method == "OPTIONS"
        found = sorted(self._root.find_all(segments), key=lambda route: route.index)
        if options and path == "*":
            return Match(self, partial(_options, _allowed(self._methods(), options)))
        if found:
            allow = _allowed([route.method for route in found], options)
            return Match(self, partial(_options if options else _method_not_allowed, allow))
        for mount in self._mounts:
            if tuple(segments[: len(mount.segments)]) == mount.segments:
                return Match(mount.handler, mount.function, request=_below(req, mount))
        if self._fallback is not None:
            return self._fallback.match
        return Match(self, _not_found)

    def _may_stream_body(self, seen: set[int]) -> bool:
        if id(self) in seen:
            return False
        seen.add(id(self))
        handlers = [mount.handler for mount in self._mounts]
        if self._fallback is not None:
            handlers.append(self._fallback.handler)
        return any(route.flare_stream_body for route in self._routes) or any(
            may_stream_body(handler, seen) for handler in handlers
        )

    def _methods(self) -> list[str]:
        """The methods of all routes, those of mounted routers among them."""
        methods = [route.method for route in self._routes]
        for mount in self._mounts:
            if isinstance(mount.handler, Router):
                methods += mount.handler._methods()
        return methods

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._routes)} routes>"


def _bound_body(req: StreamedRequest, match: Match) -> None:
    """See to it that a handler which asked for no stream can read no more than other bodies have:
    who answers was foretold by the request as it came, and a middleware may have changed it."""
    target = match.target
    if isinstance(target, Route) and target.method:
        streams = target.flare_stream_body
    else:  # the fallback's handler, or one that is mounted
        streams = may_stream_body(target.handler if isinstance(target, Route) else target)
    req._bounded = not streams
    if match.request is not None:
        assert isinstance(match.request, StreamedRequest)
        match.request._bounded = not streams


_raw_segment = re.compile(r"/*[^/?#]+").match


def _below(req: Request, mount: _Mount) -> Request:
    """*req* as the handler under *mount* sees it. The rest of the URL stays as it was sent."""
    end = 0
    for _ in mount.segments:
        found = _raw_segment(req.url, end)
        assert found is not None
        end = found.end()
    rest = req.url[end:]
    inner = copy(req)
    inner.url = rest if rest.startswith("/") else f"/{rest}"
    inner._match = None
    inner.mount_path = req.mount_path + mount.path
    inner._params = req.params()
    return inner


def _allowed(methods: Iterable[str], options: bool) -> str:
    """The value of ``Allow`` for a path that has *methods*."""
    allow = dict.fromkeys(methods)
    names = [
        name
        for method in allow
        for name in (("GET", "HEAD") if method == "GET" and "HEAD" not in allow else (method,))
    ]
    if options and "OPTIONS" not in allow:
        names.append("OPTIONS")
    return ", ".join(names)


def _method_not_allowed(allow: str, req: Request) -> Response:
    response = Response(405, body="Method Not Allowed", headers={"Allow": allow})
    response.headers.set("Content-Type", "text/plain; charset=utf-8")
    return response


def _options(allow: str, req: Request) -> Response:
    return Response(204, headers={"Allow": allow})


def _not_found(req: Request) -> Response:
    return not_found(req.url if req.expose_errors else "")


def _bad_path(why: str, req: Request) -> Response:
    return bad_request(f"Bad Request: {why}" if req.expose_errors else "Bad Request")
