"""What goes wrong on HTTP/2, with the code that says so on the wire (RFC 9113 section 7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from flare.errors import NetworkError

__all__ = ["H2Error", "H2ErrorCode", "HpackError", "Http2Error", "Http2ErrorCode", "code_name"]


class Http2ErrorCode(IntEnum):
    """The registered codes. A code that is not among them stays a plain ``int``."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


def code_name(code: int) -> str:
    """``"PROTOCOL_ERROR"`` and so on; a code that is not registered in hexadecimal."""
    try:
        return Http2ErrorCode(code).name
    except ValueError:
        return hex(code)


class Http2Error(NetworkError):
    """The connection, or one stream of it, cannot go on.

    ``code`` is the error code that went or came over the wire, an ``Http2ErrorCode`` where it is
    registered; ``stream_id`` the stream, 0 for the whole connection; ``debug`` a short text for
    logs, which quotes nothing of a header.
    """

    def __init__(self, code: int, stream_id: int = 0, debug: str = "") -> None:
        super().__init__(debug)
        try:
            self.code = Http2ErrorCode(code)
        except ValueError:
            self.code = code
        self.stream_id = stream_id
        self.debug = debug

    def __str__(self) -> str:
        where = f" on stream {self.stream_id}" if self.stream_id else ""
        tail = f": {self.debug}" if self.debug else ""
        return f"{type(self).__name__}({code_name(self.code)}){where}{tail}"

    def _arguments(self) -> tuple[Any, ...]:
        return int(self.code), self.stream_id, self.debug


class HpackError(Http2Error, ValueError):
    """A header block that cannot be decoded: COMPRESSION_ERROR, for the whole connection."""

    def __init__(self, debug: str = "") -> None:
        super().__init__(Http2ErrorCode.COMPRESSION_ERROR, 0, debug)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.debug,)


H2Error = Http2Error
H2ErrorCode = Http2ErrorCode
