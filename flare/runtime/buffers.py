"""Read buffers that are used again.

``recv_into`` a kept buffer of 64 KiB beats ``recv``, which allocates one for each call and then
shrinks it. Below some 4 KiB there is nothing to win. A pool belongs to one worker and is not
thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from flare.errors import ValidationError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["CLASS_BYTES", "BufferHandle", "BufferPool"]

CLASS_BYTES: Final = (1024, 4096, 16384, 65536)
"""The sizes that are pooled, by class index."""

ONE_OFF: Final = -1
_DEFAULT_PER_CLASS: Final = 8


class BufferHandle:
    """A buffer of *capacity* bytes, of which the first ``length`` are filled.

    The storage never moves while it is large enough. Filling it past its capacity moves to new
    storage of its own, and the handle leaves its class. Views taken before such a move, or
    before the handle went back to its pool, show what is no longer this handle's.
    """

    __slots__ = ("_pooled", "_storage", "_view", "class_index", "length")

    class_index: int
    """The pool's class, or -1 for a one-off."""
    length: int
    """How many bytes are filled."""

    def __init__(self, capacity: int, class_index: int = ONE_OFF) -> None:
        if capacity < 0:
            raise ValidationError("capacity", f"must not be negative, got {capacity}")
        self._storage = bytearray(capacity)
        self._view = memoryview(self._storage)
        self._pooled = False
        self.class_index = class_index
        self.length = 0

    @classmethod
    def for_class(cls, class_index: int) -> BufferHandle:
        """A buffer of the size of *class_index*."""
        if not 0 <= class_index < len(CLASS_BYTES):
            raise ValidationError(
                "class_index", f"must be in 0..{len(CLASS_BYTES) - 1}, got {class_index}"
            )
        return cls(CLASS_BYTES[class_index], class_index)

    @property
    def capacity(self) -> int:
        """How many bytes fit without a move."""
        return len(self._storage)

    @property
    def bytes(self) -> memoryview:
        """The filled part, not copied."""
        return self._view[: self.length]

    def append(self, b: int) -> None:
        """Add one byte."""
        self._reserve(self.length + 1)
        self._storage[self.length] = b
        self.length += 1

    def extend(self, data: ReadableBuffer) -> None:
        """Add *data*."""
        source = memoryview(data).cast("B")
        end = self.length + len(source)
        self._reserve(end)
        self._view[self.length : end] = source
        self.length = end

    def resize(self, n: int) -> None:
        """Make the filled part *n* bytes; what that adds is zeros."""
        if n < 0:
            raise ValidationError("n", f"must not be negative, got {n}")
        if n > self.length:
            self._reserve(n)
            self._view[self.length : n] = b"\0" * (n - self.length)
        self.length = n

    def reset(self) -> None:
        """Empty it; the storage stays."""
        self.length = 0

    def spare(self) -> memoryview:
        """The unfilled part, to ``recv_into``; ``advance`` by what came."""
        return self._view[self.length :]

    def advance(self, n: int) -> None:
        """Count the first *n* bytes of ``spare`` as filled."""
        if not 0 <= n <= len(self._storage) - self.length:
            raise ValidationError("n", f"must be in 0..{len(self._storage) - self.length}, got {n}")
        self.length += n

    def _reserve(self, needed: int) -> None:
        if needed <= len(self._storage):
            return
        storage = bytearray(max(needed, 2 * len(self._storage)))
        storage[: self.length] = self.bytes
        self._storage = storage
        self._view = memoryview(storage)
        self.class_index = ONE_OFF

    def __len__(self) -> int:
        return self.length

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"BufferHandle({self.length}/{self.capacity} bytes, class {self.class_index})"


class BufferPool:
    """Up to 8 buffers of each class, kept for their next use; the last one back goes out first.

    *secure* overwrites a buffer with zeros when it comes back; otherwise it keeps what it held,
    out of sight behind its length.
    """

    __slots__ = ("_free", "_per_class", "_secure")

    def __init__(self, *, secure: bool = False) -> None:
        self._per_class = _DEFAULT_PER_CLASS
        self._secure = secure
        self._free: tuple[list[BufferHandle], ...] = tuple([] for _ in CLASS_BYTES)

    @classmethod
    def with_class_capacity(cls, n: int, *, secure: bool = False) -> BufferPool:
        """A pool that keeps *n* of each class, at least 1."""
        pool = cls(secure=secure)
        pool._per_class = max(1, n)
        return pool

    @staticmethod
    def size_for(min_capacity: int) -> int:
        """The capacity ``acquire`` gives for *min_capacity*: its class's, or just that."""
        for size in CLASS_BYTES:
            if min_capacity <= size:
                return size
        return min_capacity

    def acquire(self, min_capacity: int) -> BufferHandle:
        """An empty buffer of at least *min_capacity* bytes; yours until you release it."""
        if min_capacity < 0:
            raise ValidationError("min_capacity", f"must not be negative, got {min_capacity}")
        for index, size in enumerate(CLASS_BYTES):
            if min_capacity <= size:
                free = self._free[index]
                if not free:
                    return BufferHandle.for_class(index)
                handle = free.pop()
                handle._pooled = False
                return handle
        return BufferHandle(min_capacity)

    def release(self, handle: BufferHandle) -> None:
        """Give *handle* back. One that no class has room for is dropped; a second time, nothing."""
        if handle._pooled:
            return
        if self._secure:
            handle._view[:] = bytes(handle.capacity)
        index = handle.class_index
        if not 0 <= index < len(CLASS_BYTES) or handle.capacity != CLASS_BYTES[index]:
            return
        free = self._free[index]
        if len(free) < self._per_class:
            handle.reset()
            handle._pooled = True
            free.append(handle)

    @contextmanager
    def borrow(self, min_capacity: int) -> Iterator[BufferHandle]:
        """``acquire`` for the length of a ``with`` block."""
        handle = self.acquire(min_capacity)
        try:
            yield handle
        finally:
            self.release(handle)

    def size(self, class_index: int) -> int:
        """How many buffers of that class wait for their next use; 0 for no such class."""
        if not 0 <= class_index < len(CLASS_BYTES):
            return 0
        return len(self._free[class_index])

    def class_capacity(self) -> int:
        """How many of each class are kept at most."""
        return self._per_class

    def __repr__(self) -> str:
        return f"BufferPool({', '.join(str(len(free)) for free in self._free)} kept)"
