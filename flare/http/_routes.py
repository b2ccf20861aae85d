"""Patterns of paths, and the tree they are looked up in.

A pattern is split at ``/``; a segment of it is a literal, ``:name`` for any one segment, or, at
the end, ``*`` for one or more. Segments of a request's path are percent-decoded after the split,
so that ``%2F`` stays inside its segment (RFC 3986 section 2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from flare.errors import ValidationError
from flare.http.handler import (
    DispatchMode,
    HandlerFunction,
    HandlerLike,
    as_handler_function,
    body_marks,
    check_dispatch,
    check_stream_body,
    dispatch_mark,
)

if TYPE_CHECKING:
    from flare.http.request import Request
    from flare.http.response import Response

__all__ = [
    "BadPath",
    "Match",
    "Node",
    "Route",
    "RouteListing",
    "check_method",
    "path_segments",
    "split_pattern",
]

_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_METHODS = frozenset("GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH".split())

_bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_decode_escapes = re.compile(r"(?:%[0-9A-Fa-f]{2})+").sub


class BadPath(ValueError):
    """The path of a request has a percent-escape that is none, or that is no UTF-8."""


def path_segments(path: str) -> list[str]:
    """The decoded segments of *path*, empty ones dropped. Raises ``BadPath``."""
    segments = path.split("/")
    if segments[0] == "":
        del segments[0]
    if "" in segments:
        segments = [segment for segment in segments if segment]
    if "%" not in path:
        return segments
    if _bad_escape(path):
        raise BadPath("a % in the path is not followed by two hexadecimal digits")
    try:
        return [_decode_escapes(_decoded, segment) for segment in segments]
    except UnicodeDecodeError:
        raise BadPath("a percent-escape in the path is not UTF-8") from None


def _decoded(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8")


def split_pattern(path: str, field: str = "path") -> tuple[str, ...]:
    """The segments of a pattern. Raises ``ValidationError`` naming *field*."""
    if not isinstance(path, str):
        raise ValidationError(field, f"expected a str, got a {type(path).__name__}")
    if "?" in path or "#" in path:
        raise ValidationError(field, f"a pattern has no query and no fragment: {path!a}")
    segments = tuple(segment for segment in path.split("/") if segment)
    if "*" in segments[:-1]:
        raise ValidationError(field, f"'*' must be the last segment: {path!a}")
    if any(len(segment) > 1 and segment[0] == "*" for segment in segments):
        raise ValidationError(field, f"the rest has no name but '*', as in /files/*: {path!a}")
    names = _captures(segments)
    if len(set(names)) != len(names):
        raise ValidationError(field, f"a parameter is named twice: {path!a}")
    return segments


def _is_param(segment: str) -> bool:
    return len(segment) > 1 and segment[0] == ":"


def _captures(segments: tuple[str, ...]) -> tuple[str, ...]:
    names = [segment[1:] for segment in segments if _is_param(segment)]
    return (*names, "*") if segments[-1:] == ("*",) else tuple(names)


class Route:
    """One registered route.

    ``method`` and ``path`` are what it answers (the path normalised: one leading slash, no
    trailing one), ``handler`` what was registered, ``params`` the names it captures, ``"*"``
    among them. ``flare_dispatch`` is the dispatch mode chosen for it, or ``None``;
    ``flare_stream_body`` whether it reads its body from ``req.stream``, and
    ``flare_max_body_size`` how much of it, ``None`` for what the server takes.
    """

    __slots__ = (
        "flare_dispatch",
        "flare_max_body_size",
        "flare_stream_body",
        "function",
        "handler",
        "index",
        "match",
        "method",
        "params",
        "path",
        "segments",
    )

    def __init__(
        self,
        method: str,
        segments: tuple[str, ...],
        handler: HandlerLike,
        dispatch: DispatchMode | None = None,
        index: int = 0,
        stream_body: bool | None = None,
        max_body_size: int | None = None,
    ) -> None:
        self.function = as_handler_function(handler)
        marked, limit = body_marks(handler)
        if stream_body is None:
            stream_body = marked
        check_stream_body(stream_body, max_body_size)
        if max_body_size is None:
            max_body_size = limit
        self.flare_stream_body = bool(stream_body)
        self.flare_max_body_size = max_body_size
        if dispatch is None:
            dispatch = dispatch_mark(handler)
        if dispatch is not None:
            check_dispatch(dispatch)
        self.method = method
        self.segments = segments
        self.path = "/" + "/".join(segments)
        self.handler = handler
        self.flare_dispatch = dispatch
        self.params = _captures(segments)
        self.index = index
        self.match: Final = Match(self, self.function)

    @property
    def literal(self) -> bool:
        """Whether its path, and no other spelling of it, reaches it without any decoding."""
        return not self.params and "%" not in self.path

    @property
    def openapi_template(self) -> str:
        """The path as OpenAPI writes it: ``/users/{id}``, and ``{path}`` for ``*``."""
        shown = [
            f"{{{segment[1:]}}}" if _is_param(segment) else "{path}" if segment == "*" else segment
            for segment in self.segments
        ]
        return "/" + "/".join(shown)

    def __repr__(self) -> str:
        return f"<Route {self.method} {ascii(self.path)[1:-1]}>"


class Match:
    """Where a request leads: ``target`` is the ``Route``, or whoever else answers it.

    ``params`` is what the path captured; ``request`` the request as a mounted handler sees it,
    else ``None``. Good for the one request that was matched.
    """

    __slots__ = ("function", "params", "request", "target")

    def __init__(
        self,
        target: object,
        function: HandlerFunction,
        params: dict[str, str] | None = None,
        request: Request | None = None,
    ) -> None:
        self.target = target
        self.function = function
        self.params = params
        self.request = request

    def serve(self, req: Request) -> Response:
        """Answer *req*, the request this was made for."""
        if self.request is not None:
            return self.function(self.request)
        params = self.params
        if params is not None:
            if req._params is None:
                req._params = params
            else:
                req._params.update(params)
        return self.function(req)

    def __repr__(self) -> str:
        return f"<Match {self.target!r}>"


def check_method(method: str) -> None:
    """Raise ``ValidationError`` for a method that is no token, or misspelt in lower case."""
    if not isinstance(method, str) or not _is_token(method):
        raise ValidationError("method", f"not a token: {method!a}")
    if method not in _METHODS and method.upper() in _METHODS:
        raise ValidationError("method", f"methods are case-sensitive: write {method.upper()}")


class Node:
    """A place in the tree of patterns: below it one child a literal, one for ``:name``, and the
    routes, by method, that end here or end here in ``*``."""

    __slots__ = ("literals", "param", "routes", "wildcards")

    def __init__(self) -> None:
        self.literals: dict[str, Node] = {}
        self.param: Node | None = None
        self.routes: dict[str, Route] = {}
        self.wildcards: dict[str, Route] = {}

    def add(self, route: Route) -> None:
        """Enter *route* below this node, the root. Of equal shapes the first entered stays."""
        node = self
        for segment in route.segments:
            if segment == "*":
                node.wildcards.setdefault(route.method, route)
                return
            if _is_param(segment):
                if node.param is None:
                    node.param = Node()
                node = node.param
            else:
                node = node.literals.setdefault(segment, Node())
        node.routes.setdefault(route.method, route)

    def find(self, method: str, segments: list[str], at: int, values: list[str]) -> Route | None:
        """The route for *segments* from *at* on; what it captures is appended to *values*.

        In each segment a literal goes before ``:name``, and that before ``*``. Every node is
        looked at no more than once, so a path costs at most the size of the tree.
        """
        if at == len(segments):
            return self.routes.get(method)
        segment = segments[at]
        child = self.literals.get(segment)
        if child is not None:
            route = child.find(method, segments, at + 1, values)
            if route is not None:
                return route
        child = self.param
        if child is not None:
            values.append(segment)
            route = child.find(method, segments, at + 1, values)
            if route is not None:
                return route
            values.pop()
        if self.wildcards:
            route = self.wildcards.get(method)
            if route is not None:
                values.append("/".join(segments[at:]))
            return route
        return None

    def find_all(self, segments: list[str], at: int = 0) -> Iterator[Route]:
        """Every route that takes *segments* from *at* on, under whatever method."""
        if at == len(segments):
            yield from self.routes.values()
            return
        yield from self.wildcards.values()
        for child in (self.literals.get(segments[at]), self.param):
            if child is not None:
                yield from child.find_all(segments, at + 1)


class RouteListing:
    """The questions one can ask a router about its routes, numbered as they were registered."""

    __slots__ = ()
    _routes: list[Route]

    def routes(self) -> Iterator[Route]:
        """The routes, in the order of their registration."""
        return iter(tuple(self._routes))

    def route_count(self) -> int:
        """How many routes there are."""
        return len(self._routes)

    def route_method(self, i: int) -> str:
        """The method of the route number *i*."""
        return self._routes[i].method

    def route_path_params(self, i: int) -> list[str]:
        """The names that the route number *i* captures, in order."""
        return list(self._routes[i].params)

    def route_openapi_template(self, i: int) -> str:
        """The path of the route number *i* as OpenAPI writes it."""
        return self._routes[i].openapi_template
