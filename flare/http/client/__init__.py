"""The HTTP client."""

from flare.http.client.api import delete, get, head, options, patch, post, put, request
from flare.http.client.auth import Auth, BasicAuth, BearerAuth
from flare.http.client.client import HttpClient
from flare.http.client.download import HttpDownload
from flare.http.client.multipart import MultipartBody, MultipartFormBuilder
from flare.http.client.redirect import (
    RedirectAction,
    RedirectDecision,
    RedirectMode,
    RedirectPolicy,
)
from flare.http.client.timeouts import CallTimeout, ConnectTimeout
from flare.http.client.transport import Stream, TcpTransport, Transport

__all__ = [
    "HttpClient",
    "HttpDownload",
    "MultipartBody",
    "MultipartFormBuilder",
    "request",
    "get",
    "head",
    "options",
    "post",
    "put",
    "patch",
    "delete",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "RedirectPolicy",
    "RedirectMode",
    "RedirectAction",
    "RedirectDecision",
    "CallTimeout",
    "ConnectTimeout",
    "Transport",
    "Stream",
    "TcpTransport",
]
