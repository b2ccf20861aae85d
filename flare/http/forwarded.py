"""Who the client is behind proxies that are trusted: ``Forwarded`` and ``X-Forwarded-*``.

RFC 7239 and the customs before it. Each proxy adds its peer at the right end, so lists are read
from there: an entry counts only if all to the right of it are trusted proxies, and whatever a
client wrote itself, malformed or forged, is never reached. All of it takes time in proportion to
its input.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from flare.errors import AddressParseError, ValidationError
from flare.http.proto.heads import valid_host
from flare.net import IpAddr, SocketAddr

__all__ = ["UNIX_PEER", "Forwarding", "Origin", "ProxyPeer", "TrustedProxies"]

UNIX_PEER: Final = SocketAddr.unspecified(0)
"""What stands for the address of a peer on a Unix socket, which has none."""

# In the order of ``Origin``.
_CUSTOM_FIELDS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")
_KNOWN_FIELDS = frozenset({"forwarded", *_CUSTOM_FIELDS})
_DEFAULT_PORTS = {"http": 80, "https": 443}

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_MAPPED_PREFIX = _MAPPED.network_address.packed[:12]

# Text turned round, so that the last element can be matched first. A token or a quoted string
# without escapes, which no node name, port or scheme needs, then "=" and the parameter's name.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_PAIR = re.compile(rf'(?:"([^"\\]*+)"|({_TOKEN}))=({_TOKEN})').match
_SEMICOLON = re.compile(r"[ \t]*+;[ \t]*+").match
_COMMA = re.compile(r"[ \t]*+(?:,[ \t]*+)++").match
_BLANKS = re.compile(r"[ \t]*+").match

_NODE = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15}))"
    r"(?::(?:([0-9]{1,5})|_[A-Za-z0-9._\-]+))?"
).fullmatch
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch


class TrustedProxies:
    """A set of networks, and perhaps the peers on Unix sockets; immutable.

    ``peer in trusted`` takes a ``SocketAddr``, an ``IpAddr``, or ``None`` for a peer on a Unix
    socket. An IPv4 address mapped into IPv6 counts as itself.

    >>> trusted = TrustedProxies.of(("10.0.0.0/8", "::1", "unix"))
    >>> IpAddr("::ffff:10.1.2.3") in trusted, IpAddr("11.0.0.1") in trusted, None in trusted
    (True, False, True)
    """

    __slots__ = ("_entries", "_unix", "_v4", "_v6")

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """Raises ``ValidationError`` for an entry that is neither an address, nor a network whose
        host bits are zero, nor ``"unix"``."""
        if isinstance(entries, str):
            raise ValidationError(
                "trusted_proxies", f"must be a sequence of texts, got {entries!r}"
            )
        self._entries = tuple(entries)
        self._unix = False
        # For each prefix length, as how far to shift an address right, the networks of it.
        self._v4: dict[int, set[int]] = {}
        self._v6: dict[int, set[int]] = {}
        for entry in self._entries:
            if entry == "unix":
                self._unix = True
            else:
                self._add(entry)

    @classmethod
    def of(cls, entries: Iterable[str]) -> TrustedProxies:
        """The set of *entries*; see the constructor."""
        return cls(entries)

    def _add(self, entry: str) -> None:
        try:
            if not isinstance(entry, str):
                raise ValueError("it is no text")
            if "%" in entry:
                raise ValueError("it has a zone id")
            network = ipaddress.ip_network(entry)
            if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
                packed = network.network_address.packed[12:]
                network = ipaddress.IPv4Network((packed, network.prefixlen - 96))
        except ValueError as error:
            raise ValidationError(
                "trusted_proxies",
                f"expected an address, a network or 'unix', got {entry!r}: {error}",
            ) from None
        table = self._v4 if network.version == 4 else self._v6
        shift = network.max_prefixlen - network.prefixlen
        table.setdefault(shift, set()).add(int(network.network_address) >> shift)

    def __contains__(self, peer: object) -> bool:
        if peer is None:
            return self._unix
        ip = peer.ip if isinstance(peer, SocketAddr) else peer
        if not isinstance(ip, IpAddr):
            return False
        packed = ip.packed
        if ip.is_v6() and packed.startswith(_MAPPED_PREFIX):
            packed = packed[12:]
        address = int.from_bytes(packed, "big")
        table = self._v4 if len(packed) == 4 else self._v6
        for shift, networks in table.items():  # noqa: SIM110 - twice as fast as any()
            if address >> shift in networks:
                return True
        return False

    def __bool__(self) -> bool:
        """Whether anybody is trusted."""
        return bool(self._entries)

    def __repr__(self) -> str:
        return f"TrustedProxies({self._entries!r})"


class _Fields(Protocol):
    def get_all(self, name: str, /) -> list[str]: ...


class Origin(NamedTuple):
    """Who sent a request, and what for, as trusted proxies have it.

    ``scheme``, ``host`` and ``port`` are ``None`` where they say nothing about it, or nothing that
    makes sense. ``host`` may have a port.
    """

    client: SocketAddr
    scheme: str | None = None
    host: str | None = None
    port: int | None = None

    def authority(self, host: str, scheme: str) -> str:
        """The host and port the client asked, where the ``Host`` field says *host*."""
        host = self.host or host
        if self.port is None:
            return host
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return name if self.port == _DEFAULT_PORTS.get(scheme) else f"{name}:{self.port}"


class Forwarding:
    """Whose word about the client counts, and in which header fields.

    *fields* are those that every trusted proxy sets or removes, whatever it got from its own peer:
    ``"forwarded"`` alone (RFC 7239), or some of ``"x-forwarded-for"``, ``"x-forwarded-proto"``,
    ``"x-forwarded-host"`` and ``"x-forwarded-port"``. All others are passed through by proxies as
    a client wrote them, so they are not looked at. Raises ``ValidationError``.
    """

    __slots__ = ("_fields", "trusted")

    def __init__(self, trusted_proxies: Iterable[str], fields: Iterable[str]) -> None:
        self.trusted = TrustedProxies(trusted_proxies)
        if isinstance(fields, str):
            raise ValidationError("forwarded_headers", f"must be a sequence, got {fields!r}")
        self._fields = frozenset(str(field).lower() for field in fields)
        for field in sorted(self._fields):
            if field not in _KNOWN_FIELDS:
                raise ValidationError("forwarded_headers", f"there is no {field!r}")
        if "forwarded" in self._fields and len(self._fields) > 1:
            raise ValidationError(
                "forwarded_headers", "either 'forwarded' or 'x-forwarded-...', not both"
            )

    def peer_of(self, addr: SocketAddr, *, unix: bool = False) -> SocketAddr:
        """The peer at *addr*: a ``ProxyPeer`` where it is trusted. On a *unix* socket that is up
        to the word ``"unix"``."""
        believed = (None if unix else addr) in self.trusted
        return ProxyPeer(addr, self) if believed else addr

    def origin(self, headers: _Fields, peer: SocketAddr) -> Origin:
        """What *headers* say, of a request by the trusted *peer*. Never raises.

        The list of addresses is read from the right past trusted ones, to the first that is not.
        An entry that hides its address (``unknown``, ``_hidden``) or that is malformed ends the
        search at the last address found; where none is found that is *peer*. The port is 0 where
        none is given. What is said about scheme and host is read as far to the left.
        """
        if "forwarded" in self._fields:
            return _from_forwarded(headers.get_all("forwarded"), peer, self.trusted)
        lists = {
            field: headers.get_all(field) if field in self._fields else ()
            for field in _CUSTOM_FIELDS
        }
        return _from_customs(lists, peer, self.trusted)


class ProxyPeer(SocketAddr):
    """The address of a peer that is a trusted proxy. Equal to the same address of anybody."""

    __slots__ = ("_forwarding",)
    _forwarding: Forwarding

    def __init__(self, addr: SocketAddr, forwarding: Forwarding) -> None:
        super().__init__(addr.ip, addr.port)
        object.__setattr__(self, "_forwarding", forwarding)

    def origin(self, headers: _Fields) -> Origin:
        """Who sent the request with these *headers*."""
        return self._forwarding.origin(headers, self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SocketAddr):
            return NotImplemented
        return (self.ip, self.port) == (other.ip, other.port)

    def __lt__(self, other: object) -> bool:
        return bool(_plain(self) < _plain(other))

    def __le__(self, other: object) -> bool:
        return bool(_plain(self) <= _plain(other))

    def __gt__(self, other: object) -> bool:
        return bool(_plain(self) > _plain(other))

    def __ge__(self, other: object) -> bool:
        return bool(_plain(self) >= _plain(other))

    __hash__ = SocketAddr.__hash__

    def __repr__(self) -> str:
        return repr(_plain(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return SocketAddr, (self.ip, self.port)  # trust does not travel


def _plain(addr: Any) -> Any:
    return SocketAddr(addr.ip, addr.port) if isinstance(addr, ProxyPeer) else addr


def _from_forwarded(lines: list[str], client: SocketAddr, trusted: TrustedProxies) -> Origin:
    scheme: str | None = None
    host: str | None = None
    for element in _elements_from_the_right(lines):
        scheme = _scheme(element.get("proto", ""))
        host = _host(element.get("host", ""))
        hop = _node(element.get("for", ""))
        if hop is None:
            break
        client = hop
        if hop not in trusted:
            break
    return Origin(client, scheme, host)


def _elements_from_the_right(lines: list[str]) -> Iterator[dict[str, str]]:
    """The parameters of each element, names in lower case, up to the first malformed element."""
    for line in reversed(lines):
        text = line[::-1]
        # Empty elements are none (RFC 9110 section 5.6.1).
        at = _end(_BLANKS(text)) if (comma := _COMMA(text)) is None else comma.end()
        while at < len(text):
            element, at = _read_element(text, at)
            if element is None:
                return
            yield element


def _read_element(text: str, at: int) -> tuple[dict[str, str] | None, int]:
    """The element at *at* of a line turned round, and where the next begins; ``None`` for one
    that is malformed or names a parameter twice."""
    element: dict[str, str] = {}
    while True:
        if found := _PAIR(text, at):
            quoted, token, name = found.groups()
            name = name[::-1].lower()
            if name in element:
                return None, at
            element[name] = (token if quoted is None else quoted)[::-1]
            at = found.end()
        semicolon = _SEMICOLON(text, at)
        if semicolon is None:
            break
        at = semicolon.end()
    comma = _COMMA(text, at)
    at = _end(_BLANKS(text, at)) if comma is None else comma.end()
    return (element if comma or at == len(text) else None), at


def _end(found: re.Match[str] | None) -> int:
    assert found is not None, "the pattern matches nothing as well"
    return found.end()


def _from_customs(
    lists: Mapping[str, Sequence[str]], client: SocketAddr, trusted: TrustedProxies
) -> Origin:
    addresses, *others = (_entries_from_the_right(lists[field]) for field in _CUSTOM_FIELDS)
    hops = 0
    for entry in addresses:
        hops += 1
        hop = _node(entry) or _bare_v6(entry)
        if hop is None:
            break
        client = hop
        if hop not in trusted:
            break
    # Most proxies replace these, some append to them: then they have an entry for each hop.
    scheme, host, port = (_entry_of_hop(entries, hops) for entries in others)
    return Origin(client, _scheme(scheme), _host(host), _port(port))


def _entry_of_hop(entries: Iterator[str], hops: int) -> str:
    *_, entry = "", *islice(entries, max(1, hops))
    return entry


def _entries_from_the_right(lines: Sequence[str]) -> Iterator[str]:
    for line in reversed(lines):
        for entry in reversed(line.split(",")):
            if entry := entry.strip(" \t"):
                yield entry


def _node(text: str) -> SocketAddr | None:
    """The address that a node names (RFC 7239 section 6), or ``None`` where it names none."""
    found = _NODE(text)
    if found is None:
        return None
    v6, v4, port = found.groups()
    try:
        ip = IpAddr.parse(v6 or v4)
        if ip.is_v6() != bool(v6):
            return None
        return SocketAddr(ip, int(port or 0))
    except AddressParseError:
        return None


def _bare_v6(text: str) -> SocketAddr | None:
    """An IPv6 address without brackets, as ``X-Forwarded-For`` has it."""
    try:
        return SocketAddr(IpAddr.parse(text), 0) if 2 <= len(text) <= 45 else None
    except AddressParseError:
        return None


def _scheme(text: str) -> str | None:
    lower = text.lower()
    return lower if lower in ("http", "https") else None


def _host(text: str) -> str | None:
    return text if 0 < len(text) <= 255 and valid_host(text) else None


def _port(text: str) -> int | None:
    port = int(text) if _PORT(text) else 0
    return port if 0 < port <= 65535 else None
