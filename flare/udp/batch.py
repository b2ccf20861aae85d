"""Many datagrams, one system call: recvmmsg, sendmmsg and UDP segmentation offload (Linux).

These work on a borrowed descriptor, ``UdpSocket.fd()``. Where the system has not got the call they
raise ``UdpBatchUnsupported``: catch it once, and loop over ``try_recv_from`` or ``send_to`` from
then on. That loop is the plain choice in any case: filling in the calls' structures from Python
costs about what the saved system calls did, so measure before changing over.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flare._ffi.mmsg import ReceiveVector, SendVector, pack_sockaddr, recvmmsg, sendmmsg
from flare.errors import NetworkError, ValidationError, map_oserror
from flare.net import RawSocket, SocketAddr
from flare.net.address import check_addr
from flare.udp.socket import DatagramTooLarge, check_size, sockaddr_for

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "BatchReceiver",
    "UdpBatchUnsupported",
    "send_batch",
    "send_segmented",
    "udp_batch_supported",
]

_BATCH = 64  # datagrams in one sendmmsg
_SOL_UDP = 17
_UDP_SEGMENT = 103  # <linux/udp.h>
_MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS before Linux 6.9
_SEGMENT_SIZE = struct.Struct("=H")
_NO_SUCH_CALL = (errno.ENOSYS, errno.EINVAL, errno.ENOPROTOOPT)


class UdpBatchUnsupported(NetworkError, NotImplementedError):
    """The system cannot do the batched call *op*; plain calls work."""

    def __init__(self, op: str) -> None:
        super().__init__(f"{op} (ENOSYS)", errno.ENOSYS)
        self.op = op

    def __str__(self) -> str:
        return f"UdpBatchUnsupported: {self.message}"

    def _arguments(self) -> tuple[Any, ...]:
        return (self.op,)


def udp_batch_supported() -> bool:
    """Whether this platform has the batched calls; an old kernel may still refuse one."""
    return sys.platform == "linux"


class BatchReceiver:
    """Room for *capacity* datagrams of up to *max_payload* bytes, filled by one ``recv``.

    Longer datagrams are cut, which ``truncated`` tells. Not for two threads at a time.
    """

    __slots__ = ("_count", "_vector")

    def __init__(self, capacity: int, max_payload: int) -> None:
        for field, value in (("capacity", capacity), ("max_payload", max_payload)):
            if value < 1:
                raise ValidationError(field, f"must be > 0, got {value}")
        self._vector = ReceiveVector(capacity, max_payload)
        self._count = 0

    def recv(self, fd: int) -> int:
        """Take what waits at the socket *fd*, without waiting; returns how many, 0 for none.

        What the one before took is gone.
        """
        self._count = 0
        try:
            self._count = recvmmsg(fd, self._vector, self._vector.capacity, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError as exc:
            raise _failure(exc, "recvmmsg") from exc
        return self._count

    def count(self) -> int:
        """How many datagrams the last ``recv`` took."""
        return self._count

    def message(self, i: int) -> memoryview:
        """The datagram *i*: a view of this receiver's memory, good until the next ``recv``."""
        return self._vector.payload(self._check(i))

    def sender(self, i: int) -> SocketAddr:
        """Where the datagram *i* came from."""
        return SocketAddr.from_sockaddr(self._vector.sender(self._check(i)))

    def truncated(self, i: int) -> bool:
        """Whether the datagram *i* was longer than ``max_payload``."""
        return self._vector.truncated(self._check(i))

    def __len__(self) -> int:
        return self._count

    def _check(self, i: int) -> int:
        if not 0 <= i < self._count:
            raise IndexError(f"datagram {i} of {self._count}")
        return i


class _PerThread(threading.local):
    """A thread's own vector; laying one out costs more than sending with it."""

    def __init__(self) -> None:
        self.vector = SendVector(_BATCH)


_per_thread = _PerThread()


def send_batch(fd: int, payloads: Sequence[ReadableBuffer], addrs: Sequence[SocketAddr]) -> int:
    """Send each of *payloads* to the address beside it; returns how many the system took.

    That may be fewer than given: send the rest again. Where not even the first was taken the
    error is raised: ``Timeout`` for a full buffer, ``DatagramTooLarge``, or ``NetworkError``. A
    payload above ``UDP_MAX_PAYLOAD`` raises ``DatagramTooLarge`` before anything is sent.
    """
    if len(payloads) != len(addrs):
        raise ValidationError(
            "addrs", f"must be as many as payloads, got {len(addrs)} for {len(payloads)}"
        )
    for addr in addrs:
        check_addr(addr)
    sizes = [check_size(payload) for payload in payloads]
    packed = [_packed(addr) for addr in addrs]
    vector = _per_thread.vector
    sent = 0
    try:
        while sent < len(payloads):
            end = min(sent + _BATCH, len(payloads))
            count = vector.load(payloads[sent:end], packed[sent:end])
            took = sendmmsg(fd, vector, count)
            sent += took
            if took < count:
                break
    except OSError as exc:
        if not sent:
            raise _failure(exc, "sendmmsg", sizes[0]) from exc
    finally:
        vector.load((), ())  # keep no payload alive
    return sent


def send_segmented(fd: int, addr: SocketAddr, data: ReadableBuffer, seg_size: int) -> int:
    """Send *data* to *addr* as datagrams of *seg_size* bytes (the last may be shorter).

    One call, and the kernel or the network card cuts (generic segmentation offload). *data* is at
    most 64 segments and ``UDP_MAX_PAYLOAD`` bytes. Returns how many bytes were sent, which is all.

    Raises ``UdpBatchUnsupported`` where the system cannot, or where a segment with its headers is
    larger than the MTU, which the system does not tell apart.
    """
    if not 1 <= seg_size <= 65535:
        raise ValidationError("seg_size", f"must be 1..65535, got {seg_size}")
    check_addr(addr)
    size = check_size(data)
    if size > seg_size * _MAX_SEGMENTS:
        raise ValidationError(
            "data", f"{size} bytes are more than {_MAX_SEGMENTS} segments of {seg_size}"
        )
    raw = RawSocket.from_fd(fd)
    try:
        control = (_SOL_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(seg_size))
        return raw.sock.sendmsg([data], [control], 0, sockaddr_for(raw.family, addr))
    except NetworkError:
        raise
    except OSError as exc:
        if exc.errno in _NO_SUCH_CALL:
            raise UdpBatchUnsupported("sendmsg(UDP_SEGMENT)") from exc
        raise _failure(exc, "sendmsg", size) from exc
    finally:
        raw.detach()


def _packed(addr: SocketAddr) -> bytes:
    family = socket.AF_INET6 if addr.ip.is_v6() else socket.AF_INET
    return pack_sockaddr(family, addr.to_sockaddr())


def _failure(exc: OSError, op: str, size: int = 0) -> NetworkError:
    match exc.errno:
        case errno.ENOSYS:
            return UdpBatchUnsupported(op)
        case errno.EMSGSIZE:
            return DatagramTooLarge(size, size - 1)
        case _:
            return map_oserror(exc, op)
