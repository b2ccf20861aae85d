"""Numbers and text in and out of a buffer, one after the other, as binary protocols have them."""

from __future__ import annotations

import builtins
import struct
from typing import TYPE_CHECKING, Any

from flare.errors import IoError, ValidationError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ByteReader", "ByteWriter", "ReadPastEnd"]

_U16_BE = struct.Struct(">H")
_U16_LE = struct.Struct("<H")
_U32_BE = struct.Struct(">I")
_U32_LE = struct.Struct("<I")
_U64_BE = struct.Struct(">Q")
_U64_LE = struct.Struct("<Q")


class ReadPastEnd(IoError, EOFError):
    """A ``ByteReader`` was asked for more than its buffer has left."""


class ByteReader:
    """A cursor over *buf*: each read returns a value and moves ``pos`` behind it.

    A read past the end raises ``ReadPastEnd``; after any error the cursor is where it was.
    """

    __slots__ = ("buf", "pos")

    def __init__(self, buf: ReadableBuffer) -> None:
        self.buf = memoryview(buf).cast("B")
        self.pos = 0

    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self.buf) - self.pos

    def position(self) -> int:
        """How many bytes lie behind the cursor."""
        return self.pos

    def read_u8(self) -> int:
        """One byte."""
        start = self._advance(1)
        return self.buf[start]

    def read_u16_be(self) -> int:
        """Two bytes, the high one first."""
        return self._unpack(_U16_BE)

    def read_u16_le(self) -> int:
        """Two bytes, the low one first."""
        return self._unpack(_U16_LE)

    def read_u32_be(self) -> int:
        """Four bytes, the highest first."""
        return self._unpack(_U32_BE)

    def read_u32_le(self) -> int:
        """Four bytes, the lowest first."""
        return self._unpack(_U32_LE)

    def read_u64_be(self) -> int:
        """Eight bytes, the highest first."""
        return self._unpack(_U64_BE)

    def read_u64_le(self) -> int:
        """Eight bytes, the lowest first."""
        return self._unpack(_U64_LE)

    def read_bytes(self, n: int) -> memoryview:
        """The next *n* bytes, as a view of the buffer."""
        start = self._advance(n)
        return self.buf[start : start + n]

    def read_utf8(self, n: int) -> str:
        """The next *n* bytes as UTF-8; ``ValidationError`` where they are not."""
        start = self._advance(n)
        try:
            return str(self.buf[start : start + n], "utf-8")
        except UnicodeDecodeError as exc:
            self.pos = start
            raise ValidationError("utf8", f"{exc.reason} at byte {start + exc.start}") from exc

    def skip(self, n: int) -> None:
        """Move the cursor *n* bytes on."""
        self._advance(n)

    def _advance(self, n: int) -> int:
        start = self.pos
        if not 0 <= n <= len(self.buf) - start:
            raise ReadPastEnd(
                "read", 0, f"{n} bytes are past end (pos={start}, len={len(self.buf)})"
            )
        self.pos = start + n
        return start

    def _unpack(self, form: struct.Struct) -> int:
        value: Any
        (value,) = form.unpack_from(self.buf, self._advance(form.size))
        return int(value)

    def __repr__(self) -> str:
        return f"ByteReader(pos={self.pos}, len={len(self.buf)})"


class ByteWriter:
    """Appends to *buf*, or to a buffer of its own.

    A number that does not fit its width raises ``OverflowError`` and nothing is written.
    """

    __slots__ = ("_buf",)

    def __init__(self, buf: bytearray | None = None) -> None:
        self._buf = bytearray() if buf is None else buf

    def write_u8(self, v: int) -> None:
        """One byte."""
        self._buf += v.to_bytes(1, "big")

    def write_u16_be(self, v: int) -> None:
        """Two bytes, the high one first."""
        self._buf += v.to_bytes(2, "big")

    def write_u16_le(self, v: int) -> None:
        """Two bytes, the low one first."""
        self._buf += v.to_bytes(2, "little")

    def write_u32_be(self, v: int) -> None:
        """Four bytes, the highest first."""
        self._buf += v.to_bytes(4, "big")

    def write_u32_le(self, v: int) -> None:
        """Four bytes, the lowest first."""
        self._buf += v.to_bytes(4, "little")

    def write_u64_be(self, v: int) -> None:
        """Eight bytes, the highest first."""
        self._buf += v.to_bytes(8, "big")

    def write_u64_le(self, v: int) -> None:
        """Eight bytes, the lowest first."""
        self._buf += v.to_bytes(8, "little")

    def write_bytes(self, b: ReadableBuffer) -> None:
        """The bytes as they are."""
        self._buf += memoryview(b).cast("B")

    def write_str(self, s: str) -> None:
        """The text as UTF-8."""
        self._buf += s.encode("utf-8")

    def __len__(self) -> int:
        return builtins.len(self._buf)

    def __bool__(self) -> bool:
        return True

    def take(self) -> builtins.bytes:
        """What has been written; the writer starts anew, empty."""
        taken = builtins.bytes(self._buf)
        self._buf.clear()
        return taken

    # Last, for within the class body these two names mean the methods.

    def len(self) -> int:
        """How many bytes have been written."""
        return builtins.len(self._buf)

    def bytes(self) -> builtins.bytes:
        """A copy of what has been written."""
        return builtins.bytes(self._buf)
