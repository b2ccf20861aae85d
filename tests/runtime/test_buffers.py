"""``BufferHandle`` and ``BufferPool``."""

from __future__ import annotations

import socket

import pytest

from flare.errors import ValidationError
from flare.runtime import BufferHandle, BufferPool


@pytest.mark.parametrize(
    ("asked", "given"),
    [(0, 1024), (1, 1024), (1024, 1024), (1025, 4096), (4097, 16384), (65536, 65536)],
)
def test_capacities_are_rounded_up_to_their_class(asked, given):
    pool = BufferPool()
    assert BufferPool.size_for(asked) == given
    handle = pool.acquire(asked)
    assert (handle.capacity, handle.length, len(handle)) == (given, 0, 0)
    assert handle.class_index == (1024, 4096, 16384, 65536).index(given)


def test_what_is_larger_than_all_classes_is_a_one_off():
    pool = BufferPool()
    assert BufferPool.size_for(65537) == 65537
    handle = pool.acquire(65537)
    assert (handle.capacity, handle.class_index) == (65537, -1)
    pool.release(handle)
    assert [pool.size(i) for i in range(4)] == [0, 0, 0, 0]


def test_the_last_released_is_the_next_acquired_and_comes_empty():
    pool = BufferPool()
    first, second = pool.acquire(10), pool.acquire(10)
    second.extend(b"old")
    pool.release(first)
    pool.release(second)
    assert pool.size(0) == 2
    assert pool.acquire(1) is second
    assert len(second) == 0
    assert pool.acquire(1) is first
    assert pool.size(0) == 0


def test_a_second_release_is_ignored():
    pool = BufferPool()
    handle = pool.acquire(10)
    pool.release(handle)
    pool.release(handle)
    assert pool.size(0) == 1
    assert pool.acquire(10) is handle
    pool.release(handle)
    assert pool.size(0) == 1


def test_a_full_class_drops_what_comes_back():
    pool = BufferPool.with_class_capacity(2)
    handles = [pool.acquire(5000) for _ in range(4)]
    for handle in handles:
        pool.release(handle)
    assert pool.class_capacity() == pool.size(2) == 2


@pytest.mark.parametrize(("asked", "kept"), [(0, 1), (-5, 1), (3, 3)])
def test_a_class_keeps_at_least_one(asked, kept):
    assert BufferPool.with_class_capacity(asked).class_capacity() == kept
    assert BufferPool().class_capacity() == 8


def test_handles_of_unknown_classes_are_dropped():
    pool = BufferPool()
    for handle in (BufferHandle(1024, 4), BufferHandle(1024, -1), BufferHandle(10, 0)):
        pool.release(handle)
    assert [pool.size(i) for i in (-1, 0, 1, 2, 3, 4, 99)] == [0] * 7


def test_growing_past_the_capacity_makes_a_one_off():
    pool = BufferPool()
    handle = pool.acquire(1024)
    handle.extend(b"x" * 1024)
    kept = handle.bytes
    assert handle.class_index == 0
    handle.append(0x79)
    assert handle.class_index == -1
    assert bytes(handle.bytes) == b"x" * 1024 + b"y"
    assert bytes(kept) == b"x" * 1024
    pool.release(handle)
    assert pool.size(0) == 0


def test_the_filled_part_and_the_spare_part_meet():
    handle = BufferHandle(8)
    handle.extend(b"abc")
    assert len(handle.spare()) == 5
    handle.spare()[:2] = b"de"
    handle.advance(2)
    assert bytes(handle.bytes) == b"abcde"
    handle.resize(2)
    assert bytes(handle.bytes) == b"ab"
    handle.resize(4)
    assert bytes(handle.bytes) == b"ab\0\0"  # never what was there before
    handle.reset()
    assert (handle.length, handle.capacity, bool(handle)) == (0, 8, True)
    handle.resize(20)
    assert bytes(handle.bytes) == bytes(20)


def test_a_socket_reads_into_the_spare_part():
    a, b = socket.socketpair()
    with a, b, BufferPool().borrow(100) as handle:
        b.send(b"hello")
        handle.advance(a.recv_into(handle.spare()))
        assert handle.bytes == b"hello"


def test_borrow_returns_the_buffer_even_after_an_error():
    pool = BufferPool()

    def fail() -> None:
        with pool.borrow(1):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert pool.size(0) == 1


def test_a_secure_pool_wipes_what_comes_back():
    pool = BufferPool(secure=True)
    handle = pool.acquire(1)
    handle.extend(b"secret")
    pool.release(handle)
    assert bytes(pool.acquire(1).spare()) == bytes(1024)


@pytest.mark.parametrize(
    "call",
    [
        lambda: BufferHandle(-1),
        lambda: BufferPool().acquire(-1),
        lambda: BufferHandle.for_class(4),
        lambda: BufferHandle.for_class(-1),
        lambda: BufferHandle(4).advance(5),
        lambda: BufferHandle(4).advance(-1),
        lambda: BufferHandle(4).resize(-1),
    ],
)
def test_impossible_sizes_are_refused(call):
    with pytest.raises(ValidationError):
        call()


def test_an_empty_handle_can_grow():
    handle = BufferHandle(0)
    handle.append(1)
    handle.extend(memoryview(b"\2\3"))
    assert handle.bytes == b"\1\2\3"
    assert "3/" in repr(handle)
    assert repr(BufferPool()) == "BufferPool(0, 0, 0, 0 kept)"
