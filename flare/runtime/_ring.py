"""A ring that is driven: its queues mapped, entries written, completions read, buffers provided.

``Ring`` knows the layout of the shared memory and nothing of what the operations are for. It is
made so that the threads of a worker may take turns at it (no ``IORING_SETUP_SINGLE_ISSUER``):
one uses it at a time, and which one may change between any two calls.

A pool of buffers is the kernel's to fill: a receive that asks for it takes the next one, and
``give_back`` returns it once its bytes have been copied out.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Iterable
from typing import Final

from flare._ffi import io_uring as kernel
from flare._ffi.libc import address_of
from flare.runtime.io_uring import IoUringRing

__all__ = ["BUFFER_BYTES", "GROUP", "Ring"]

BUFFER_BYTES: Final = 4096
GROUP: Final = 1  # the number of the buffer group

_ENTRIES = 2048  # the completion queue has twice as many
_BUFFERS = 1024  # a power of two
_FLAGS = (
    kernel.IORING_SETUP_CLAMP | kernel.IORING_SETUP_SUBMIT_ALL | kernel.IORING_SETUP_COOP_TASKRUN
)
_WORD = 0xFFFF_FFFF
_TAIL = struct.Struct("<H")
_TAIL_AT = 14  # in the first entry of the buffer ring
_CQE_BYTES = kernel.CQE.size
_SQE_BYTES = kernel.SQE.size
# Trying again later is all that can be done about these, and what the callers do anyway.
_PASSING = frozenset({0, errno.ETIME, errno.EINTR, errno.EAGAIN, errno.EBUSY})


class Ring:
    """One ring with one pool of provided buffers. Raises ``OSError`` where the system has none.

    ``sqes`` is the memory of the submission entries, 64 bytes each; ``tail`` counts those
    written, ``submitted`` those handed over, ``limit`` is what ``tail`` may grow to before
    ``submit``, and ``mask`` finds an entry's place. ``batch`` is a new number with every
    submission.
    """

    def __init__(self) -> None:
        self._ring = ring = IoUringRing(_ENTRIES, _FLAGS)
        try:
            self._map(ring)
            self._provide(ring)
        except BaseException:
            ring.close()
            raise
        self._gate = kernel.Gate(ring.fd())
        self.batch = 0

    def _map(self, ring: IoUringRing) -> None:
        asked = ring.params()
        if not asked.features & kernel.IORING_FEAT_EXT_ARG:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        size = max(
            asked.sq_off_array + 4 * asked.sq_entries,
            asked.cq_off_cqes + _CQE_BYTES * asked.cq_entries,
        )
        how = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._rings = mmap.mmap(ring.fd(), size, how)
        self.sqes = mmap.mmap(
            ring.fd(), _SQE_BYTES * asked.sq_entries, how, offset=kernel.IORING_OFF_SQES
        )
        self._cqes = memoryview(self._rings)[asked.cq_off_cqes :]
        words = self._words = memoryview(self._rings)[: size & ~3].cast("I")
        array = asked.sq_off_array // 4
        for number in range(asked.sq_entries):
            words[array + number] = number
        self._sq_head, self._sq_tail = asked.sq_off_head // 4, asked.sq_off_tail // 4
        self._cq_head, self._cq_tail = asked.cq_off_head // 4, asked.cq_off_tail // 4
        self._sq_flags = asked.sq_off_flags // 4
        self._entries = asked.sq_entries
        self._completions = asked.cq_entries
        self.mask = asked.sq_entries - 1
        self.tail = self.submitted = words[self._sq_tail]
        self.limit = self.tail + self._entries
        self._head = words[self._cq_head]

    def _provide(self, ring: IoUringRing) -> None:
        self.pool = mmap.mmap(-1, _BUFFERS * BUFFER_BYTES)
        self.buffers = mmap.mmap(-1, _BUFFERS * kernel.BUF.size)
        self._pool_at = address_of(self.pool)
        self.buffer_mask = _BUFFERS - 1
        asked = kernel.BUF_REG.pack(address_of(self.buffers), _BUFFERS, GROUP, 0, 0, 0, 0)
        kernel.register(ring.fd(), kernel.IORING_REGISTER_PBUF_RING, asked, 1)
        for number in range(_BUFFERS):
            self.put_buffer(number, number)
        self.buffer_tail = 0
        self.give_back(_BUFFERS)

    # -- buffers ------------------------------------------------------------------------

    def put_buffer(self, number: int, place: int) -> None:
        """Write the buffer *number* into the ring of the free ones, at *place*."""
        address = self._pool_at + BUFFER_BYTES * number
        # Not its last field: in the first entry that is the tail.
        _ENTRY.pack_into(self.buffers, _ENTRY_BYTES * place, address, BUFFER_BYTES, number)

    def give_back(self, tail: int) -> None:
        """Let the kernel have the buffers up to the count *tail*."""
        self.buffer_tail = tail
        _TAIL.pack_into(self.buffers, _TAIL_AT, tail & 0xFFFF)

    # -- submissions --------------------------------------------------------------------

    def push(
        self,
        op: int,
        fd: int,
        data: int,
        *,
        flags: int = 0,
        ioprio: int = 0,
        offset: int = 0,
        address: int = 0,
        length: int = 0,
        op_flags: int = 0,
        group: int = 0,
        limit: int = 0,
    ) -> None:
        """Write one entry, ``user_data`` being *data*; submits what there is where it is full.
        *limit* bytes end a multishot receive, where the kernel knows that."""
        if self.tail >= self.limit:
            self.submit()
        kernel.SQE.pack_into(
            self.sqes,
            _SQE_BYTES * (self.tail & self.mask),
            op,
            flags,
            ioprio,
            fd,
            offset,
            address,
            length,
            op_flags,
            data,
            group,
            0,
            limit,
            0,
            0,
        )
        self.tail += 1

    def make_room(self, count: int) -> None:
        """See that *count* more entries go with one submission, which a link needs."""
        if self.tail + count > self.limit:
            self.submit()

    def submit(self) -> None:
        """Hand over all entries, without waiting. Raises ``OSError`` where not one is taken."""
        before = self.submitted
        self.enter(0)
        if self.submitted == before and self.tail >= self.limit:
            raise OSError(errno.EBUSY, "the kernel takes no submissions")

    def enter(self, timeout_ms: int) -> None:
        """Hand over all entries, and wait for a completion, as ``Gate.enter`` does."""
        words = self._words
        words[self._sq_tail] = self.tail & _WORD
        number = self._gate.enter(self.tail - self.submitted, timeout_ms)
        self.submitted = self.tail - (self.tail - words[self._sq_head] & _WORD)
        self.limit = self.submitted + self._entries
        self.batch += 1
        if number not in _PASSING:
            raise OSError(number, f"{os.strerror(number)} (io_uring_enter)")

    def all_submitted(self) -> bool:
        """Whether the kernel has taken every entry, which short of memory it may not."""
        return self.submitted == self.tail

    # -- completions --------------------------------------------------------------------

    def completions(self) -> Iterable[tuple[int, int, int]]:
        """What has completed since the last call: (``user_data``, result, flags) of each."""
        words = self._words
        head, tail = self._head, words[self._cq_tail]
        count = (tail - head) & _WORD
        if not count:
            return ()
        start = (head & self._completions - 1) * _CQE_BYTES
        end = start + count * _CQE_BYTES
        size = self._completions * _CQE_BYTES
        if end <= size:
            found = bytes(self._cqes[start:end])
        else:
            found = bytes(self._cqes[start:size]) + bytes(self._cqes[: end - size])
        self._head = tail
        words[self._cq_head] = tail
        return kernel.CQE.iter_unpack(found)

    def has_more(self) -> bool:
        """Whether the kernel keeps completions back for which there was no room."""
        return self._words[self._sq_flags] & kernel.IORING_SQ_CQ_OVERFLOW != 0

    # -- the end ------------------------------------------------------------------------

    def close(self, *, quiet: bool) -> None:
        """Give everything back. Without *quiet* something may still be in flight, and the memory
        it may write to is kept for as long as the process lives."""
        self._ring.close()
        if not quiet:
            _kept.append(self.pool)
        else:
            self.pool.close()
        self._words.release()
        self._cqes.release()
        self.sqes.close()
        self._rings.close()
        self.buffers.close()


_ENTRY = struct.Struct("<QIH")
_ENTRY_BYTES = kernel.BUF.size
_kept: list[mmap.mmap] = []
