"""io_uring rings, where the kernel has them, and refusals where it has not."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from flare._ffi import io_uring as kernel
from flare.errors import IoError, ValidationError
from flare.runtime import (
    SYS_IO_URING_ENTER,
    SYS_IO_URING_REGISTER,
    SYS_IO_URING_SETUP,
    IoUringParams,
    IoUringRing,
    io_uring,
    io_uring_enter,
    io_uring_register,
    io_uring_setup,
    is_io_uring_available,
)

needs_rings = pytest.mark.skipif(
    not is_io_uring_available(), reason="needs a Linux kernel that lets us use io_uring"
)


def test_the_system_calls_have_their_numbers():
    assert (SYS_IO_URING_SETUP, SYS_IO_URING_ENTER, SYS_IO_URING_REGISTER) == (425, 426, 427)


def test_the_parameters_are_120_bytes_with_the_kernels_offsets():
    params = IoUringParams(
        sq_entries=1, features=2, sq_off_head=3, sq_off_array=4, cq_off_head=5, cq_off_cqes=6
    )
    raw = params.to_bytes()
    assert len(raw) == 120
    words = {at: int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, 120, 4)}
    assert {at: word for at, word in words.items() if word} == {
        0: 1,
        20: 2,
        40: 3,
        64: 4,
        80: 5,
        100: 6,
    }
    assert IoUringParams.from_bytes(raw) == params
    assert IoUringParams.empty().to_bytes() == bytes(120)
    assert IoUringParams.from_bytes(bytes(120)) == IoUringParams()


@pytest.mark.parametrize("raw", [b"", bytes(119), bytes(121)])
def test_parameters_of_another_size_are_refused(raw):
    with pytest.raises(ValidationError):
        IoUringParams.from_bytes(raw)


def test_a_parameter_of_more_than_32_bits_is_refused():
    with pytest.raises(ValidationError):
        IoUringParams(flags=2**32).to_bytes()


@pytest.mark.parametrize("entries", [0, -1, 32769])
def test_a_ring_has_1_to_32768_entries(entries):
    with pytest.raises(ValidationError, match="entries"):
        IoUringRing(entries)


@needs_rings
@pytest.mark.parametrize(("asked", "given"), [(1, 1), (5, 8), (64, 64)])
def test_entries_are_rounded_up_to_a_power_of_two(asked, given):
    with IoUringRing(asked) as ring:
        assert ring.sq_entries() == given
        assert ring.cq_entries() == 2 * given
        assert ring.fd() == ring.fileno() > 2
        assert ring.params().sq_entries == given
        assert ring.features() == ring.params().features != 0
        assert f"fd={ring.fd()}" in repr(ring)


@needs_rings
def test_setup_flags_reach_the_kernel():
    with IoUringRing(4, kernel.IORING_SETUP_CLAMP) as ring:
        assert ring.params().flags == kernel.IORING_SETUP_CLAMP


@needs_rings
def test_close_is_idempotent_and_frees_the_descriptor():
    ring = IoUringRing(4)
    number = ring.fd()
    ring.close()
    ring.close()
    assert ring.fd() == -1
    assert repr(ring) == "IoUringRing(closed)"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@needs_rings
def test_a_leaked_ring_warns():
    with pytest.warns(ResourceWarning, match="unclosed IoUringRing"):
        IoUringRing(4)


@needs_rings
def test_what_the_kernel_refuses_is_an_io_error():
    with pytest.raises(IoError, match="io_uring_setup") as caught:
        IoUringRing(4, setup_flags=1 << 31)
    assert caught.value.code == caught.value.errno == errno.EINVAL


@needs_rings
def test_the_bare_calls_return_minus_the_errno():
    params = IoUringParams()
    fd = io_uring_setup(4, params)
    assert fd > 2
    try:
        assert params.sq_entries == 4
        assert io_uring_enter(fd, 0, 0, 0) == 0
        assert io_uring_register(fd, kernel.IORING_REGISTER_EVENTFD, None, 0) == -errno.EINVAL
        probe = bytearray(16 + 8 * 64)
        assert io_uring_register(fd, kernel.IORING_REGISTER_PROBE, probe, 64) == 0
        assert any(probe)
    finally:
        os.close(fd)
    assert io_uring_setup(0, IoUringParams()) == -errno.EINVAL
    assert io_uring_enter(-1, 0, 0, 0) == -errno.EBADF
    assert io_uring_register(2**30, 0) == -errno.EBADF


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_where_rings_are_forbidden_availability_is_false_and_a_ring_is_an_io_error(
    monkeypatch, code
):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(kernel, "setup", refuse)
    assert io_uring.is_io_uring_available.__wrapped__() is False
    with pytest.raises(IoError) as caught:
        IoUringRing(4)
    assert (caught.value.op, caught.value.code) == ("io_uring_setup", code)
