"""Attributes of slotted objects that cost their constructor nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

__all__ = ["Later"]

_T = TypeVar("_T")


class Later(Generic[_T]):
    """An attribute kept in the slot *slot*; until it is set, what *make* returns, made once.

    For what most messages never have: a server makes one of each for every request.
    """

    def __init__(self, slot: str, make: Callable[[], _T]) -> None:
        self._slot = slot
        self._make = make

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> Self: ...
    @overload
    def __get__(self, owner: object, kind: type[Any]) -> _T: ...
    def __get__(self, owner: object | None, kind: type[Any]) -> Self | _T:
        if owner is None:
            return self
        try:
            value: _T = getattr(owner, self._slot)
        except AttributeError:
            value = self._make()
            setattr(owner, self._slot, value)
        return value

    def __set__(self, owner: object, value: _T) -> None:
        setattr(owner, self._slot, value)

    def __delete__(self, owner: object) -> None:
        if hasattr(owner, self._slot):
            delattr(owner, self._slot)
