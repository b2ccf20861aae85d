"""Host names to addresses, by the system's resolver.

Names are checked before anything is asked, so that a bad one is ``AddressParseError`` and never an
exception of a codec. International names are encoded by IDNA (RFC 3490) first and checked after,
since its normalisation can turn harmless-looking characters into ``/`` or ``@``.
"""

from __future__ import annotations

import re
import socket
from concurrent.futures import Future
from typing import Protocol

from flare.errors import AddressParseError, NetworkError
from flare.net import DnsError, IpAddr
from flare.utils import pool

__all__ = [
    "CancelToken",
    "host_key",
    "order_happy_eyeballs",
    "resolve",
    "resolve_async",
    "resolve_v4",
    "resolve_v6",
    "start_lookup",
]

MAX_ADDRESSES = 64
_MAX_NAME = 253  # RFC 1035 section 2.3.4, less the length byte and the root label
_MAX_LABEL = 63

# Never part of a host name; each changes what a URL or a resolver makes of the text.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f@:/\\?#%\[\]]")
# inet_aton's forms (0x7f.1, 2130706433) reach addresses that a filter on text does not see. No
# top-level domain looks like a number, so nothing is lost by refusing them.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*", re.ASCII)

_NO_DATA = {
    getattr(socket, name)
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY", "EAI_FAMILY")
    if hasattr(socket, name)
}
_FAMILY_NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_CANCEL_REASONS = {1: "peer closed", 2: "timeout", 3: "shutdown"}


class CancelToken(Protocol):
    """What a look-up asks of a cancellation token, such as ``flare.http.Cancel``."""

    def cancelled(self) -> bool: ...
    def reason(self) -> int: ...


def resolve(host: str) -> list[IpAddr]:
    """Every address of *host*, at most 64, in the order the system prefers; never empty.

    A numeric address is returned as it is. Blocks for as long as the resolver does. Text that is
    no host name raises ``AddressParseError``, a failed look-up ``DnsError``.
    """
    return _resolve(host, socket.AF_UNSPEC)


def resolve_v4(host: str) -> list[IpAddr]:
    """The IPv4 addresses of *host*; as ``resolve``. None at all raises ``DnsError``."""
    return _resolve(host, socket.AF_INET)


def resolve_v6(host: str) -> list[IpAddr]:
    """The IPv6 addresses of *host*; as ``resolve``. None at all raises ``DnsError``."""
    return _resolve(host, socket.AF_INET6)


def resolve_async(host: str, cancel: CancelToken) -> list[IpAddr]:
    """``resolve`` on a pool thread: blocks until the look-up ends or *cancel* flips.

    A flip raises ``NetworkError`` with its reason; the look-up then ends in the background. While
    all threads of the pool are busy it raises ``IoError``.
    """
    if not cancel.cancelled():
        found = start_lookup(host)
        if pool.wait_unless(found, cancel.cancelled) and not cancel.cancelled():
            return found.result()
    reason = _CANCEL_REASONS.get(int(cancel.reason()), "cancelled")
    raise NetworkError(f"look-up of {host} cancelled: {reason}")


def start_lookup(host: str, *, wait: float | None = 0.0) -> Future[list[IpAddr]]:
    """Begin ``resolve(host)`` on a pool thread; numeric addresses are done at once.

    Bad names raise here. *wait* is the pool's: how long to wait for a thread.
    """
    ascii_host = check_host(host)
    if isinstance(ascii_host, IpAddr):
        done: Future[list[IpAddr]] = Future()
        done.set_result([ascii_host])
        return done
    return pool.submit(lambda: _resolve(host, socket.AF_UNSPEC), wait=wait)


def order_happy_eyeballs(addrs: list[IpAddr]) -> list[IpAddr]:
    """The order to dial in (RFC 8305 section 4): IPv6 and IPv4 in turn, IPv6 first.

    Each family keeps its order; what one has more comes last. *addrs* stays as it is.
    """
    v6 = [addr for addr in addrs if addr.is_v6()]
    v4 = [addr for addr in addrs if addr.is_v4()]
    both = min(len(v6), len(v4))
    paired = [addr for pair in zip(v6, v4, strict=False) for addr in pair]
    return paired + v6[both:] + v4[both:]


def host_key(host: str) -> str:
    """The spelling under which a cache knows *host*."""
    return str(check_host(host)).lower().removesuffix(".")


def check_host(host: str) -> IpAddr | str:
    """*host* as an address, or as the ASCII name to look up; else ``AddressParseError``."""
    if not isinstance(host, str):
        raise TypeError(f"a host name is text, not {type(host).__name__}")
    try:
        return IpAddr.parse(host)
    except AddressParseError:
        pass
    # The raw length first: the codec takes quadratic time.
    if len(host) > _MAX_NAME + 1:
        raise AddressParseError(host[:64] + "...")
    name = host
    if not host.isascii():
        try:
            name = ".".join(_to_ascii(label) for label in host.split("."))
        except UnicodeError as exc:
            raise AddressParseError(host) from exc
    bare = name.removesuffix(".")
    labels = bare.split(".")
    if (
        len(bare) > _MAX_NAME
        or _FORBIDDEN.search(name)
        or not all(1 <= len(label) <= _MAX_LABEL for label in labels)
        or _NUMBER.fullmatch(labels[-1])
    ):
        raise AddressParseError(host)
    return name


def _to_ascii(label: str) -> str:
    return label if label.isascii() else label.encode("idna").decode("ascii")


def _resolve(host: str, family: int) -> list[IpAddr]:
    name = check_host(host)
    if isinstance(name, IpAddr):
        if family == (socket.AF_INET if name.is_v6() else socket.AF_INET6):
            raise _no_addresses(host, family)
        return [name]
    try:
        # Bytes, so that the socket module does not run its own IDNA over the name.
        found = socket.getaddrinfo(name.encode("ascii"), None, family, socket.SOCK_STREAM)
    except socket.gaierror as exc:
        if family and exc.errno in _NO_DATA:
            raise _no_addresses(host, family) from exc
        raise DnsError(host, exc.errno or 0, exc.strerror or str(exc)) from exc
    except OSError as exc:
        raise DnsError(host, 0, str(exc)) from exc
    addrs: dict[IpAddr, None] = {}
    for found_family, _, _, _, sockaddr in found:
        if found_family in _FAMILY_NAMES and len(addrs) < MAX_ADDRESSES:
            text = str(sockaddr[0]).partition("%")[0]
            addrs[IpAddr(text, found_family == socket.AF_INET6)] = None
    if not addrs:
        raise _no_addresses(host, family)
    return list(addrs)


def _no_addresses(host: str, family: int) -> DnsError:
    kind = _FAMILY_NAMES.get(socket.AddressFamily(family))
    return DnsError(host, 0, f"no {kind} addresses returned" if kind else "no addresses returned")
