"""Every error of the I/O wing, and the two general ones, in one tree.

::

    ValueError
    ├── ValidationError          an argument of ours is wrong; nothing was sent
    └── AddressParseError        text that is no address
    OSError
    ├── IoError                  an operation failed, by name and errno
    └── NetworkError             anything a socket can do to us
        ├── ConnectionRefused    (ConnectionRefusedError)
        ├── ConnectionTimeout    (TimeoutError)
        ├── ConnectionReset      (ConnectionResetError)
        ├── BrokenPipe           (BrokenPipeError)
        ├── AddressInUse
        ├── Timeout              (TimeoutError)
        └── UnexpectedEof        (EOFError)
    Exception
    └── HttpStatusError          a handler's own choice of status

Each class is also the nearest one of the standard library, so ``except OSError`` and
``except TimeoutError`` written for the stdlib catch them. All can be pickled and copied. This
module imports no ``socket``, so that pure protocol code can raise them; ``DnsError``, whose base
is ``socket.gaierror``, lives in ``flare.net``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

from flare._record import FrozenRecord

__all__ = [
    "AddressInUse",
    "AddressParseError",
    "BrokenPipe",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionTimeout",
    "HttpStatusError",
    "IoError",
    "MappedHandlerError",
    "NetworkError",
    "Timeout",
    "UnexpectedEof",
    "ValidationError",
    "http_reason_phrase",
    "map_handler_error",
    "map_oserror",
    "parse_status_error",
]


class ValidationError(ValueError):
    """An argument or a setting is wrong. Raised before anything is sent or opened."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"ValidationError({self.field}): {self.reason}"


class AddressParseError(ValueError):
    """Text that is not an IP address, not a socket address, or not a host name; ``reason`` says
    why, where that is not to be seen."""

    def __init__(self, input: str, reason: str = "") -> None:
        super().__init__(*((input, reason) if reason else (input,)))
        self.input = input
        self.reason = reason

    def __str__(self) -> str:
        text = f"AddressParseError: invalid address {self.input!r}"
        return f"{text}: {self.reason}" if self.reason else text


class IoError(OSError):
    """An operation failed for a reason no narrower class names. ``code`` is an errno, or 0."""

    def __init__(self, op: str, code: int = 0, detail: str = "") -> None:
        if code:
            super().__init__(code, detail or os.strerror(code))
        else:
            super().__init__(detail)
        self.op = op
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        tail = f" (errno={self.code})" if self.code else ""
        return f"IoError({self.op}): {self.detail}{tail}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.op, self.code, self.detail), self.__dict__


class NetworkError(OSError):
    """A network operation failed. ``code`` is the errno, or 0 where the cause is no system call.

    ``attempts`` are the errors of every address tried, where there were several.
    """

    attempts: Sequence[OSError] = ()

    def __init__(self, message: str, code: int = 0) -> None:
        if code:
            super().__init__(code, message)
        else:
            super().__init__(message)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        number = f"(errno {self.code})" if self.code else ""
        return f"{type(self).__name__}{number}: {self.message}"

    def _arguments(self) -> tuple[Any, ...]:
        """What the constructor takes to make this error again."""
        return self.message, self.code

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments(), self.__dict__


class _PeerError(NetworkError):
    """An error whose text is the peer it happened with."""

    def __init__(self, addr: str, code: int) -> None:
        super().__init__(addr, code)
        self.addr = addr

    def __str__(self) -> str:
        name = type(self).__name__
        return f"{name}: {self.addr}" if self.addr else name

    def _arguments(self) -> tuple[Any, ...]:
        return self.addr, self.code


class ConnectionRefused(_PeerError, ConnectionRefusedError):
    """Nobody listens at the address (ECONNREFUSED; on a Unix socket also ENOENT)."""

    def __init__(self, addr: str, code: int = errno.ECONNREFUSED) -> None:
        super().__init__(addr, code)

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({os.strerror(self.code)})" if self.code == errno.ENOENT else text


class ConnectionTimeout(_PeerError, TimeoutError):
    """No connection in time: the system's ETIMEDOUT, or our own deadline of ``timeout_ms``."""

    def __init__(self, addr: str, code: int = errno.ETIMEDOUT, *, timeout_ms: int = 0) -> None:
        super().__init__(addr, code)
        self.timeout_ms = timeout_ms


class ConnectionReset(_PeerError, ConnectionResetError):
    """The peer cut the connection off (ECONNRESET)."""

    def __init__(self, addr: str, code: int = errno.ECONNRESET) -> None:
        super().__init__(addr, code)


class AddressInUse(_PeerError):
    """The address is taken (EADDRINUSE)."""

    def __init__(self, addr: str, code: int = errno.EADDRINUSE) -> None:
        super().__init__(addr, code)


class BrokenPipe(_PeerError, BrokenPipeError):
    """A write after the peer stopped reading, or after our own ``shutdown_write`` (EPIPE)."""

    def __init__(self, addr: str = "", code: int = errno.EPIPE) -> None:
        super().__init__(addr, code)


