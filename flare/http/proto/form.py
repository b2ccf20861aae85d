"""Forms as ``application/x-www-form-urlencoded`` bodies (WHATWG URL section 5).

Reading takes time linear in the length, and counts the fields before it builds any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from flare.errors import ValidationError
from flare.http.proto.ascii import BytesLike
from flare.http.proto.errors import HttpParseError
from flare.http.proto.simd_parsers import simd_percent_decode

__all__ = ["MAX_FORM_FIELDS", "FormData", "parse_form_urlencoded", "urldecode", "urlencode"]

MAX_FORM_FIELDS = 1000
"""The most fields a form may have, unless told otherwise; Django and PHP allow as many."""

_find_pairs = re.compile(rb"[^&;]++").finditer
_KEPT = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_is_kept = re.compile(r"[0-9A-Za-z\-._~]*+").fullmatch
_ENCODED = [chr(byte) if byte in _KEPT else f"%{byte:02X}" for byte in range(256)]
_ENCODED[0x20] = "+"


def urlencode(s: str) -> str:
    """*s* for a form body or a query: letters, digits and ``-._~`` stay, a space is ``+``, each
    other byte of its UTF-8 ``%XX``.

    Raises ``ValidationError`` for text that has no UTF-8 (lone surrogates).

    >>> urlencode("1 + 1 = 2")
    '1+%2B+1+%3D+2'
    """
    if _is_kept(s):
        return s
    try:
        data = s.encode()
    except UnicodeEncodeError as error:
        raise ValidationError("s", f"{s[error.start]!a} has no UTF-8") from None
    return "".join([_ENCODED[byte] for byte in data])


def urldecode(s: str) -> str:
    """Undo ``urlencode``: ``+`` is a space, ``%XX`` a byte of UTF-8; what is no UTF-8 becomes
    U+FFFD.

    Raises ``HttpParseError`` (TRAILING_PERCENT, INVALID_HEX) for a ``%`` without two hex digits.
    """
    return _decode(s.encode("utf-8", "surrogatepass"))


def _decode(data: BytesLike) -> str:
    return simd_percent_decode(data).decode("utf-8", "replace")


def parse_form_urlencoded(body: str | BytesLike, *, max_fields: int = MAX_FORM_FIELDS) -> FormData:
    """The fields of a form, in order.

    Fields stand between ``&`` or ``;``; empty ones are skipped, ``name`` means ``name=``, and a
    field without a name has the name ``""``. Names and values are decoded as ``urldecode`` does.
    Raises ``HttpParseError``: TRAILING_PERCENT or INVALID_HEX for a bad escape, FORM_TOO_LARGE
    (413) for more than *max_fields* fields.

    >>> parse_form_urlencoded(b"name=J%C3%B6rg&tag=a&tag=b").get_all("tag")
    ['a', 'b']
    """
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    pairs = [found[0] for found in islice(_find_pairs(data), max_fields + 1)]
    if len(pairs) > max_fields:
        raise HttpParseError(HttpParseError.FORM_TOO_LARGE, f"more than {max_fields} fields")
    items = []
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        items.append((_decode(name), _decode(value)))
    return FormData._from_items(items)


class FormData:
    """The fields of a form: an ordered multimap with case-sensitive names.

    Made of a mapping, whose values are text or a list of it, of pairs, or of another form. ``len``,
    iteration, ``keys``, ``values`` and ``items`` count a repeated field as often as it is there;
    two forms are equal when they have the same fields in the same order. Nothing is hashed: a look
    at one name takes time linear in the number of fields. Like a ``dict``, not to be changed by
    one thread while another uses it.

    >>> form = FormData({"name": "Ada", "tag": ["a", "b"]})
    >>> form["name"], form.get("missing"), form.get_all("tag"), form.to_urlencoded()
    ('Ada', '', ['a', 'b'], 'name=Ada&tag=a&tag=b')
    """

    __slots__ = ("_items",)

    _items: list[tuple[str, str]]

    def __init__(
        self,
        fields: FormData
        | Mapping[str, str | Sequence[str]]
        | Iterable[tuple[str, str | Sequence[str]]]
        | None = None,
    ) -> None:
        self._items = []
        if fields is None:
            return
        given: Any = fields
        if isinstance(given, (str, bytes)):
            raise TypeError("a form is made of a mapping or of pairs, not of text")
        pairs = given.items() if isinstance(given, (FormData, Mapping)) else given
        for name, value in pairs:
            for each in value if isinstance(value, (list, tuple)) else (value,):
                self.append(name, each)

    @classmethod
    def _from_items(cls, items: list[tuple[str, str]]) -> FormData:
        self = cls.__new__(cls)
        self._items = items
        return self

    def append(self, name: str, value: str) -> None:
        """Add a field at the end. Raises ``TypeError`` for what is not text."""
        given: tuple[object, ...] = (name, value)
        for each in given:
            if not isinstance(each, str):
                raise TypeError(f"names and values of a form are str, not {type(each).__name__}")
        self._items.append((name, value))

    def get(self, name: str, default: str = "") -> str:
        """The first value of *name*, or *default*."""
        for key, value in self._items:
            if key == name:
                return value
        return default

    def get_optional(self, name: str) -> str | None:
        """The first value of *name*, or ``None``."""
        for key, value in self._items:
            if key == name:
                return value
        return None

    def get_all(self, name: str) -> list[str]:
        """Every value of *name*, in order."""
        return [value for key, value in self._items if key == name]

    def contains(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return name in self

    def len(self) -> int:
        """How many fields there are, repeated ones counted each time."""
        return len(self._items)

    def keys(self) -> list[str]:
        """The names, one for each field."""
        return [name for name, _ in self._items]

    def values(self) -> list[str]:
        """The values, in order."""
        return [value for _, value in self._items]

    def items(self) -> list[tuple[str, str]]:
        """The fields as (name, value), in order."""
        return self._items.copy()

    def to_urlencoded(self) -> str:
        """The form as ``parse_form_urlencoded`` reads it. Raises as ``urlencode`` does."""
        return "&".join([f"{urlencode(name)}={urlencode(value)}" for name, value in self._items])

    def __getitem__(self, name: str) -> str:
        value = self.get_optional(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FormData):
            return NotImplemented
        return self._items == other._items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"FormData({self._items!r})"
