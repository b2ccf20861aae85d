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
# As text: it is compiled by the first who shows a URL. In part of a name, or the whole of a short
# one. A value that tells of nothing may be a URL, with names of its own behind a "?".
_SECRETS = (
    r"([?&;#](?i:[^=&;#?]*?(?:auth|code|cred|csrf|hash|jwt|key|nonce|otp|passw|pwd|secret|session|sig"
    r"|token|xsrf)[^=&;#?]*+|p|pass|pin|sid|state)=)[^&;#]++"
)
_MAX_URL_CHARS = 2000


def mask_userinfo(url: str) -> str:
    """*url* without the name and password in it, for messages and logs."""
    return _USERINFO.sub("", url)


def masked_url(url: str) -> str:
    """*url*, which has no userinfo, as one printable line: values whose names in query or fragment
    tell of secrets are masked."""
    shown = url[:_MAX_URL_CHARS]
    if "=" in shown:
        shown = re.sub(_SECRETS, r"\1***", shown)
    shown = ascii(shown)[1:-1]
    return shown if len(url) <= _MAX_URL_CHARS else shown + "..."


class HttpError(OSError):
    """A response that is no 2xx. ``response`` is that response, where there is one at hand.

    The text masks values in the URL's query whose names tell of secrets; ``url`` has them.
    """

    def __init__(
        self, status: int, reason: str = "", url: str = "", response: Response | None = None
    ) -> None:
        url = mask_userinfo(url)
        text = f"{type(self).__name__}: {status}"
        if reason:
            text += f" {reason}"
        super().__init__(f"{text} ({masked_url(url)})" if url else text)
        self.status = status
        self.reason = reason
        self.url = url
        self.response = response

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.reason, self.url, self.response)


class CrossOriginRedirect(HttpError):
    """A redirect to another origin under ``RedirectPolicy.same_origin_only()``."""


class TooManyRedirects(NetworkError):
    """More redirects than allowed; ``count`` were followed, the last answer came from ``url``,
    whose secrets the text masks as that of ``HttpError`` does."""

    def __init__(self, url: str, count: int) -> None:
        self.url = mask_userinfo(url)
        super().__init__(f"{count} redirects at {masked_url(self.url)}")
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
