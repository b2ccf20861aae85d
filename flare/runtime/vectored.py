"""Writing several buffers by one system call, resumably.

Saves the copy of joining head and body. For a body of less than some 4 KiB joining is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from flare._ffi.vectored import IOV_MAX, writev
from flare.errors import Timeout, ValidationError, map_oserror

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["IoVecBuf", "writev_buf", "writev_buf_all"]

_EMPTY: Final = memoryview(b"")
_IOVEC_BYTES: Final = 16  # sizeof(struct iovec) on 64 bits


def _flat(data: ReadableBuffer) -> memoryview:
    """*data* as a view of single bytes; copied only where its bytes do not lie together."""
    view = memoryview(data)
    if view.nbytes == 0:
        return _EMPTY
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


class IoVecBuf:
    """*n* cells, each a view of a buffer to be written, or empty.

    A cell keeps its buffer alive, and a ``bytearray`` from being resized, until it has been
    written by ``writev_buf_all``, set anew or cleared.
    """

    __slots__ = ("_cells",)

    def __init__(self, n: int) -> None:
        if n <= 0:
            raise ValidationError("n", f"must be above 0, got {n}")
        self._cells = [_EMPTY] * n

    @staticmethod
    def size_for(n: int) -> int:
        """The bytes *n* cells would take as a C array."""
        return n * _IOVEC_BYTES

    def set(self, i: int, data: ReadableBuffer) -> None:
        """Make *data* the cell *i*. ``IndexError`` where there is no such cell."""
        self._cells[self._index(i)] = _flat(data)

    def base(self) -> list[memoryview]:
        """The cells themselves, not a copy."""
        return self._cells

    def count(self) -> int:
        """How many cells there are, filled or not."""
        return len(self._cells)

    def cell_len(self, i: int) -> int:
        """The bytes in the cell *i*."""
        return len(self._cells[self._index(i)])

    def cell_ptr(self, i: int) -> memoryview:
        """The cell *i*."""
        return self._cells[self._index(i)]

    def total(self) -> int:
        """The bytes in all cells."""
        return sum(map(len, self._cells))

    def clear(self) -> None:
        """Empty all cells."""
        self._cells[:] = [_EMPTY] * len(self._cells)

    def _index(self, i: int) -> int:
        if not 0 <= i < len(self._cells):
            raise IndexError(f"cell {i} of {len(self._cells)}")
        return i

    def __len__(self) -> int:
        return len(self._cells)

    def __repr__(self) -> str:
        return f"IoVecBuf({len(self._cells)} cells, {self.total()} bytes)"


def _write(fd: int, views: Sequence[memoryview]) -> int:
    try:
        return writev(fd, views)
    except OSError as exc:
        raise map_oserror(exc, "writev", "writev") from exc


def writev_buf(fd: int, iov: IoVecBuf | Sequence[ReadableBuffer], iovcnt: int | None = None) -> int:
    """Write the buffers, or the first *iovcnt*, by one system call; returns the bytes written.

    That may be fewer than there are: no more than 1024 buffers go at once, and a socket takes
    what it has room for. On a blocking *fd* it waits for room for the first byte. With nothing
    to write there is no system call and the answer is 0. Raises ``Timeout`` where *fd* does not
    block and has no room, ``BrokenPipe`` or ``ConnectionReset`` where the peer is gone, else
    ``NetworkError``. The cells of an ``IoVecBuf`` stay as they are.
    """
    views: Sequence[memoryview]
    views = iov.base() if isinstance(iov, IoVecBuf) else [_flat(data) for data in iov]
    if iovcnt is not None:
        if not 0 <= iovcnt <= len(views):
            raise ValidationError("iovcnt", f"must be in 0..{len(views)}, got {iovcnt}")
        views = views[:iovcnt]
    filled = list(islice(filter(len, views), IOV_MAX))
    return _write(fd, filled) if filled else 0


def writev_buf_all(iov: IoVecBuf, fd: int, total_bytes: int | None = None) -> None:
    """Write all cells of *iov*, or their first *total_bytes*, emptying them on the way.

    Blocks as *fd* does. After an exception (those of ``writev_buf``) the cells hold exactly
    what has not been written: call it again when *fd* is writable. A ``Timeout`` has the bytes
    written by this call in ``sent``.
    """
    if total_bytes is not None and total_bytes < 0:
        raise ValidationError("total_bytes", f"must not be negative, got {total_bytes}")
    cells = iov.base()
    available = iov.total()
    left = wanted = available if total_bytes is None else min(total_bytes, available)
    first = 0  # the cells before it are empty
    while left:
        while not cells[first]:
            first += 1
        batch = list(islice(filter(len, islice(cells, first, None)), IOV_MAX))
        if left < available:
            batch = _cut(batch, left)
        try:
            written = _write(fd, batch)
        except Timeout as exc:
            exc.sent = wanted - left
            raise
        left -= written
        available -= written
        first = _drop(cells, first, written)


def _cut(views: list[memoryview], most: int) -> list[memoryview]:
    """The first *most* bytes of *views*."""
    kept = []
    for view in views:
        if most <= 0:
            break
        kept.append(view[:most])
        most -= len(view)
    return kept


def _drop(cells: list[memoryview], first: int, n: int) -> int:
    """Take the first *n* bytes out of *cells*; returns the first cell that may hold more."""
    while n:
        cell = cells[first]
        if len(cell) > n:
            cells[first] = cell[n:]
            break
        n -= len(cell)
        cells[first] = _EMPTY
        first += 1
    return first
