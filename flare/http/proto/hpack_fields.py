"""What HPACK and QPACK share: a field, and integers with a prefix (RFC 7541 section 5.1).

Errors here are plain ``ValueError``s, which each of the two makes its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from flare.http.proto.ascii import BytesLike

__all__ = [
    "MAX_INTEGER",
    "HpackHeader",
    "IntPair",
    "StringPair",
    "decode_prefix_integer",
    "encode_prefix_integer",
]

MAX_INTEGER: Final = 2**31
"""Nothing that an index, a length or a table size can mean is larger."""
MAX_CONTINUATION_BYTES: Final = 5


class HpackHeader(NamedTuple):
    """One field. Text and bytes correspond by Latin-1. Immutable: tables and lists share it.

    ``sensitive`` marks a value that no table may hold, neither ours nor a proxy's: it is sent,
    and was received, as a never-indexed literal (RFC 7541 section 7.1.3).
    """

    name: str = ""
    value: str = ""
    sensitive: bool = False


class IntPair(NamedTuple):
    """A number, and the offset behind it."""

    value: int
    offset: int


class StringPair(NamedTuple):
    """A string, and the offset behind it."""

    value: str
    offset: int


def decode_prefix_integer(buf: BytesLike, offset: int, prefix_bits: int) -> IntPair:
    """Read the integer whose prefix is the low *prefix_bits* (1 to 8) of the byte at *offset*.

    Raises ``ValueError`` where the bytes end too early, for more than five continuation bytes,
    and for a value above 2**31.
    """
    if not 1 <= prefix_bits <= 8:
        raise ValueError(f"a prefix has 1 to 8 bits, not {prefix_bits}")
    full = (1 << prefix_bits) - 1
    end = len(buf)
    if not 0 <= offset < end:
        raise ValueError("an integer is missing")
    value = buf[offset] & full
    offset += 1
    if value < full:
        return IntPair(value, offset)
    for shift in range(0, 7 * MAX_CONTINUATION_BYTES, 7):
        if offset >= end:
            raise ValueError("an integer is cut short")
        byte = buf[offset]
        offset += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            if value > MAX_INTEGER:
                raise ValueError("an integer above 2**31")
            return IntPair(value, offset)
    raise ValueError("an integer of more than five continuation bytes")


def encode_prefix_integer(
    out_buf: bytearray, value: int, prefix_bits: int, prefix_byte: int = 0
) -> None:
    """Append *value* with a prefix of *prefix_bits* (1 to 8) below the high bits *prefix_byte*."""
    if not 1 <= prefix_bits <= 8:
        raise ValueError(f"a prefix has 1 to 8 bits, not {prefix_bits}")
    if not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"expected an integer from 0 to 2**31, got {value}")
    full = (1 << prefix_bits) - 1
    if value < full:
        out_buf.append(prefix_byte | value)
        return
    out_buf.append(prefix_byte | full)
    value -= full
    while value >= 0x80:
        out_buf.append(value & 0x7F | 0x80)
        value >>= 7
    out_buf.append(value)
