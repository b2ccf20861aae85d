"""The Huffman code for header strings (RFC 7541 section 5.2 and appendix B; also RFC 9204).

The code is canonical: codes of one length are consecutive, shorter ones first and symbols of one
length in their own order. So the lengths alone say everything, and both tables are made of them.
Decoding is a machine that takes a byte at a time; its states are the beginnings of codes, and
the row of a state is worked out when a string first passes through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar, Final, TypeAlias

from flare.http.proto.ascii import BytesLike

__all__ = [
    "SIMD_HUFFMAN_THRESHOLD_BYTES",
    "HuffmanError",
    "huffman_decode",
    "huffman_decode_dispatch",
    "huffman_decode_simd",
    "huffman_decode_text",
    "huffman_decoded_length",
    "huffman_encode",
    "huffman_encoded_length",
]

SIMD_HUFFMAN_THRESHOLD_BYTES: Final = 32
"""Kept as a name: there is one decoder, whatever the length."""

_EOS_BITS = "1" * 30
_MAX_PADDING_BITS = 7
_SYMBOLS_BY_LENGTH: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe"
    b"\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf"
    b"\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b"
    b"\x1c\x1d\x1e\x1f\x7f\xdc\xf9",
    30: b"\n\r\x16",
}


def _make_codes() -> list[str]:
    """The code of each byte as text of ``0`` and ``1``."""
    codes = [""] * 256
    code = previous = 0
    for length, symbols in _SYMBOLS_BY_LENGTH.items():
        code <<= length - previous
        previous = length
        for symbol in symbols:
            codes[symbol] = format(code, f"0{length}b")
            code += 1
    return codes


_CODES = _make_codes()
_code_of = _CODES.__getitem__
_LENGTHS = bytes(map(len, _CODES))
_PADDING = ["1" * (-used % 8) for used in range(8)]

# A row maps the next byte to the row of the state behind it and the text it completes.
_Row: TypeAlias = "list[tuple[_Row, str]]"
_SYMBOLS = {code: chr(symbol) for symbol, code in enumerate(_CODES)}
_STATES = sorted({code[:n] for code in (*_CODES, _EOS_BITS) for n in range(len(code))}, key=len)
_rows: dict[str, _Row] = {state: [] for state in _STATES}
_DEAD: _Row = []
_DEAD.extend([(_DEAD, "")] * 256)
_ROOT = _rows[""]


class HuffmanError(ValueError):
    """Bytes that are no Huffman-coded string; ``variant`` says why. Equal by variant."""

    EOS_IN_INPUT: ClassVar[int] = 1
    PADDING_TOO_LONG: ClassVar[int] = 2
    INVALID_PADDING: ClassVar[int] = 3

    def __init__(self, variant: int) -> None:
        super().__init__(variant)
        self.variant = variant

    def __str__(self) -> str:
        return f"HuffmanError({_NAMES.get(self.variant, 'UNKNOWN')})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, HuffmanError):
            return self.variant == other.variant
        return NotImplemented

    def __hash__(self) -> int:
        return hash((HuffmanError, self.variant))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.variant,)


_NAMES = {1: "EOS_IN_INPUT", 2: "PADDING_TOO_LONG", 3: "INVALID_PADDING"}


def _end_of(state: str) -> int:
    """The variant of the error when a string ends in *state*, 0 where it may."""
    if len(state) > _MAX_PADDING_BITS:
        return HuffmanError.PADDING_TOO_LONG
    return HuffmanError.INVALID_PADDING if "0" in state else 0


_ends = {id(row): _end_of(state) for state, row in _rows.items()}
_ends[id(_DEAD)] = HuffmanError.EOS_IN_INPUT


def _fill(row: _Row) -> None:
    """Work out what each next byte does in the state that *row* belongs to."""
    start = next(state for state, other in _rows.items() if other is row)
    entries = []
    for byte in range(256):
        state, text = start, ""
        for bit in format(byte, "08b"):
            state += bit
            if state in _SYMBOLS:
                text += _SYMBOLS[state]
                state = ""
            elif state == _EOS_BITS:
                break
        entries.append((_rows.get(state, _DEAD), text))
    # In one step, for another thread may be decoding: it sees nothing or all of it.
    row[:] = entries


def huffman_decode_text(data: bytes) -> str:
    """The string that *data* encodes, one character for a byte (Latin-1).

    Raises ``HuffmanError``: EOS_IN_INPUT for the 30-bit end-of-string code, PADDING_TOO_LONG where
    more than seven bits are left over, INVALID_PADDING where those are not all ones.
    """
    row = _ROOT
    text = ""
    rest: Iterator[int] = iter(data)
    byte = 0
    while True:
        try:
            for byte in rest:
                row, piece = row[byte]
                text += piece
        except IndexError:
            _fill(row)
            rest = chain((byte,), rest)
        else:
            break
    if variant := _ends[id(row)]:
        raise HuffmanError(variant)
    return text


def huffman_decode(input: BytesLike, output: bytearray | None = None) -> bytes:
    """The bytes that *input* encodes; appended to *output* as well, where one is given.

    Nothing is appended on an error. Raises ``HuffmanError`` as ``huffman_decode_text`` does.
    """
    decoded = huffman_decode_text(bytes(input)).encode("latin-1")
    if output is not None:
        output += decoded
    return decoded


def huffman_decode_simd(input: BytesLike, output: bytearray | None = None) -> bytes:
    """``huffman_decode`` under the name that callers of a vector decoder know."""
    return huffman_decode(input, output)


def huffman_decode_dispatch(
    input: BytesLike, output: bytearray | None = None, use_table: bool = False
) -> bytes:
    """``huffman_decode``; *use_table* changes nothing, since the table is what is always used."""
    return huffman_decode(input, output)


def huffman_encode(input: BytesLike, output: bytearray | None = None) -> bytes:
    """*input* in the Huffman code; appended to *output* as well, where one is given."""
    if not input:
        return b""
    # A string of bits is read as a number in linear time; adding codes to a number is not.
    bits = "".join(map(_code_of, input if type(input) is bytes else bytes(input)))
    bits += _PADDING[len(bits) & 7]
    encoded = int(bits, 2).to_bytes(len(bits) >> 3, "big")
    if output is not None:
        output += encoded
    return encoded


def huffman_encoded_length(input: BytesLike) -> int:
    """How many bytes ``huffman_encode(input)`` has."""
    return (sum(bytes(input).translate(_LENGTHS)) + 7) // 8


def huffman_decoded_length(input: BytesLike) -> int:
    """The most bytes that *input* can decode to: no code is shorter than five bits."""
    return (8 * memoryview(input).nbytes + 4) // 5
