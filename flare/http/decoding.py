"""Content codings undone as the bytes come, never further than asked (RFC 9110 section 8.4).

A body is pulled: ``decoded`` wraps a ``read(n)`` of coded bytes in one of plain bytes, one stage
for each coding. A stage holds one piece of input and gives about *n* bytes for it (brotli: 32 KiB
where *n* is less), so that the memory it takes does not depend on what the peer claims, and
nothing is decoded that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

__all__ = ["MAX_CODINGS", "DecodingError", "accepted_codings", "decoded", "parse_codings"]

MAX_CODINGS = 5
"""The most codings one body may have; nobody means more."""

# How much coded input a stage takes at once: zlib copies what it could not use yet.
_INPUT_BYTES = 32 * 1024
# Members of a gzip body without a byte in them, one after the other; they cost time for nothing.
_MAX_EMPTY_MEMBERS = 64
# RFC 9659: what a sender may ask a recipient to keep for zstd, 8 MiB.
_ZSTD_WINDOW_LOG = 23

Read = Callable[[int], bytes]


class DecodingError(ValueError):
    """Bytes that are not what their coding says, or more of them than allowed (``too_large``)."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class _Codec(Protocol):
    """One coding. ``decode`` is given input only where ``hungry``, else nothing."""

    hungry: bool
    finished: bool

    def decode(self, data: bytes, n: int, /) -> bytes: ...


class _Gzip:
    """gzip members one after the other (RFC 1952 section 2.2), or one zlib stream.

    Bytes behind the last member that begin no other are left alone, as other clients do.
    """

    def __init__(self) -> None:
        import zlib

        self._new = zlib.decompressobj
        self._error = zlib.error
        self._stream = zlib.decompressobj(47)
        self._rest = b""
        self._members = 0
        self._empty = 0
        self._began = False
        self._gave = False
        self.hungry = True
        self.finished = False

    def decode(self, data: bytes, n: int) -> bytes:
        data = self._rest + data
        while True:
            if not self._began and self._members:
                # Between members: does another one begin?
                if len(data) < 2 and b"\x1f\x8b".startswith(data):
                    self._rest, self.hungry, self.finished = data, True, True
                    return b""
                self.finished = True
                if not data.startswith(b"\x1f\x8b"):
                    self._rest, self.hungry = b"", True
                    return b""
                self._stream = self._new(31)
            self._began = True
            self.finished = False
            try:
                out = self._stream.decompress(data, n)
            except self._error as error:
                raise DecodingError(f"not gzip: {error}") from None
            self._gave = self._gave or bool(out)
            if not self._stream.eof:
                self._rest = self._stream.unconsumed_tail
                self.hungry = not self._rest and len(out) < n
                return out
            data = self._rest = self._stream.unused_data
            self._end_member()
            self.hungry = not data
            if out or self.hungry:
                return out

    def _end_member(self) -> None:
        self._members += 1
        self._empty = 0 if self._gave else self._empty + 1
        self._began = self._gave = False
        self.finished = True
        if self._empty > _MAX_EMPTY_MEMBERS:
            raise DecodingError(f"over {_MAX_EMPTY_MEMBERS} empty gzip members")


