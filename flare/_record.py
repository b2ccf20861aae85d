"""Small values with the manners of a dataclass.

For classes on the path of ``from flare.http import get`` only: ``dataclasses`` imports ``inspect``,
which is a fifth of that path's time. Everywhere else a dataclass is the way.
"""

from __future__ import annotations

from typing import Any, Self

__all__ = ["FrozenRecord", "Record"]


def _make(kind: type[Record], values: dict[str, Any]) -> Record:
    return kind(**values)


class Record:
    """Equality, ``repr``, pickling and ``replace`` by the names in ``__slots__``.

    ``__init__`` takes them all by keyword. ``_hidden`` names those that ``repr`` leaves out.
    """

    __slots__: tuple[str, ...] = ()
    _hidden: tuple[str, ...] = ()

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def replace(self, **changes: Any) -> Self:
        """A copy with *changes*, checked as any other. Raises ``TypeError`` for other names."""
        return self.__class__(**{**self._values(), **changes})

    __replace__ = replace

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        shown = [f"{k}={v!r}" for k, v in self._values().items() if k not in self._hidden]
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self.__class__, self._values())


class FrozenRecord(Record):
    """A ``Record`` that can't be changed, and be a key. ``__init__`` sets by ``_set``."""

    __slots__ = ()

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self.__class__.__qualname__} can't be changed: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self.__class__.__qualname__} can't be changed: {name}")

    def __hash__(self) -> int:
        return hash(tuple(self._values().values()))
