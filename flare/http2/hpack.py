"""HPACK, the header compression of HTTP/2 (RFC 7541).

A decoder and an encoder for one direction of one connection each. Both keep a dynamic table in
step with the peer's, so every block has to pass through them in the order of the wire, also one
whose stream nobody wants any more. Text and bytes correspond by Latin-1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from flare.http.proto.ascii import BytesLike
from flare.http.proto.hpack_fields import (
    HpackHeader,
    IntPair,
    StringPair,
    decode_prefix_integer,
    encode_prefix_integer,
)
from flare.http.proto.huffman import HuffmanError, huffman_decode_text, huffman_encode
from flare.http2._static_table import NAME_INDEX, PAIR_INDEX, STATIC_TABLE, STATIC_TABLE_LEN
from flare.http2.errors import HpackError

__all__ = [
    "DEFAULT_TABLE_SIZE",
    "ENTRY_OVERHEAD",
    "HARD_LIST_CAP",
    "STATIC_TABLE_LEN",
    "HpackDecoder",
    "HpackEncoder",
    "HpackHeader",
    "IntPair",
    "StringPair",
    "decode_integer",
    "decode_string",
    "encode_integer",
]

DEFAULT_TABLE_SIZE: Final = 4096
ENTRY_OVERHEAD: Final = 32
"""What a field counts beside its name and value (RFC 7541 section 4.1, RFC 9113 section 6.5.2)."""
HARD_LIST_CAP: Final = 1024 * 1024
"""The largest header list, in bytes, where no limit is set."""
BLOCK_FACTOR: Final = 4
"""A block of more than so many times the list's limit is not read to its end."""

_FIRST_DYNAMIC = STATIC_TABLE_LEN + 1
_MAX_SIZE_UPDATES = 2
_new_header = tuple.__new__

# Values that a shared table could give away to who may send fields on the same connection
# (RFC 7541 section 7.1.3). A short cookie could be guessed byte by byte.
_NEVER_INDEXED = frozenset({"authorization", "proxy-authorization", "set-cookie"})
_GUESSABLE_COOKIE = 20
# Values that hardly come twice, and would push out those that do.
_NOT_INDEXED = frozenset(
    {
        ":path",
        "age",
        "content-length",
        "content-range",
        "date",
        "etag",
        "expires",
        "if-modified-since",
        "if-none-match",
        "last-modified",
        "location",
        "range",
    }
)
_MEMO_BLOCKS = 32
_MEMO_STRINGS = 1024
_MEMO_STRING_LENGTH = 64
_string_memo: dict[str, bytes] = {}


def decode_integer(buf: BytesLike, offset: int, prefix_bits: int) -> IntPair:
    """Read a prefix integer; see ``decode_prefix_integer``. Raises ``HpackError``."""
    try:
        return decode_prefix_integer(buf, offset, prefix_bits)
    except ValueError as error:
        raise HpackError(str(error)) from None


encode_integer = encode_prefix_integer


def decode_string(data: bytes, offset: int, allow_huffman: bool = True) -> StringPair:
    """Read a string literal (RFC 7541 section 5.2). Raises ``HpackError``."""
    length, start = decode_integer(data, offset, 7)
    end = start + length
    if end > len(data):
        raise HpackError("a string is cut short")
    raw = data[start:end]
    if not data[offset] & 0x80:
        return StringPair(str(raw, "latin-1"), end)
    if not allow_huffman:
        raise HpackError("a Huffman-coded string, which the configuration refuses")
    try:
        return StringPair(huffman_decode_text(raw), end)
    except HuffmanError as error:
        raise HpackError(str(error)) from None


