"""IP addresses and socket addresses as values.

Text is read by ``inet_pton`` and written by ``inet_ntop``, so every address has one spelling (RFC
5952 for IPv6, with the dotted tail for v4-mapped addresses). Nothing here resolves a name. The
``ipaddress`` module is not used to read or write: it accepts zone ids, and before Python 3.13 it
prints v4-mapped addresses in hexadecimal.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import total_ordering
from typing import Any

from flare.errors import AddressParseError

__all__ = ["IpAddr", "SocketAddr", "check_addr"]

_FORBIDDEN = re.compile(r"[\0\r\n@]")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
_UNIQUE_LOCAL = 0xFC  # fc00::/7, RFC 4193


@total_ordering
class IpAddr:
    """An IPv4 or IPv6 address: an immutable, hashable value.

    ``IpAddr(text)`` is ``IpAddr.parse(text)``; it also takes the classes of ``ipaddress``. Where
    *is_v6* is given, *addr* is trusted to be canonical text of that family and not looked at
    (for text that comes from the system).

    The questions (``is_private`` and so on) see through v4-mapped IPv6 addresses: a dual-stack
    listener reports the peer 10.0.0.1 as ``::ffff:10.0.0.1``, and an allow-list must judge both
    alike. ``is_v6`` stays true for these; ``unmap`` gives the IPv4 form.

    >>> IpAddr("2001:DB8:0:0::1")
    IpAddr('2001:db8::1')
    >>> IpAddr("::ffff:10.0.0.1").is_private()
    True
    """

    __slots__ = ("_text", "_v6")
    _text: str
    _v6: bool

    def __init__(
        self,
        addr: str | ipaddress.IPv4Address | ipaddress.IPv6Address,
        is_v6: bool | None = None,
    ) -> None:
        if is_v6 is None or not isinstance(addr, str):
            addr, is_v6 = _canonical(addr)
        object.__setattr__(self, "_text", addr)
        object.__setattr__(self, "_v6", is_v6)

    @classmethod
    def parse(cls, s: str) -> IpAddr:
        """Read what ``inet_pton`` reads: four plain decimals, or RFC 4291 text.

        No brackets, zone ids, short or hexadecimal IPv4 forms, or space around. Raises
        ``AddressParseError``.
        """
        if not isinstance(s, str):
            raise TypeError(f"an address is text, not {type(s).__name__}")
        return cls(s)

    @classmethod
    def localhost(cls) -> IpAddr:
        """``127.0.0.1``"""
        return cls("127.0.0.1", False)

    @classmethod
    def localhost_v6(cls) -> IpAddr:
        """``::1``"""
        return cls("::1", True)

    @classmethod
    def unspecified(cls) -> IpAddr:
        """``0.0.0.0``: every IPv4 interface, to a listener."""
        return cls("0.0.0.0", False)

    @classmethod
    def unspecified_v6(cls) -> IpAddr:
        """``::``: every interface, to a listener."""
        return cls("::", True)

    def is_v4(self) -> bool:
        """True for an IPv4 address; false for a v4-mapped one."""
        return not self._v6

    def is_v6(self) -> bool:
        """True for an IPv6 address, v4-mapped ones included."""
        return self._v6

    def is_loopback(self) -> bool:
        """127.0.0.0/8, or ``::1``."""
        packed = self._judged()
        return packed[0] == 127 if len(packed) == 4 else packed == b"\0" * 15 + b"\1"

    def is_unspecified(self) -> bool:
        """``0.0.0.0`` or ``::``."""
        return not any(self._judged())

    def is_private(self) -> bool:
        """10/8, 172.16/12, 192.168/16 (RFC 1918) or fc00::/7 (RFC 4193), and nothing else.

        Unlike ``ipaddress``, which also counts loopback, link-local and documentation addresses.
        """
        packed = self._judged()
        if len(packed) == 16:
            return packed[0] & 0xFE == _UNIQUE_LOCAL
        first, second = packed[0], packed[1]
        return (
            first == 10
            or (first == 172 and second & 0xF0 == 16)
            or (first == 192 and second == 168)
        )

    def is_multicast(self) -> bool:
        """224.0.0.0/4 or ff00::/8."""
        packed = self._judged()
        return packed[0] & 0xF0 == 224 if len(packed) == 4 else packed[0] == 0xFF

    def is_link_local(self) -> bool:
        """169.254/16 or fe80::/10."""
        packed = self._judged()
        if len(packed) == 4:
            return packed[:2] == b"\xa9\xfe"
        return packed[0] == 0xFE and packed[1] & 0xC0 == 0x80

    def is_global(self) -> bool:
        """Reachable from the whole Internet, by the IANA registries that ``ipaddress`` holds."""
        return self.unmap().to_ipaddress().is_global

    def unmap(self) -> IpAddr:
        """The IPv4 address in a v4-mapped one; any other address is returned as it is."""
        packed = self._judged()
        if self._v6 and len(packed) == 4:
            return IpAddr(socket.inet_ntop(socket.AF_INET, packed), False)
        return self

    @property
    def packed(self) -> bytes:
        """4 or 16 bytes in network order."""
        return socket.inet_pton(socket.AF_INET6 if self._v6 else socket.AF_INET, self._text)

    def to_ipaddress(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The same address as a value of the ``ipaddress`` module."""
        packed = self.packed
        return ipaddress.IPv6Address(packed) if self._v6 else ipaddress.IPv4Address(packed)

    def _judged(self) -> bytes:
        """The packed form the questions are asked of: 4 bytes for a v4-mapped address."""
        packed = self.packed
        return packed[12:] if self._v6 and packed.startswith(_MAPPED_PREFIX) else packed

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IpAddr):
            return NotImplemented
        return self._text == other._text and self._v6 == other._v6

    def __lt__(self, other: object) -> bool:
        """IPv4 before IPv6, then by number."""
        if not isinstance(other, IpAddr):
            return NotImplemented
        return (self._v6, self.packed) < (other._v6, other.packed)

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"IpAddr({self._text!r})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"IpAddr is immutable: cannot set {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"IpAddr is immutable: cannot delete {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return IpAddr, (self._text, self._v6)


def _canonical(addr: object) -> tuple[str, bool]:
    """The canonical text of *addr*, and whether it is IPv6."""
    if isinstance(addr, str):
        # inet_pton answers an embedded NUL with ValueError, so look first.
        if _FORBIDDEN.search(addr):
            raise AddressParseError(addr)
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                packed = socket.inet_pton(family, addr)
            except (OSError, UnicodeError):
                continue
            return socket.inet_ntop(family, packed), family == socket.AF_INET6
        raise AddressParseError(addr)
    if isinstance(addr, ipaddress.IPv4Address):
        return str(addr), False
    if isinstance(addr, ipaddress.IPv6Address):
        return socket.inet_ntop(socket.AF_INET6, addr.packed), True
    raise TypeError(f"an address is text or an ipaddress value, not {type(addr).__name__}")


@dataclass(frozen=True, slots=True, order=True, init=False)
class SocketAddr:
    """An IP address and a port: an immutable, hashable value that unpacks into the two.

    A *port* outside 0..65535 and text that is no address raise ``AddressParseError``.

    >>> ip, port = SocketAddr.parse("[::1]:8080")
    >>> str(SocketAddr(ip, port))
    '[::1]:8080'
    """

    ip: IpAddr
    port: int

    def __init__(self, ip: IpAddr | str, port: int) -> None:
        if not isinstance(port, int) or isinstance(port, bool):
            reason = f"the port must be an int, not {type(port).__name__}"
            raise AddressParseError(f"{ip}:{port}", reason)
        if not 0 <= port <= 65535:
            raise AddressParseError(f"{ip}:{port}", "the port must be 0..65535")
        object.__setattr__(self, "ip", ip if isinstance(ip, IpAddr) else IpAddr(ip))
        object.__setattr__(self, "port", port)

    @classmethod
    def localhost(cls, port: int) -> SocketAddr:
        """``127.0.0.1:port``"""
        return cls(IpAddr.localhost(), port)

    @classmethod
    def localhost_v6(cls, port: int) -> SocketAddr:
        """``[::1]:port``"""
        return cls(IpAddr.localhost_v6(), port)

    @classmethod
    def unspecified(cls, port: int) -> SocketAddr:
        """``0.0.0.0:port``"""
        return cls(IpAddr.unspecified(), port)

    @classmethod
    def unspecified_v6(cls, port: int) -> SocketAddr:
        """``[::]:port``"""
        return cls(IpAddr.unspecified_v6(), port)

    @classmethod
    def parse(cls, s: str) -> SocketAddr:
        """Read ``1.2.3.4:80`` or ``[::1]:80``; anything else raises ``AddressParseError``.

        Host names do not fit: this type never resolves.
        """
        host, colon, port = s.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
            raise AddressParseError(s)
        try:
            ip = IpAddr.parse(host[1:-1] if bracketed else host)
        except AddressParseError:
            raise AddressParseError(s) from None
        if ip.is_v6() != bracketed:
            raise AddressParseError(s)
        return cls(ip, int(port))

    def to_sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """The tuple the ``socket`` module takes, of two or, for IPv6, four parts."""
        if self.ip.is_v6():
            return str(self.ip), self.port, 0, 0
        return str(self.ip), self.port

    @classmethod
    def from_sockaddr(cls, t: tuple[Any, ...]) -> SocketAddr:
        """The address in a tuple of the ``socket`` module. A scope id is dropped."""
        host = t[0].partition("%")[0]
        return cls(IpAddr(host, len(t) == 4), t[1])

    def __iter__(self) -> Iterator[IpAddr | int]:
        yield self.ip
        yield self.port

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.is_v6() else f"{self.ip}:{self.port}"


def check_addr(addr: object) -> None:
    """Raise ``TypeError`` for what is no ``SocketAddr``, and say how to make one of it."""
    if isinstance(addr, SocketAddr):
        return
    advice = ""
    if isinstance(addr, str):
        advice = f": SocketAddr.parse({addr!r}), if it is an address and a port"
    elif isinstance(addr, tuple) and len(addr) == 2:
        advice = f": SocketAddr({addr[0]!r}, {addr[1]!r})"
    raise TypeError(f"an address is a SocketAddr, not {type(addr).__name__}{advice}")