class _Deflate:
    """ "deflate" as both kinds of senders mean it: zlib (RFC 1950), or bare deflate (RFC 1951)."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._rest = b""
        self.hungry = True
        self.finished = False

    def decode(self, data: bytes, n: int) -> bytes:
        import zlib

        data = self._rest + data
        if self._stream is None:
            if len(data) < 2:
                self._rest = data
                return b""
            is_zlib = data[0] & 0x8F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(15 if is_zlib else -15)
        if self.finished:
            return b""
        try:
            out: bytes = self._stream.decompress(data, n)
        except zlib.error as error:
            raise DecodingError(f"not deflate: {error}") from None
        self.finished = self._stream.eof
        self._rest = b"" if self.finished else self._stream.unconsumed_tail
        self.hungry = self.finished or (not self._rest and len(out) < n)
        return out


class _Brotli:
    """Brotli (RFC 7932), by the ``brotli`` package."""

    def __init__(self) -> None:
        brotli: Any = import_module("brotli")
        self._stream = brotli.Decompressor()
        self._error: type[Exception] = brotli.error
        self.hungry = True
        self.finished = False

    def decode(self, data: bytes, n: int) -> bytes:
        if self.finished:
            # The decoder itself refuses this where it comes in one piece with the end.
            raise DecodingError("not brotli: data behind its end")
        try:
            out: bytes = self._stream.process(data, output_buffer_limit=n)
        except self._error as error:
            raise DecodingError(f"not brotli: {error}") from None
        self.finished = self._stream.is_finished()
        self.hungry = self.finished or (len(out) < n and self._stream.can_accept_more_data())
        return out


class _Zstd:
    """Zstandard frames (RFC 8878), by the standard library from Python 3.14 on."""

    def __init__(self) -> None:
        zstd: Any = import_module("compression.zstd")
        self._error: type[Exception] = zstd.ZstdError
        self._new: Callable[[], Any] = lambda: zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        )
        self._stream = self._new()
        self.hungry = True
        self.finished = False

    def decode(self, data: bytes, n: int) -> bytes:
        if self._stream.eof:
            data = self._stream.unused_data + data
            self._stream = self._new()
        try:
            out: bytes = self._stream.decompress(data, n)
        except self._error as error:
            raise DecodingError(f"not zstd: {error}") from None
        self.finished = self._stream.eof
        self.hungry = not self._stream.unused_data if self.finished else self._stream.needs_input
        return out


_CODECS: dict[str, Callable[[], _Codec]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


@cache
def _available(coding: str) -> bool:
    """Whether *coding* can be undone here."""
    if coding == "br":
        return find_spec("brotli") is not None
    if coding == "zstd":
        return find_spec("compression") is not None and find_spec("compression.zstd") is not None
    return coding in _CODECS


@cache
def accepted_codings() -> str:
    """The ``Accept-Encoding`` that says what can be undone here."""
    return ", ".join(each for each in ("gzip", "deflate", "br", "zstd") if _available(each))


def parse_codings(value: str) -> list[str] | None:
    """The codings of a ``Content-Encoding``, in the order they were applied; ``None`` where one of
    them cannot be undone here. Raises ``DecodingError`` for more than ``MAX_CODINGS``."""
    codings = [each.strip(" \t").lower() for each in value.split(",", MAX_CODINGS + 16)]
    codings = [each for each in codings if each not in ("", "identity")]
    if len(codings) > MAX_CODINGS:
        raise DecodingError(f"over {MAX_CODINGS} content codings")
    return codings if all(_available(each) for each in codings) else None


class _Stage:
    """One coding of a body."""

    def __init__(self, read: Read, coding: str, limit: int) -> None:
        self._read = read
        self._coding = coding
        self._codec = _CODECS[coding]()
        self._limit = limit
        self._given = 0
        self._began = False
        self._ended = False

    def read(self, n: int) -> bytes:
        """About *n* bytes at most; ``b""`` at the end."""
        codec = self._codec
        while not self._ended:
            data = b""
            if codec.hungry:
                data = self._read(_INPUT_BYTES)
                if not data:
                    self._ended = True
                    if self._began and not codec.finished:
                        raise DecodingError(f"the {self._coding} data has no end")
                    break
                self._began = True
            out = codec.decode(data, n)
            if out:
                self._given += len(out)
                if self._limit and self._given > self._limit:
                    raise DecodingError("too much decoded data", too_large=True)
                return out
        return b""


def decoded(read: Read, codings: Sequence[str], limit: int) -> Read:
    """A ``read(n)`` of what *read* gives, with *codings* undone: about *n* bytes at most, ``b""``
    at the end.

    Each coding may bring forth at most *limit* bytes, 0 for any number. What comes behind the end
    of gzip and deflate data is read and dropped. Raises ``DecodingError`` for data that is corrupt,
    cut short or too much; a body without a byte is none of these.
    """
    for coding in reversed(codings):
        read = _Stage(read, coding, limit).read
    return read