class HpackDecoder:
    """Reads the header blocks of one connection, in their order.

    ``limit`` is what our SETTINGS_HEADER_TABLE_SIZE allows, ``max_size`` what the peer uses of
    it at present, both in bytes. A list that counts more than ``max_header_list_size`` bytes
    (0: 1 MiB), or more than ``max_fields`` fields (0: no such limit), is refused.
    """

    __slots__ = (
        "_dynamic",
        "_owes_update",
        "allow_huffman",
        "dynamic_size",
        "generation",
        "limit",
        "max_fields",
        "max_header_list_size",
        "max_size",
    )

    def __init__(
        self,
        max_size: int = DEFAULT_TABLE_SIZE,
        allow_huffman: bool = True,
        max_header_list_size: int = 0,
        max_fields: int = 0,
    ) -> None:
        self.limit = self.max_size = max_size
        self.allow_huffman = allow_huffman
        self.max_header_list_size = max_header_list_size
        self.max_fields = max_fields
        self.dynamic_size = 0
        self.generation = 0
        """Grows whenever the table changes: a block means the same while it stands still."""
        self._dynamic: deque[HpackHeader] = deque()
        self._owes_update = False

    @property
    def dynamic(self) -> list[HpackHeader]:
        """The dynamic table, newest entry first."""
        return list(self._dynamic)

    @property
    def list_cap(self) -> int:
        """The limit of a list in bytes that is in force."""
        return self.max_header_list_size or HARD_LIST_CAP

    def set_limit(self, limit: int) -> None:
        """Our setting is now *limit*, and the peer has acknowledged it.

        Where the table is larger, the peer's next block must begin with a size update.
        """
        self.limit = limit
        self._owes_update = self.max_size > limit

    def decode(self, block: BytesLike) -> list[HpackHeader]:
        """The fields of one whole block.

        Raises ``HpackError``. After one for a list that is too large, the table is still in step
        with the peer's; after any other the connection cannot go on.
        """
        fields, too_large = self.decode_block(bytes(block))
        if too_large:
            raise HpackError(f"a header list of more than {self.list_cap} bytes")
        return fields

    def decode_block(self, data: bytes) -> tuple[list[HpackHeader], bool]:
        """The fields of one whole block, and whether there were too many (then none is kept).

        Raises ``HpackError``.
        """
        cap = self.list_cap
        if len(data) > BLOCK_FACTOR * cap:
            raise HpackError(f"a header block of more than {BLOCK_FACTOR * cap} bytes")
        try:
            return self._decode(data, cap)
        except IndexError:
            raise HpackError("a header block is cut short, or names no entry") from None
        except HuffmanError as error:
            raise HpackError(str(error)) from None

    def _decode(self, data: bytes, cap: int) -> tuple[list[HpackHeader], bool]:
        fields: list[HpackHeader] = []
        dynamic = self._dynamic
        allow_huffman = self.allow_huffman
        too_large = False
        size = 0
        offset = self._size_updates(data)
        end = len(data)
        while offset < end:
            first = data[offset]
            offset += 1
            if first >= 0x80:
                index = first & 0x7F
                if index == 0x7F:
                    index, offset = decode_integer(data, offset - 1, 7)
                entry = STATIC_TABLE[index] if index < 62 else dynamic[index - 62]
                if not index:
                    raise HpackError("an indexed field with index 0")
            else:
                if first >= 0x40:
                    index = first & 0x3F
                    if index == 0x3F:
                        index, offset = decode_integer(data, offset - 1, 6)
                elif first >= 0x20:
                    raise HpackError("a size update that is not at the start of its block")
                else:
                    index = first & 0x0F
                    if index == 0x0F:
                        index, offset = decode_integer(data, offset - 1, 4)
                if index:
                    name = (STATIC_TABLE[index] if index < 62 else dynamic[index - 62])[0]
                else:
                    name, offset = decode_string(data, offset, allow_huffman)
                # The value, in place for strings of up to 126 bytes: most time is spent here.
                length = data[offset]
                if length < 0x7F:
                    start = offset + 1
                    offset = start + length
                    value = str(data[start:offset], "latin-1")
                elif 0x7F < length < 0xFF and allow_huffman:
                    start = offset + 1
                    offset = start + length - 0x80
                    value = huffman_decode_text(data[start:offset])
                else:
                    value, offset = decode_string(data, offset, allow_huffman)
                if offset > end:
                    raise HpackError("a string is cut short")
                entry = _new_header(HpackHeader, (name, value, 0x10 <= first < 0x20))
                if first >= 0x40:
                    self._insert(entry)
            size += len(entry[0]) + len(entry[1]) + 32
            fields.append(entry)
            if size > cap:
                too_large = True
                fields.clear()
        if self.max_fields and len(fields) > self.max_fields:
            return [], True
        return fields, too_large

    def repeat(self, entries: Iterable[HpackHeader]) -> bool:
        """Do what a block does that enters *entries* and by itself says all else, see
        ``entered_alone``; false, and nothing done, where a size update has to come first."""
        if self._owes_update:
            return False
        for entry in entries:
            self._insert(entry)
        return True

    def _size_updates(self, data: bytes) -> int:
        """Carry out the size updates that begin a block; the offset behind them."""
        offset = updates = 0
        while offset < len(data) and 0x20 <= data[offset] < 0x40:
            size, offset = decode_integer(data, offset, 5)
            updates += 1
            if updates > _MAX_SIZE_UPDATES:
                raise HpackError(f"more than {_MAX_SIZE_UPDATES} size updates in a block")
            if size > self.limit:
                raise HpackError(f"a table of {size} bytes, where {self.limit} are allowed")
            self.max_size = size
            self._owes_update = False
            self.generation += 1
            self._shrink(size)
        if self._owes_update:
            raise HpackError("no size update after the table's limit was lowered")
        return offset

    def _insert(self, entry: HpackHeader) -> None:
        self.generation += 1
        size = len(entry[0]) + len(entry[1]) + ENTRY_OVERHEAD
        room = self.max_size - size
        if self.dynamic_size > room:
            self._shrink(max(room, 0))
        if room >= 0:
            self._dynamic.appendleft(entry)
            self.dynamic_size += size

    def _shrink(self, size: int) -> None:
        while self.dynamic_size > size:
            name, value, _ = self._dynamic.pop()
            self.dynamic_size -= len(name) + len(value) + ENTRY_OVERHEAD


