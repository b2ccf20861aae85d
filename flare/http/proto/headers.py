"""Header fields: ordered, case-insensitive, repeated where the message repeats them.

The one place where a field name or value that a program made is checked before it can reach the
wire (RFC 9110 sections 5.1, 5.5 and 5.6.2). What parsers have checked already enters without a
second look. Text and bytes correspond by Latin-1, so bytes of 0x80 and above survive a round
trip as opaque text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from flare.http.proto.ascii import ascii_lower

__all__ = ["HeaderInjectionError", "HeaderMap"]

SECRET_FIELDS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})

_Item = tuple[str, str, str]  # the name in lower case, the name as given, the value

_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_find_forbidden = re.compile(r"[^\t\x20-\x7e\x80-\xff]").search

# Names seen to be tokens, with their lower case. Programs use few; the bound is for those that
# make names out of input. Emptied when full, so a flood of odd names cannot pin itself there.
_MAX_KNOWN = 1024
_MAX_KNOWN_LENGTH = 64
_known: dict[str, str] = {}

_MASK = "***"
_NOT_A_TEXT = "headers are a mapping or pairs of names and values, not a str"
_SHOWN = 40


class HeaderInjectionError(ValueError):
    """A field name or value that would not be one field on the wire. Nothing was sent.

    ``field`` and ``value`` are as given; the text of the error shows at most a short escaped
    piece of them, and nothing of a secret one.
    """

    def __init__(self, field: str, value: str) -> None:
        super().__init__(field, value)
        self.field = field
        self.value = value

    def __str__(self) -> str:
        if not _is_token(self.field):
            return f"HeaderInjectionError: not a field name: {_short(self.field)}"
        shown = "(hidden)" if ascii_lower(self.field) in SECRET_FIELDS else _short(self.value)
        bad = _find_forbidden(self.value)
        where = f"{bad[0]!a} at {bad.start()} in " if bad else ""
        return f"HeaderInjectionError: {self.field} may not have {where}the value {shown}"

    def __repr__(self) -> str:
        return f"<{self}>"


def _short(text: str) -> str:
    return ascii(text) if len(text) <= _SHOWN else ascii(text[:_SHOWN])[:-1] + "...'"


def _checked(name: str, value: str) -> _Item:
    """The item for a field that a program made, or an error naming it."""
    if type(name) is not str or type(value) is not str:
        name, value = _plain(name, value)
    lower = _known.get(name)
    if lower is None:
        if not _is_token(name):
            raise HeaderInjectionError(name, value)
        lower = name.lower()
        if len(name) <= _MAX_KNOWN_LENGTH:
            if len(_known) >= _MAX_KNOWN:
                _known.clear()
            _known[name] = lower
    # The first two tests pass almost every value, and are faster than any pattern.
    if not (value.isascii() and value.isprintable()) and _find_forbidden(value):
        raise HeaderInjectionError(name, value)
    return lower, name, value.strip(" \t")


def _plain(name: object, value: object) -> tuple[str, str]:
    """Members of string enums and the like as plain strings; anything else is a mistake."""
    if not isinstance(name, str):
        raise TypeError(f"a header name must be str, not {type(name).__name__}")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise TypeError(f"the value of header {_short(name)} must be str, not {kind}")
    return str.__str__(name), str.__str__(value)


class HeaderMap:
    """The header fields of one message: an ordered multimap with case-insensitive names.

    ``set`` replaces and ``append`` adds; both refuse with ``HeaderInjectionError`` a name that is
    not a token and a value with a control character other than HTAB, or with a character past
    U+00FF. Blanks round a value are no part of it and are dropped. Names keep the letters they
    were given in for the wire. ``len``, iteration, ``keys``, ``values`` and ``items`` count a
    repeated field as often as it is there. Like a ``dict``, not to be changed by one thread while
    another uses it.

    >>> headers = HeaderMap({"Content-Type": "text/plain"})
    >>> headers.append("Vary", "Accept")
    >>> headers["content-type"], headers.get("missing"), len(headers)
    ('text/plain', '', 2)
    """

    __slots__ = ("_items",)

    _items: list[_Item]

    def __init__(
        self, items: HeaderMap | Mapping[str, str] | Iterable[tuple[str, str]] | None = None
    ) -> None:
        if items is None:
            self._items = []
        elif isinstance(items, HeaderMap):
            self._items = items._items.copy()
        else:
            given: Any = items
            if isinstance(given, str):
                raise TypeError(_NOT_A_TEXT)
            pairs = items.items() if isinstance(items, Mapping) else items
            self._items = [_checked(name, value) for name, value in pairs]

    @classmethod
    def _from_items(cls, items: list[_Item]) -> HeaderMap:
        """Wrap *items* (lower-case name, name, value), which the caller has validated."""
        self = cls.__new__(cls)
        self._items = items
        return self

    def set(self, key: str, value: str) -> None:
        """Leave exactly one *key* with *value*: at the place of the first one, or at the end."""
        self._put(_checked(key, value))

    def _put(self, item: _Item) -> None:
        items, lower = self._items, item[0]
        for index, other in enumerate(items):
            if other[0] == lower:
                items[index] = item
                rest = [each for each in items[index + 1 :] if each[0] != lower]
                items[index + 1 :] = rest
                return
        items.append(item)

    def append(self, key: str, value: str) -> None:
        """Add a field at the end, whether or not *key* is there already."""
        self._items.append(_checked(key, value))

    def get(self, key: str, default: str = "") -> str:
        """The first value of *key*, or *default*."""
        lower = _known.get(key) or ascii_lower(key)
        for name, _, value in self._items:
            if name == lower:
                return value
        return default

    def get_all(self, key: str) -> list[str]:
        """Every value of *key*, in order."""
        lower = ascii_lower(key)
        return [value for name, _, value in self._items if name == lower]

    def contains(self, key: str) -> bool:
        """Whether there is a field of that name."""
        lower = _known.get(key) or ascii_lower(key)
        for item in self._items:  # noqa: SIM110 - a third of the time of any()
            if item[0] == lower:
                return True
        return False

    def remove(self, key: str) -> bool:
        """Drop every field of that name; whether there was one."""
        lower = ascii_lower(key)
        kept = [item for item in self._items if item[0] != lower]
        removed = len(kept) != len(self._items)
        self._items = kept
        return removed

    def pop(self, key: str, default: str = "") -> str:
        """Drop every field of that name; the first value, or *default*."""
        value = self.get(key, default)
        self.remove(key)
        return value

    def setdefault(self, key: str, value: str = "") -> str:
        """The first value of *key*, which is added as *value* where it is missing."""
        if not self.contains(key):
            self.append(key, value)
        return self.get(key)

    def update(self, other: HeaderMap | Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Replace every name that *other* has by what it has, repeated fields included.

        All of *other* is checked before anything is changed.
        """
        seen: set[str] = set()
        for item in HeaderMap(other)._items:
            if item[0] in seen:
                self._items.append(item)
            else:
                seen.add(item[0])
                self._put(item)

    def clear(self) -> None:
        """Drop everything."""
        self._items = []

    def copy(self) -> HeaderMap:
        """An independent map with the same fields."""
        return HeaderMap._from_items(self._items.copy())

    __copy__ = copy

    def len(self) -> int:
        """How many fields there are, repeated ones counted each time."""
        return len(self._items)

    def keys(self) -> list[str]:
        """The names as given, one for each field."""
        return [item[1] for item in self._items]

    def values(self) -> list[str]:
        """The values, in order."""
        return [item[2] for item in self._items]

    def items(self) -> list[tuple[str, str]]:
        """The fields as (name as given, value), in order."""
        return [(name, value) for _, name, value in self._items]

    def encode_to(self, buf: bytearray) -> None:
        """Append the fields as they go on the wire, each line with its CRLF, without the empty
        line that ends a head."""
        buf += str(self).encode("latin-1")

    def __getitem__(self, key: str) -> str:
        lower = _known.get(key) or ascii_lower(key)
        for name, _, value in self._items:
            if name == lower:
                return value
        raise KeyError(key)

    def __setitem__(self, key: str, value: str) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.remove(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.contains(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return bool(self._items)

    def __eq__(self, other: object) -> bool:
        """Whether both have the same values in the same order under each name."""
        if not isinstance(other, HeaderMap):
            return NotImplemented
        return self._by_name() == other._by_name()

    __hash__ = None  # type: ignore[assignment]

    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for lower, _, value in self._items:
            found.setdefault(lower, []).append(value)
        return found

    def __str__(self) -> str:
        """The fields as wire text."""
        return "".join([f"{name}: {value}\r\n" for _, name, value in self._items])

    def __repr__(self) -> str:
        shown = [
            (name, _MASK if lower in SECRET_FIELDS else value) for lower, name, value in self._items
        ]
        return f"HeaderMap({shown!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return HeaderMap, (self.items(),)
