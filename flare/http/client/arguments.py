"""What a client makes of its arguments, and of those of its calls.

Each imports what it needs itself: most clients are given few of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flare.errors import ValidationError
from flare.http.client.transport import Transport, UnixTransport
from flare.http.proto.headers import HeaderMap

if TYPE_CHECKING:
    from flare.http.client.auth import Auth, ChallengedAuth
    from flare.http.client.cookie_jar import ClientCookieJar
    from flare.http.client.netrc_auth import NetrcCredentials
    from flare.http.retry import RetryPolicy

__all__ = [
    "as_auth",
    "as_cookie_jar",
    "as_transport",
    "checked_cookies",
    "checked_retry",
    "read_netrc",
]


def as_auth(auth: Any) -> Auth | ChallengedAuth | None:
    """The ``Auth`` that *auth* means: itself, a function, a pair of user name and password, or
    none. Raises ``TypeError``."""
    if auth is None:
        return None
    from flare.http.client.auth import as_auth

    return as_auth(auth)


def as_cookie_jar(cookies: Any) -> ClientCookieJar | None:
    """*cookies*, a jar, or ``None`` for what is not to be used as one. Raises ``TypeError``."""
    if cookies is None or isinstance(cookies, (bool, Mapping)):
        return None
    from flare.http.client.cookie_jar import ClientCookieJar

    if not isinstance(cookies, ClientCookieJar):
        name = type(cookies).__name__
        raise TypeError(f"cookies must be a bool, a mapping or a ClientCookieJar, not {name}")
    return cookies


def as_transport(transport: Any) -> Transport:
    """The transport that *transport* means: itself, ``unix:`` and a path, or a handler."""
    if isinstance(transport, str):
        scheme, _, path = transport.partition(":")
        if scheme != "unix":
            raise ValidationError("transport", f"must be 'unix:/path', not {transport!a}")
        return UnixTransport(path)
    # A router has a connect(), too.
    is_handler = callable(getattr(transport, "serve", None))
    if not is_handler and isinstance(transport, Transport) and not isinstance(transport, type):
        return transport
    from flare.http.client.in_process import HandlerTransport

    try:
        return HandlerTransport(transport)
    except TypeError:
        name = type(transport).__name__
        raise TypeError(f"transport must have connect() or be a handler, not a {name}") from None


def checked_retry(retry: Any) -> RetryPolicy:
    """*retry*, which must be a policy. Raises ``TypeError``."""
    from flare.http.retry import RetryPolicy

    if not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, not {type(retry).__name__}")
    return retry


def checked_cookies(cookies: Mapping[str, str], headers: HeaderMap | None) -> dict[str, str] | None:
    """The cookies of one call. Raises ``TypeError``, and as ``Cookie.to_request_pair`` does."""
    if not isinstance(cookies, Mapping):
        raise TypeError(
            f"cookies of a call must be a mapping of names and values, not {type(cookies).__name__}"
        )
    if headers is not None and "cookie" in headers:
        raise ValidationError("cookies", "give them, or a Cookie field, not both")
    from flare.http.proto.cookie import Cookie

    for name, value in cookies.items():
        Cookie(name, value).to_request_pair()
    return dict(cookies) or None


def read_netrc(netrc: bool | str | os.PathLike[str]) -> NetrcCredentials | None:
    """The credentials in the user's file, where *netrc* is true, or in the one it names."""
    if netrc is False:
        return None
    from flare.http.client.netrc_auth import NetrcCredentials

    return NetrcCredentials(None if netrc is True else netrc)