class Timeout(NetworkError, TimeoutError):
    """A read or a write found nothing to do within ``ms`` milliseconds (0: did not wait).

    ``sent`` is how many bytes a ``write_all`` had handed to the system before.
    """

    sent: int = 0

    def __init__(self, op: str, ms: int = 0) -> None:
        super().__init__(op, errno.EAGAIN)
        self.op = op
        self.ms = ms

    def __str__(self) -> str:
        return f"Timeout: {self.op} ({self.ms} ms)" if self.ms else f"Timeout: {self.op}"

    def _arguments(self) -> tuple[Any, ...]:
        return self.op, self.ms


class UnexpectedEof(NetworkError, EOFError):
    """The stream ended before as much arrived as was asked for. ``partial`` is what did."""

    def __init__(self, message: str, partial: bytes = b"") -> None:
        super().__init__(message)
        self.partial = partial

    def __str__(self) -> str:
        return f"NetworkError: {self.message}"

    def _arguments(self) -> tuple[Any, ...]:
        return self.message, self.partial


def map_oserror(exc: OSError, op: str, addr: object = "", *, ms: int = 0) -> NetworkError:
    """Turn a system error into ours, by errno. *ms* is the timeout a ``Timeout`` names.

    The one table of the project; raise the result ``from exc``. *addr* becomes text only where
    the class names it.
    """
    if isinstance(exc, NetworkError):
        return exc
    code = exc.errno or 0
    match code:
        case errno.ECONNREFUSED:
            return ConnectionRefused(str(addr))
        case errno.ETIMEDOUT:
            return ConnectionTimeout(str(addr))
        case errno.ECONNRESET:
            return ConnectionReset(str(addr))
        case errno.EADDRINUSE:
            return AddressInUse(str(addr))
        case errno.EPIPE:
            return BrokenPipe(str(addr))
        case errno.EAGAIN | errno.EWOULDBLOCK:
            return Timeout(op, ms)
        case _:
            return NetworkError(f"{os.strerror(code) if code else exc} ({op})", code)


class HttpStatusError(Exception):
    """Raised by a handler to answer with *status*; *message* is shown to the client.

    A status outside 100..599 is answered as 500.
    """

    def __init__(self, status: int, message: str | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"HttpStatusError({self.status}): {self.message or http_reason_phrase(self.status)}"


# RFC 9110 section 15, RFC 6585, RFC 7725, RFC 8297, RFC 4918, RFC 5842, RFC 2295, RFC 2774.
# Not http.HTTPStatus: its phrases for 413, 414, 416 and 422 differ between Python versions.
REASON_PHRASES: dict[int, str] = {
    100: "Continue",
    101: "Switching Protocols",
    102: "Processing",
    103: "Early Hints",
    200: "OK",
    201: "Created",
    202: "Accepted",
    203: "Non-Authoritative Information",
    204: "No Content",
    205: "Reset Content",
    206: "Partial Content",
    207: "Multi-Status",
    208: "Already Reported",
    226: "IM Used",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    305: "Use Proxy",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    418: "I'm a teapot",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    423: "Locked",
    424: "Failed Dependency",
    425: "Too Early",
    426: "Upgrade Required",
    428: "Precondition Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    451: "Unavailable For Legal Reasons",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    506: "Variant Also Negotiates",
    507: "Insufficient Storage",
    508: "Loop Detected",
    510: "Not Extended",
    511: "Network Authentication Required",
}

_CLASS_PHRASES = {2: "OK", 3: "Redirect", 4: "Client Error", 5: "Server Error"}


def http_reason_phrase(status: int) -> str:
    """The registered phrase of *status* (RFC 9110 section 15), or one for its class."""
    phrase = REASON_PHRASES.get(status)
    return phrase if phrase is not None else _CLASS_PHRASES.get(status // 100, "Unknown")


class MappedHandlerError(FrozenRecord):
    """What an exception out of a handler is answered with: the status and the text shown."""

    __slots__ = ("status", "reason")

    status: int
    reason: str

    def __init__(self, status: int, reason: str) -> None:
        self._set(status=status, reason=reason)


def map_handler_error(exc: BaseException, expose: bool) -> MappedHandlerError:
    """The answer for an exception out of a handler.

    ``HttpStatusError`` chooses its own status and text, ``ValidationError`` is 400, any other is
    500. Other texts than ``HttpStatusError``'s are shown only when *expose* is true.
    """
    if isinstance(exc, HttpStatusError):
        if not 100 <= exc.status <= 599:
            return MappedHandlerError(500, http_reason_phrase(500))
        return MappedHandlerError(exc.status, exc.message or http_reason_phrase(exc.status))
    status = 400 if isinstance(exc, ValidationError) else 500
    return MappedHandlerError(status, str(exc) if expose else http_reason_phrase(status))


def parse_status_error(text: str) -> HttpStatusError | None:
    """Read back the ``str()`` of an ``HttpStatusError``; ``None`` where *text* is not one."""
    head, separator, message = text.partition("): ")
    number = head.removeprefix("HttpStatusError(")
    if not separator or number == head or not (number.isascii() and number.isdigit()):
        return None
    return HttpStatusError(int(number), message)