def entered_alone(block: bytes) -> list[int] | None:
    """Which fields of a sound block enter the table, by their place in it; ``None`` for a block
    that means another thing as the table changes, or changes its size."""
    places: list[int] = []
    offset = place = 0
    while offset < len(block):
        first = block[offset]
        if first >= 0x80:
            index, offset = decode_integer(block, offset, 7)
        elif 0x20 <= first < 0x40:
            return None
        else:
            if first >= 0x40:
                places.append(place)
            index, offset = decode_integer(block, offset, 6 if first >= 0x40 else 4)
            for _ in range(1 if index else 2):  # the value, and a name that is no entry's
                length, offset = decode_integer(block, offset, 7)
                offset += length
        if index > STATIC_TABLE_LEN:
            return None
        place += 1
    return places


class HpackEncoder:
    """Writes the header blocks of one connection, in the order they are sent in.

    Pairs that a table has are sent as their index, new ones enter the dynamic table. Never in a
    table: sensitive fields, ``authorization``, ``proxy-authorization``, ``set-cookie``, and
    ``cookie`` under 20 characters; nor what hardly comes twice, such as ``:path`` and ``date``.
    ``dynamic=False`` keeps no table at all, so that nothing sent can be told from its length.
    ``max_size``, in bytes, is at most what it was made with and what the peer allows.
    """

    __slots__ = (
        "_blocks",
        "_cap",
        "_entries",
        "_inserted",
        "_names",
        "_pairs",
        "_updates",
        "allow_huffman",
        "dynamic",
        "dynamic_size",
        "generation",
        "max_size",
    )

    def __init__(
        self,
        allow_huffman: bool = True,
        max_size: int = DEFAULT_TABLE_SIZE,
        dynamic: bool = True,
    ) -> None:
        self.allow_huffman = allow_huffman
        self.dynamic = dynamic
        self.max_size = self._cap = max_size
        self.dynamic_size = 0
        self._entries: deque[tuple[str, str]] = deque()
        # Which insertion it was: the index of the nth of m insertions is 62 + m - n.
        self._pairs: dict[tuple[str, str], int] = {}
        self._names: dict[str, int] = {}
        self._inserted = 0
        self.generation = 0
        """Grows whenever the table changes: what was encoded before means something else then."""
        self._updates: list[int] = []
        self._blocks: dict[tuple[object, ...], bytes] = {}
        if max_size < DEFAULT_TABLE_SIZE:
            self._updates = [max_size]

    def set_limit(self, limit: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE is *limit*; told to its decoder when it matters."""
        size = min(limit, self._cap)
        if size == self.max_size:
            return
        self.max_size = size
        # Two are enough: the smallest since the last block, and the last (section 4.2).
        smallest = min(self._updates, default=size)
        self._updates = [smallest, size] if smallest < size else [size]
        self._evict(size)
        self._blocks.clear()
        self.generation += 1

    @property
    def owes_update(self) -> bool:
        """Whether the next block has to begin with the table's size."""
        return bool(self._updates)

    def encode(self, headers: Iterable[HpackHeader | tuple[str, str]]) -> bytes:
        """One block with *headers*, whose names are sent as they are: in lower case, then.

        Raises ``ValueError`` for a character past U+00FF; the table may have changed then.
        """
        key = tuple(headers)
        known = self._blocks.get(key)
        if known is not None and not self._updates:
            return known
        out = bytearray()
        for size in self._updates:
            encode_prefix_integer(out, size, 5, 0x20)
        updated = bool(self._updates)
        self._updates = []
        inserted = self._inserted
        secret = False
        for header in key:
            name, value = header[0], header[1]
            if (
                (len(header) == 3 and header[2])
                or name in _NEVER_INDEXED
                or (name == "cookie" and len(value) < _GUESSABLE_COOKIE)
            ):
                secret = True
                self._literal(out, name, value, 4, 0x10, remember=False)
            else:
                self._field(out, name, value)
        block = bytes(out)
        if not (secret or updated) and inserted == self._inserted:
            if len(self._blocks) >= _MEMO_BLOCKS:
                self._blocks.clear()
            self._blocks[key] = block
        return block

    def _field(self, out: bytearray, name: str, value: str) -> None:
        pair = (name, value)
        index = PAIR_INDEX.get(pair, 0)
        if not index and (number := self._pairs.get(pair)) is not None:
            index = _FIRST_DYNAMIC + self._inserted - number
        if index:
            encode_prefix_integer(out, index, 7, 0x80)
            return
        size = len(name) + len(value) + ENTRY_OVERHEAD
        # An entry of more than half the table would drive out too much.
        if name in _NOT_INDEXED or not self.dynamic or 2 * size > self.max_size:
            self._literal(out, name, value, 4, 0x00, remember=name != "cookie")
            return
        self._literal(out, name, value, 6, 0x40, remember=name != "cookie")
        self._evict(self.max_size - size)
        self._inserted += 1
        self._entries.appendleft(pair)
        self._pairs[pair] = self._names[name] = self._inserted
        self.dynamic_size += size
        self._blocks.clear()
        self.generation += 1

    def _literal(
        self, out: bytearray, name: str, value: str, bits: int, pattern: int, *, remember: bool
    ) -> None:
        index = NAME_INDEX.get(name, 0)
        if not index and (number := self._names.get(name)) is not None:
            index = _FIRST_DYNAMIC + self._inserted - number
        encode_prefix_integer(out, index, bits, pattern)
        if not index:
            out += self._string(name, True)
        out += self._string(value, remember)

    def _string(self, text: str, remember: bool) -> bytes:
        if remember and self.allow_huffman and (known := _string_memo.get(text)) is not None:
            return known
        try:
            raw = text.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError("a header field with a character past U+00FF") from None
        out = bytearray()
        coded = huffman_encode(raw) if self.allow_huffman else raw
        if len(coded) < len(raw):
            encode_prefix_integer(out, len(coded), 7, 0x80)
            out += coded
        else:
            encode_prefix_integer(out, len(raw), 7)
            out += raw
        encoded = bytes(out)
        if remember and self.allow_huffman and len(text) <= _MEMO_STRING_LENGTH:
            if len(_string_memo) >= _MEMO_STRINGS:
                _string_memo.clear()
            _string_memo[text] = encoded
        return encoded

    def _evict(self, size: int) -> None:
        while self.dynamic_size > size:
            name, value = pair = self._entries.pop()
            oldest = self._inserted - len(self._entries)
            self.dynamic_size -= len(name) + len(value) + ENTRY_OVERHEAD
            if self._pairs.get(pair) == oldest:
                del self._pairs[pair]
            if self._names.get(name) == oldest:
                del self._names[name]
