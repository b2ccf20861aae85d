"""The C calls: results, errno as ``OSError``, EINTR, and being importable anywhere."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from flare._ffi import affinity, epoll, io_uring, libc, mmsg, process, vectored

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@pytest.fixture
def udp():
    a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with a, b:
        for s in (a, b):
            s.bind(("127.0.0.1", 0))
        yield a, b


# -- libc ---------------------------------------------------------------------------------


def test_a_failure_is_the_os_error_of_its_errno():
    close = libc.function("close", ctypes.c_int, ctypes.c_int)
    with pytest.raises(OSError, match=r"\(close\)") as caught:
        libc.call("close", close, -1)
    assert caught.value.errno == errno.EBADF
    assert isinstance(libc.fail("x", errno.EAGAIN), BlockingIOError)


def test_a_function_the_system_lacks_fails_when_it_is_called():
    absent = libc.function("no_such_function_anywhere", ctypes.c_int)
    with pytest.raises(OSError) as caught:
        libc.call("absent", absent, 1, 2)
    assert caught.value.errno == errno.ENOSYS


def test_an_interrupted_call_begins_again_after_the_handlers():
    answers = [errno.EINTR, errno.EINTR, 0]

    def raw() -> int:
        ctypes.set_errno(answers[0])
        return -1 if answers.pop(0) else 7

    assert libc.call("raw", raw) == 7
    assert answers == []


def test_two_declarations_of_one_function_do_not_disturb_each_other():
    narrow = libc.function("getpid", ctypes.c_int)
    libc.function("getpid", ctypes.c_int, ctypes.c_int, ctypes.c_int)
    assert narrow() == os.getpid()


def test_a_buffers_address_is_where_its_bytes_are():
    for buffer in (b"abc", bytearray(b"abc"), memoryview(bytearray(b"abc"))):
        assert ctypes.string_at(libc.address_of(buffer), 3) == b"abc"


def test_every_module_can_be_imported_where_the_system_has_nothing_of_it():
    code = (
        "import sys, os, ctypes\n"
        "sys.platform = 'plan9'\n"
        "for name in ('sched_getaffinity', 'sched_setaffinity', 'eventfd'):\n"
        "    hasattr(os, name) and delattr(os, name)\n"
        "def refuse(*_, **__): raise OSError('no C library')\n"
        "ctypes.CDLL = refuse\n"
        "from flare._ffi import affinity, epoll, io_uring, mmsg, process, vectored\n"
        "import errno, signal\n"
        "for call in (epoll.epoll_create1, lambda: io_uring.enter(0, 0, 0),\n"
        "             lambda: io_uring.setup(1, bytearray(120)),\n"
        "             lambda: process.set_parent_death_signal(9, 1),\n"
        "             lambda: mmsg.recvmmsg(0, mmsg.ReceiveVector(1, 1), 1)):\n"
        "    try: call()\n"
        "    except OSError as exc: assert exc.errno == errno.ENOSYS, exc\n"
        "    else: raise SystemExit('no error')\n"
        "assert affinity.usable_cpus() and not affinity.pin_to_cpu(0)\n"
        "from flare.runtime import is_io_uring_available\n"
        "assert not is_io_uring_available()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


# -- epoll --------------------------------------------------------------------------------


@linux
def test_epoll_carries_64_bits_of_data():
    a, b = socket.socketpair()
    fd = epoll.epoll_create1()
    try:
        assert not os.get_inheritable(fd)
        events = epoll.EventBuffer(8)
        epoll.epoll_ctl(fd, epoll.EPOLL_CTL_ADD, a.fileno(), epoll.EPOLLIN, 2**64 - 3)
        assert epoll.epoll_wait(fd, events, 0) == 0
        assert epoll.epoll_wait(fd, events, 5) == 0
        b.send(b"x")
        assert epoll.epoll_wait(fd, events) == 1
        assert list(events.pairs(1)) == [(2**64 - 3, epoll.EPOLLIN)]
        epoll.epoll_ctl(fd, epoll.EPOLL_CTL_MOD, a.fileno(), epoll.EPOLLOUT, 5)
        assert list(events.pairs(epoll.epoll_wait(fd, events, 0))) == [(5, epoll.EPOLLOUT)]
        epoll.epoll_ctl(fd, epoll.EPOLL_CTL_DEL, a.fileno())
        with pytest.raises(FileNotFoundError):
            epoll.epoll_ctl(fd, epoll.EPOLL_CTL_DEL, a.fileno())
    finally:
        os.close(fd)
        a.close()
        b.close()
    with pytest.raises(OSError, match="epoll_wait"):
        epoll.epoll_wait(-1, epoll.EventBuffer(1), 0)


@linux
def test_the_epoll_numbers_are_the_standard_librarys():
    names = "EPOLLIN EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLEXCLUSIVE EPOLLONESHOT EPOLLET"
    for name in [*names.split(), "EPOLL_CLOEXEC"]:
        assert getattr(epoll, name) == getattr(select, name) & 0xFFFFFFFF, name


@linux
@pytest.mark.timeout(method="thread")  # SIGALRM is the test's own.
def test_a_signal_does_not_lengthen_or_end_the_wait():
    calls: list[int] = []
    fd = epoll.epoll_create1()
    before = signal.signal(signal.SIGALRM, lambda number, _: calls.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        started = time.monotonic()
        assert epoll.epoll_wait(fd, epoll.EventBuffer(1), 40) == 0
        assert time.monotonic() - started >= 0.03
        assert calls
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(fd)


# -- process and affinity -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize(("code", "sig", "result"), [(0, 0, 0), (7, 0, 7), (0, 9, -9)])
def test_a_child_is_reaped_with_its_exit_code_or_signal(code, sig, result):
    pid = process.fork()
    if pid == 0:
        if sig:
            signal.pause()
        os._exit(code)
    if sig:
        assert process.waitpid(pid, block=False) is None
        process.kill(pid, sig)
    assert process.waitpid(pid) == result
    with pytest.raises(ChildProcessError):
        process.waitpid(pid)
    with pytest.raises(ProcessLookupError):
        process.kill(pid, 0)


@pytest.mark.parametrize("pid", [0, -1, -100])
def test_kill_never_addresses_a_group(pid):
    with pytest.raises(ValueError, match="above 0"):
        process.kill(pid, 0)


@linux
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_asks_to_die_with_its_parent():
    parent = os.getpid()
    pid = process.fork()
    if pid == 0:
        status = 1
        try:
            assert process.parent_death_signal() == 0
            assert process.set_parent_death_signal(signal.SIGKILL, parent)
            assert process.parent_death_signal() == signal.SIGKILL
            assert not process.set_parent_death_signal(signal.SIGKILL, 2**22 + 1)
            status = 0
        finally:
            os._exit(status)
    assert process.waitpid(pid) == 0
    with pytest.raises(OSError, match="prctl"):
        process.set_parent_death_signal(12345, parent)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_a_thread_is_pinned_alone():
    cpus = affinity.usable_cpus()
    assert cpus == sorted(os.sched_getaffinity(0))
    seen: list[list[int]] = []

    def pinned() -> None:
        assert affinity.pin_to_cpu(cpus[-1])
        seen.append(affinity.usable_cpus())

    thread = threading.Thread(target=pinned)
    thread.start()
    thread.join()
    assert seen == [[cpus[-1]]]
    assert affinity.usable_cpus() == cpus
    assert not affinity.pin_to_cpu(1023)


# -- writev -------------------------------------------------------------------------------


def test_writev_takes_the_first_thousand_buffers():
    read_end, write_end = os.pipe()
    try:
        assert vectored.IOV_MAX >= 16
        count = vectored.writev(write_end, [b"x"] * (vectored.IOV_MAX + 5))
        assert count == vectored.IOV_MAX
        os.set_blocking(write_end, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(write_end, bytes(65536)):
                pass
        with pytest.raises(BlockingIOError):
            vectored.writev(write_end, [b"x", b"y"])
    finally:
        os.close(read_end)
        os.close(write_end)


# -- io_uring -----------------------------------------------------------------------------


@pytest.fixture
def ring():
    params = bytearray(io_uring.PARAMS_BYTES)
    try:
        fd = io_uring.setup(8, params)
    except OSError as exc:
        pytest.skip(f"io_uring is not to be had here: {exc}")
    yield fd, params
    os.close(fd)


def test_the_layouts_have_the_kernels_sizes():
    assert (io_uring.SQE.size, io_uring.CQE.size) == (64, 16)
    assert (io_uring.BUF.size, io_uring.BUF_REG.size) == (16, 40)


def test_an_operation_goes_in_and_its_completion_comes_out(ring):
    fd, params = ring
    words = memoryview(params).cast("I")
    sq, cq = words[10:20], words[20:30]
    length = max(sq[6] + 4 * words[0], cq[5] + 16 * words[1])
    with (
        mmap.mmap(fd, length, offset=io_uring.IORING_OFF_SQ_RING) as rings,
        mmap.mmap(fd, 64 * words[0], offset=io_uring.IORING_OFF_SQES) as sqes,
    ):
        io_uring.SQE.pack_into(
            sqes, 0, io_uring.IORING_OP_NOP, 0, 0, -1, 0, 0, 0, 0, 2**63, 0, 0, 0, 0, 0
        )
        rings[sq[1] : sq[1] + 4] = (1).to_bytes(4, sys.byteorder)
        submitted = io_uring.enter_timeout(fd, 1, 1, 0, 5000)
        assert submitted == 1
        assert io_uring.CQE.unpack_from(rings, cq[5]) == (2**63, 0, 0)
        del words, sq, cq


def test_a_wait_for_completions_ends_with_its_time(ring):
    fd, _ = ring
    started = time.monotonic()
    assert io_uring.enter_timeout(fd, 0, 1, 0, 20) == 0
    assert 0.015 <= time.monotonic() - started < 5
    assert io_uring.enter_timeout(fd, 0, 1, 0, 0) == 0
    assert io_uring.enter(fd, 0, 0) == 0


def test_what_the_kernel_refuses_is_an_os_error(ring):
    fd, _ = ring
    with pytest.raises(OSError, match="io_uring_enter"):
        io_uring.enter(fd, 0, 0, 1 << 30)
    with pytest.raises(OSError, match="io_uring_enter"):
        io_uring.enter_timeout(-1, 0, 1, 0, 5)
    with pytest.raises(OSError, match="io_uring_register"):
        io_uring.register(fd, 9999)
    with pytest.raises(OSError, match="io_uring_setup"):
        io_uring.setup(0, bytearray(120))
    with pytest.raises(ValueError, match="120"):
        io_uring.setup(1, bytearray(119))


# -- recvmmsg and sendmmsg ----------------------------------------------------------------


@linux
def test_many_datagrams_go_and_come_by_one_call_each(udp):
    a, b = udp
    to_b = mmsg.pack_sockaddr(socket.AF_INET, b.getsockname())
    out, into = mmsg.SendVector(4), mmsg.ReceiveVector(8, 5)
    for _ in range(2):  # the vectors are used again
        count = out.load([b"one", b"", bytearray(b"three!")], [to_b] * 3)
        assert mmsg.sendmmsg(a.fileno(), out, count) == 3
        assert mmsg.recvmmsg(b.fileno(), into, 8, socket.MSG_DONTWAIT) == 3
        assert [bytes(into.payload(i)) for i in range(3)] == [b"one", b"", b"three"]
        assert [into.truncated(i) for i in range(3)] == [False, False, True]
        assert [into.sender(i) for i in range(3)] == [a.getsockname()] * 3
    with pytest.raises(BlockingIOError):
        mmsg.recvmmsg(b.fileno(), into, 8, socket.MSG_DONTWAIT)


@linux
@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_datagrams_over_ipv6_name_their_sender():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        try:
            s.bind(("::1", 0))
        except OSError as exc:
            pytest.skip(f"no IPv6 loopback: {exc}")
        out, into = mmsg.SendVector(1), mmsg.ReceiveVector(1, 100)
        out.load([b"six"], [mmsg.pack_sockaddr(socket.AF_INET6, s.getsockname())])
        assert mmsg.sendmmsg(s.fileno(), out, 1) == 1
        assert mmsg.recvmmsg(s.fileno(), into, 5) == 1
        assert into.payload(0) == b"six"
        assert into.sender(0) == s.getsockname()


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("1.2.3.4", 65535)),
        (socket.AF_INET6, ("2001:db8::1", 53, 0, 0)),
        (socket.AF_INET6, ("fe80::1", 53, 7, 3)),
    ],
)
def test_socket_addresses_go_both_ways(family, address):
    raw = mmsg.pack_sockaddr(family, address)
    assert len(raw) == (16 if family == socket.AF_INET else 28)
    assert mmsg.unpack_sockaddr(raw + bytes(100)) == address


def test_other_address_families_are_refused():
    with pytest.raises(ValueError, match="AF_INET"):
        mmsg.pack_sockaddr(socket.AF_UNIX, ("x", 1))
    with pytest.raises(ValueError, match="AF_INET"):
        mmsg.unpack_sockaddr(bytes(128))


def test_impossible_vectors_are_refused():
    for call in (
        lambda: mmsg.ReceiveVector(0, 10),
        lambda: mmsg.ReceiveVector(1, 0),
        lambda: mmsg.SendVector(0),
        lambda: mmsg.SendVector(1).load([b"a", b"b"], [b"", b""]),
        lambda: mmsg.SendVector(2).load([b"a", b"b"], [b""]),
    ):
        with pytest.raises(ValueError):
            call()
