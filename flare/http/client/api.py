"""One request and done: a client of its own for each call, closed behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from flare.http.client.client import HttpClient
from flare.http.response import Response

if TYPE_CHECKING:
    from flare.http.client.call_options import BodyOptions, SingleBodyOptions, SingleOptions

__all__ = ["delete", "get", "head", "options", "patch", "post", "put", "request"]


def request(
    method: str,
    url: str,
    body: Any = None,
    *,
    proxy: str | None = None,
    trust_env: bool = True,
    **kwargs: Unpack[BodyOptions],
) -> Response:
    """One request; arguments, result and errors are those of ``HttpClient.request``, *proxy* and
    *trust_env* those of the constructor.

    The connection is closed after the response, and no cookie is kept beyond the redirects of this
    call. For more than one request to a server, an ``HttpClient`` keeps both.
    """
    with HttpClient(pool=False, proxy=proxy, trust_env=trust_env) as client:
        return client.request(method, url, body, **kwargs)


def get(url: str, **kwargs: Unpack[SingleOptions]) -> Response:
    """GET *url*; see ``request``."""
    return request("GET", url, **kwargs)


def head(url: str, **kwargs: Unpack[SingleOptions]) -> Response:
    """HEAD *url*; see ``request``."""
    return request("HEAD", url, **kwargs)


def options(url: str, **kwargs: Unpack[SingleOptions]) -> Response:
    """OPTIONS *url*; see ``request``."""
    return request("OPTIONS", url, **kwargs)


def delete(url: str, **kwargs: Unpack[SingleOptions]) -> Response:
    """DELETE *url*; see ``request``."""
    return request("DELETE", url, **kwargs)


def post(url: str, body: Any = None, **kwargs: Unpack[SingleBodyOptions]) -> Response:
    """POST *body* to *url*; see ``request``."""
    return request("POST", url, body, **kwargs)


def put(url: str, body: Any = None, **kwargs: Unpack[SingleBodyOptions]) -> Response:
    """PUT *body* at *url*; see ``request``."""
    return request("PUT", url, body, **kwargs)


def patch(url: str, body: Any = None, **kwargs: Unpack[SingleBodyOptions]) -> Response:
    """PATCH *url* with *body*; see ``request``."""
    return request("PATCH", url, body, **kwargs)
