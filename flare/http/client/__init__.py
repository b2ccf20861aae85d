"""The HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare._lazy import lazy_exports

if TYPE_CHECKING:
    from flare.http.client.api import delete as delete
    from flare.http.client.api import get as get
    from flare.http.client.api import head as head
    from flare.http.client.api import options as options
    from flare.http.client.api import patch as patch
    from flare.http.client.api import post as post
    from flare.http.client.api import put as put
    from flare.http.client.api import request as request
    from flare.http.client.auth import Auth as Auth
    from flare.http.client.auth import BasicAuth as BasicAuth
    from flare.http.client.auth import BearerAuth as BearerAuth
    from flare.http.client.auth import ChallengedAuth as ChallengedAuth
    from flare.http.client.auth import Signing as Signing
    from flare.http.client.client import HttpClient as HttpClient
    from flare.http.client.cookie_jar import ClientCookieJar as ClientCookieJar
    from flare.http.client.cookie_jar import StoredCookie as StoredCookie
    from flare.http.client.digest import DigestAuth as DigestAuth
    from flare.http.client.download import HttpDownload as HttpDownload
    from flare.http.client.in_process import HandlerTransport as HandlerTransport
    from flare.http.client.multipart import MultipartBody as MultipartBody
    from flare.http.client.multipart import MultipartFormBuilder as MultipartFormBuilder
    from flare.http.client.proxy import Proxy as Proxy
    from flare.http.client.redirect import RedirectAction as RedirectAction
    from flare.http.client.redirect import RedirectDecision as RedirectDecision
    from flare.http.client.redirect import RedirectMode as RedirectMode
    from flare.http.client.redirect import RedirectPolicy as RedirectPolicy
    from flare.http.client.timeouts import CallTimeout as CallTimeout
    from flare.http.client.timeouts import ConnectTimeout as ConnectTimeout
    from flare.http.client.transport import Stream as Stream
    from flare.http.client.transport import TcpTransport as TcpTransport
    from flare.http.client.transport import Transport as Transport
    from flare.http.client.transport import UnixTransport as UnixTransport

# Digest and cookies, among others, are loaded by those who use them.
__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    globals(),
    {
        "flare.http.client.api": "delete get head options patch post put request",
        "flare.http.client.auth": "Auth BasicAuth BearerAuth ChallengedAuth Signing",
        "flare.http.client.client": "HttpClient",
        "flare.http.client.cookie_jar": "ClientCookieJar StoredCookie",
        "flare.http.client.digest": "DigestAuth",
        "flare.http.client.download": "HttpDownload",
        "flare.http.client.in_process": "HandlerTransport",
        "flare.http.client.multipart": "MultipartBody MultipartFormBuilder",
        "flare.http.client.proxy": "Proxy",
        "flare.http.client.redirect": """
            RedirectAction RedirectDecision RedirectMode RedirectPolicy
        """,
        "flare.http.client.timeouts": "CallTimeout ConnectTimeout",
        "flare.http.client.transport": "Stream TcpTransport Transport UnixTransport",
    },
)
