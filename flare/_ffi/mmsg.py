"""recvmmsg and sendmmsg: many datagrams, one system call (Linux).

The kernel wants an array of ``struct mmsghdr``, each pointing to a ``struct iovec`` and to a
socket address. A ``ReceiveVector`` or ``SendVector`` lays these out once, so that a call only
fills in what changes. Neither may be used by two threads at a time.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from flare._ffi.libc import address_of, call, function

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SOCKADDR_BYTES: Final = 128  # struct sockaddr_storage

_FAMILY = struct.Struct("=H")
_INET = struct.Struct("!H4s8x")  # after the family: port, address
_INET6 = struct.Struct("!HI16s")  # port, flow information, address
_SCOPE = struct.Struct("=I")


class Iovec(ctypes.Structure):
    """``struct iovec``."""

    _fields_: ClassVar = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    """``struct msghdr`` as Linux has it."""

    _fields_: ClassVar = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Mmsghdr(ctypes.Structure):
    """``struct mmsghdr``: a message, and how many bytes of it were moved."""

    _fields_: ClassVar = [("header", Msghdr), ("length", ctypes.c_uint)]


_recvmmsg = function(
    "recvmmsg",
    ctypes.c_int,
    *(ctypes.c_int, ctypes.POINTER(Mmsghdr), ctypes.c_uint, ctypes.c_int, ctypes.c_void_p),
)
_sendmmsg = function(
    "sendmmsg",
    ctypes.c_int,
    *(ctypes.c_int, ctypes.POINTER(Mmsghdr), ctypes.c_uint, ctypes.c_int),
)


def pack_sockaddr(family: int, address: Sequence[Any]) -> bytes:
    """The ``struct sockaddr_in`` or ``sockaddr_in6`` of a stdlib address tuple."""
    host, port = address[0], address[1]
    if family == socket.AF_INET:
        return _FAMILY.pack(family) + _INET.pack(port, socket.inet_pton(family, host))
    if family == socket.AF_INET6:
        flow, scope = (*address[2:4], 0, 0)[:2]
        raw = _INET6.pack(port, flow, socket.inet_pton(family, host))
        return _FAMILY.pack(family) + raw + _SCOPE.pack(scope)
    raise ValueError(f"address family must be AF_INET or AF_INET6, got {family}")


def unpack_sockaddr(raw: ReadableBuffer) -> tuple[str, int] | tuple[str, int, int, int]:
    """The stdlib address tuple of a ``struct sockaddr_in`` or ``sockaddr_in6``."""
    (family,) = _FAMILY.unpack_from(raw)
    if family == socket.AF_INET:
        port, packed = _INET.unpack_from(raw, 2)
        return socket.inet_ntop(family, packed), port
    if family == socket.AF_INET6:
        port, flow, packed = _INET6.unpack_from(raw, 2)
        (scope,) = _SCOPE.unpack_from(raw, 24)
        return socket.inet_ntop(family, packed), port, flow, scope
    raise ValueError(f"address family must be AF_INET or AF_INET6, got {family}")


class _Vector:
    """*capacity* messages, each of one piece and with room for an address."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be above 0, got {capacity}")
        self.capacity = capacity
        self.headers = (Mmsghdr * capacity)()
        self.pieces = (Iovec * capacity)()
        self._names = bytearray(capacity * SOCKADDR_BYTES)
        names = address_of(self._names)
        for i, entry in enumerate(self.headers):
            header = entry.header
            header.name = names + i * SOCKADDR_BYTES
            header.iov = ctypes.pointer(self.pieces[i])
            header.iovlen = 1

    def _name(self, i: int) -> memoryview:
        start = i * SOCKADDR_BYTES
        return memoryview(self._names)[start : start + SOCKADDR_BYTES]


class ReceiveVector(_Vector):
    """Room for *capacity* datagrams of up to *max_payload* bytes; longer ones are cut."""

    def __init__(self, capacity: int, max_payload: int) -> None:
        super().__init__(capacity)
        if max_payload < 1:
            raise ValueError(f"max_payload must be above 0, got {max_payload}")
        self.max_payload = max_payload
        self._payloads = bytearray(capacity * max_payload)
        base = address_of(self._payloads)
        for i, piece in enumerate(self.pieces):
            piece.base = base + i * max_payload
            piece.length = max_payload
        self.prepare(capacity)

    def prepare(self, count: int) -> None:
        """Make the first *count* entries ready to be filled: the kernel shortens ``namelen``."""
        for entry in self.headers[:count]:
            entry.header.namelen = SOCKADDR_BYTES

    def payload(self, i: int) -> memoryview:
        """The datagram *i*, valid until the next receive."""
        start = i * self.max_payload
        return memoryview(self._payloads)[start : start + self.headers[i].length]

    def truncated(self, i: int) -> bool:
        """Whether the datagram *i* was longer than there was room."""
        return bool(self.headers[i].header.flags & socket.MSG_TRUNC)

    def sender(self, i: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Where the datagram *i* came from, as a stdlib address tuple."""
        return unpack_sockaddr(self._name(i))


class SendVector(_Vector):
    """Room for *capacity* datagrams to be sent; ``load`` says which."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._kept: list[bytes] = []

    def load(self, payloads: Sequence[ReadableBuffer], sockaddrs: Sequence[bytes]) -> int:
        """Point the first entries at *payloads*, each for its packed address; how many.

        ``bytes`` are sent from where they are and other buffers copied; all are kept until the
        next ``load``. Raises ``ValueError`` for more than there is room for, or lists of
        different lengths.
        """
        count = len(payloads)
        if count > self.capacity or count != len(sockaddrs):
            raise ValueError(
                f"need as many addresses as payloads and {self.capacity} at most,"
                f" got {len(sockaddrs)} and {count}"
            )
        self._kept = [p if isinstance(p, bytes) else bytes(p) for p in payloads]
        for i, (payload, name) in enumerate(zip(self._kept, sockaddrs, strict=True)):
            self._name(i)[: len(name)] = name
            self.headers[i].header.namelen = len(name)
            piece = self.pieces[i]
            piece.base = address_of(payload)
            piece.length = len(payload)
        return count


def recvmmsg(fd: int, vec: ReceiveVector, count: int, flags: int = 0) -> int:
    """Receive up to *count* datagrams into *vec* and return how many came.

    Blocks for the first one unless *flags* has ``MSG_DONTWAIT`` or *fd* does not block, when
    ``BlockingIOError`` says that there is none. ``OSError(ENOSYS)`` where there is no recvmmsg.
    """
    count = min(count, vec.capacity)
    vec.prepare(count)
    received: int = call("recvmmsg", _recvmmsg, fd, vec.headers, count, flags, None)
    return received


def sendmmsg(fd: int, vec: SendVector, count: int, flags: int = 0) -> int:
    """Send the first *count* datagrams of *vec* and return how many the system took.

    Fewer than *count* where a later one failed or found no room; an error of the first raises.
    """
    sent: int = call("sendmmsg", _sendmmsg, fd, vec.headers, min(count, vec.capacity), flags)
    return sent
