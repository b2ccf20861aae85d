"""Credentials for a request: Basic (RFC 7617) and Bearer (RFC 6750), or whatever a program needs.

An ``Auth`` gives what is known beforehand; a ``ChallengedAuth``, like ``DigestAuth``, answers what
the server says in a 401. Either is asked once for each attempt to send, so a token may change
between two of them, and every field it sets is sent. It is never asked for another origin than the
one it was meant for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from flare.errors import ValidationError
from flare.http.proto.headers import HeaderMap

__all__ = ["Auth", "BasicAuth", "BearerAuth", "ChallengedAuth", "Signing", "as_auth"]


@runtime_checkable
class Auth(Protocol):
    """Anything with ``apply(headers)``, which sets what authenticates a request.

    *headers* is an empty map of its own. Several threads may call it at once. A plain function
    that takes the map fits wherever an ``Auth`` does.
    """

    def apply(self, headers: HeaderMap, /) -> None: ...


@dataclass(frozen=True, slots=True, repr=False)
class BasicAuth:
    """A user name and a password (RFC 7617), encoded as UTF-8.

    A colon in *username*, which would end it early, raises ``ValidationError``, and so does a
    control character in either.

    >>> headers = HeaderMap()
    >>> BasicAuth("Aladdin", "open sesame").apply(headers)
    >>> headers["Authorization"]
    'Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=='
    """

    username: str
    password: str

    def __post_init__(self) -> None:
        if ":" in self.username:
            raise ValidationError("username", "may not contain ':'")
        for name in ("username", "password"):
            if any(c < " " or c == "\x7f" for c in getattr(self, name)):
                raise ValidationError(name, "may not contain control characters")

    def apply(self, headers: HeaderMap) -> None:
        """Set ``Authorization``."""
        from binascii import b2a_base64

        pair = f"{self.username}:{self.password}".encode()
        headers.set("Authorization", f"Basic {b2a_base64(pair, newline=False).decode('ascii')}")

    def __repr__(self) -> str:
        return "BasicAuth(username='***', password='***')"


@dataclass(frozen=True, slots=True, repr=False)
class BearerAuth:
    """A bearer token (RFC 6750). One that is no field value raises ``HeaderInjectionError`` when
    it is applied, before anything is sent."""

    token: str

    def apply(self, headers: HeaderMap) -> None:
        """Set ``Authorization``."""
        headers.set("Authorization", f"Bearer {self.token}")

    def __repr__(self) -> str:
        return "BearerAuth(token='***')"


class Signing(NamedTuple):
    """The request that a ``ChallengedAuth`` is asked about.

    ``origin`` is ``scheme://host:port``, ``target`` the request target (path and query), ``body``
    the whole body, or ``None`` where it is streamed.
    """

    method: str
    origin: str
    target: str
    body: bytes | None


class ChallengedAuth(ABC):
    """An auth that answers challenges. Several threads may call it at once."""

    @abstractmethod
    def authorize(self, request: Signing, headers: HeaderMap) -> None:
        """Set what authenticates *request* in *headers*, an empty map; nothing as long as the
        server has not said what it wants."""

    @abstractmethod
    def challenged(self, request: Signing, challenges: Iterable[str], *, again: bool) -> bool:
        """*request* was answered with 401 and these ``WWW-Authenticate`` values: whether to send
        it once more. *again* says that this call was challenged before."""


class _FunctionAuth:
    """A function in the place of an ``Auth``."""

    __slots__ = ("apply",)

    def __init__(self, apply: Callable[[HeaderMap], None]) -> None:
        self.apply = apply


def as_auth(auth: Any) -> Auth | ChallengedAuth | None:
    """The ``Auth`` that *auth* means: itself, a function, or a pair of user name and password."""
    if auth is None or isinstance(auth, (ChallengedAuth, Auth)):
        return auth
    if isinstance(auth, tuple) and len(auth) == 2:
        return BasicAuth(*auth)
    if callable(auth):
        return _FunctionAuth(auth)
    raise TypeError(f"auth must have apply(headers), or be a pair, not {type(auth).__name__}")
