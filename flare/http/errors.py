"""What an HTTP exchange can end with besides a response.

::

    OSError
    ├── HttpError                  raise_for_status() on anything but a 2xx
    │   └── CrossOriginRedirect    a redirect the policy does not follow
    └── NetworkError
        ├── HttpProtocolError      the server's answer is not HTTP (also a ValueError)
        ├── ProxyError             a proxy does not lead to the server
        └── TooManyRedirects       the chain is longer than allowed
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flare.errors import NetworkError

if TYPE_CHECKING:
    from flare.http.response import Response

__all__ = [
    "CrossOriginRedirect",
    "HttpError",
    "HttpProtocolError",
    "ProxyError",
    "TooManyRedirects",
]

_USERINFO = re.compile(r"(?<=://)[^/?#@]*@")


def mask_userinfo(url: str) -> str:
    """*url* without the name and password in it, for messages and logs."""
    return _USERINFO.sub("", url)


class HttpError(OSError):
    """A response that is no 2xx. ``response`` is that response, where there is one at hand."""

    def __init__(
        self, status: int, reason: str = "", url: str = "", response: Response | None = None
    ) -> None:
        url = mask_userinfo(url)
        text = f"{type(self).__name__}: {status}"
        if reason:
            text += f" {reason}"
        super().__init__(f"{text} ({url})" if url else text)
        self.status = status
        self.reason = reason
        self.url = url
        self.response = response

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.reason, self.url, self.response)


class CrossOriginRedirect(HttpError):
    """A redirect to another origin under ``RedirectPolicy.same_origin_only()``."""


class TooManyRedirects(NetworkError):
    """More redirects than allowed; ``count`` were followed, the last answer came from ``url``."""

    def __init__(self, url: str, count: int) -> None:
        self.url = mask_userinfo(url)
        super().__init__(f"{count} redirects at {self.url}")
        self.count = count

    def _arguments(self) -> tuple[str, int]:
        return self.url, self.count


class HttpProtocolError(NetworkError, ValueError):
    """The server's bytes are not the HTTP they should be; the connection was dropped."""


class ProxyError(NetworkError):
    """A proxy does not lead to the server. ``proxy`` is its ``host:port``; ``status`` what it
    answered, an HTTP status or a reply of SOCKS5, 0 where it did not."""

    def __init__(self, proxy: str, why: str, status: int = 0) -> None:
        super().__init__(f"proxy {proxy}: {why}")
        self.proxy = proxy
        self.why = why
        self.status = status

    def _arguments(self) -> tuple[Any, ...]:
        return self.proxy, self.why, self.status
