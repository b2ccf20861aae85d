"""What the arguments of a client and of its calls may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from flare.http.client.auth import Auth, ChallengedAuth
from flare.http.client.multipart import FilesLike
from flare.http.client.target import Params
from flare.http.client.tls_settings import Cert, Verify
from flare.http.proto.headers import HeaderMap
from flare.http.retry import RetryPolicy

__all__ = [
    "AuthLike",
    "BodyOptions",
    "CallHeaders",
    "CallOptions",
    "HeadersLike",
    "SingleBodyOptions",
    "SingleOptions",
    "TimeoutLike",
]

AuthLike = Auth | ChallengedAuth | Callable[[HeaderMap], None] | tuple[str, str]
HeadersLike = HeaderMap | Mapping[str, str] | Iterable[tuple[str, str]]
CallHeaders = HeaderMap | Mapping[str, str | None] | Iterable[tuple[str, str | None]]
TimeoutLike = float | tuple[float | None, float | None]


class CallOptions(TypedDict, total=False):
    """What each call may say for itself; ``HttpClient.request`` tells what each means."""

    headers: CallHeaders | None
    params: Params | None
    auth: AuthLike | None
    cookies: Mapping[str, str] | None
    timeout: TimeoutLike | None
    timeout_ms: int | None
    retry: RetryPolicy | None
    stream: bool
    follow_redirects: bool | None
    verify: Verify | None
    cert: Cert | None


class BodyOptions(CallOptions, total=False):
    """The same, for calls that may have a body."""

    json: Any
    data: Any
    files: FilesLike | None


class SingleOptions(CallOptions, total=False):
    """What a call without a client may say: besides, how to reach the server."""

    proxy: str | None
    trust_env: bool


class SingleBodyOptions(SingleOptions, BodyOptions, total=False):
    """The same, for calls that may have a body."""
