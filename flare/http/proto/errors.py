"""What a peer can do wrong on the HTTP/1.1 wire and in forms, each with the status it gets."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["HttpParseError"]


class HttpParseError(ValueError):
    """Bytes that are not the HTTP they should be.

    ``variant`` says which rule they broke; two errors of one variant are equal. ``status`` is
    what a server answers with (400 unless named otherwise below). ``detail`` quotes at most a
    short printable slice of the input.
    """

    TRAILING_PERCENT: ClassVar[int] = 1
    INVALID_HEX: ClassVar[int] = 2
    BAD_REQUEST_LINE: ClassVar[int] = 3
    BAD_METHOD: ClassVar[int] = 4
    BAD_TARGET: ClassVar[int] = 5
    BAD_VERSION: ClassVar[int] = 6
    UNSUPPORTED_VERSION: ClassVar[int] = 7  # 505
    URI_TOO_LONG: ClassVar[int] = 8  # 414
    BAD_LINE_END: ClassVar[int] = 9
    BAD_FIELD_LINE: ClassVar[int] = 10
    BAD_FIELD_VALUE: ClassVar[int] = 11
    FIELDS_TOO_LARGE: ClassVar[int] = 12  # 431
    BAD_HOST: ClassVar[int] = 13
    BAD_CONTENT_LENGTH: ClassVar[int] = 14
    BAD_TRANSFER_ENCODING: ClassVar[int] = 15
    UNSUPPORTED_TRANSFER_CODING: ClassVar[int] = 16  # 501
    BODY_TOO_LARGE: ClassVar[int] = 17  # 413
    BAD_CHUNK: ClassVar[int] = 18
    BAD_TRAILER: ClassVar[int] = 19
    UNKNOWN_EXPECTATION: ClassVar[int] = 20  # 417
    BAD_STATUS_LINE: ClassVar[int] = 21
    TOO_MANY_INTERIM: ClassVar[int] = 22
    TRUNCATED: ClassVar[int] = 23
    BAD_MULTIPART: ClassVar[int] = 24
    FORM_TOO_LARGE: ClassVar[int] = 25  # 413

    def __init__(self, variant: int, detail: str = "", status: int | None = None) -> None:
        super().__init__(variant, detail, status)
        self.variant = variant
        self.detail = detail
        self.status = _STATUS.get(variant, 400) if status is None else status

    def variant_name(self) -> str:
        """``"BAD_CHUNK"`` and so on; ``"UNKNOWN"`` for a number that is none of ours."""
        return _NAMES.get(self.variant, "UNKNOWN")

    def __str__(self) -> str:
        text = f"HttpParseError({self.variant_name()})"
        return f"{text}: {self.detail}" if self.detail else text

    def __eq__(self, other: object) -> bool:
        if isinstance(other, HttpParseError):
            return self.variant == other.variant
        return NotImplemented

    def __hash__(self) -> int:
        return hash((HttpParseError, self.variant))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.variant, self.detail, self.status)


_NAMES: dict[int, str] = {
    value: name
    for name, value in vars(HttpParseError).items()
    if name.isupper() and isinstance(value, int)
}
_STATUS: dict[int, int] = {
    HttpParseError.UNSUPPORTED_VERSION: 505,
    HttpParseError.URI_TOO_LONG: 414,
    HttpParseError.FIELDS_TOO_LARGE: 431,
    HttpParseError.UNSUPPORTED_TRANSFER_CODING: 501,
    HttpParseError.BODY_TOO_LARGE: 413,
    HttpParseError.FORM_TOO_LARGE: 413,
    HttpParseError.UNKNOWN_EXPECTATION: 417,
}
_SHOWN = 40


def excerpt(data: bytes | bytearray) -> str:
    """A short printable slice of hostile bytes, for an error's text."""
    text = ascii(bytes(data[:_SHOWN]).decode("latin-1"))
    return text if len(data) <= _SHOWN else f"{text}..."
