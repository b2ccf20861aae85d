"""The PROXY protocol, versions 1 and 2, as HAProxy's specification has it: who is behind a proxy.

Parsers of the header that a load balancer sends before anything else on a connection. Give them
all bytes received so far: ``None`` means that more must come, and a header that cannot become
valid any more raises at once. Whether a peer may send one at all is the server's business.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, Final

from flare.errors import AddressParseError
from flare.http.proto.ascii import BytesLike
from flare.net import IpAddr, SocketAddr

__all__ = [
    "ProxyHeader",
    "ProxyParseError",
    "parse_proxy_protocol",
    "parse_proxy_v1",
    "parse_proxy_v2",
]

_V1_PREFIX: Final = b"PROXY "
_V1_LONGEST = 107  # with its CRLF
_V1_FORBIDDEN = re.compile(rb"[\x00\r\n\x7f-\xff]").search
_V1_PORT = re.compile(r"0|[1-9][0-9]{0,4}").fullmatch
_V1_PARTS = ("source address", "destination address", "source port", "destination port")

_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = 16
# HAProxy itself sends a few hundred bytes; the field could announce 64 KiB.
_V2_LONGEST = 4096
_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = 0, 1, 2, 3
_STREAM = 1
_CHECKSUM = 3
# Two addresses, and for the IP families two ports.
_V2_ADDRESSES = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}

_NOWHERE = SocketAddr.unspecified(0)


class ProxyParseError(ValueError):
    """Bytes that are no PROXY header.

    ``version`` is 1 or 2, or 0 where it is neither; ``position`` the offset of what is wrong, -1
    where it has no one place; ``what`` says it in words.
    """

    def __init__(self, version: int, position: int, what: str) -> None:
        super().__init__(version, position, what)
        self.version = version
        self.position = position
        self.what = what

    def __str__(self) -> str:
        where = f", pos={self.position}" if self.position >= 0 else ""
        return f"ProxyParseError(v{self.version}{where}): {self.what}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.version, self.position, self.what)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A PROXY header. ``consumed`` is its length in bytes; what follows is the connection's.

    ``is_local`` is true where it names no addresses, for a health check of the proxy's own or a
    connection of another family: then both are ``0.0.0.0:0`` and the socket's peer stands.
    ``tlvs`` are the (type, value) pairs behind the addresses of a version 2 header; of these only
    a checksum is looked at.
    """

    source: SocketAddr
    destination: SocketAddr
    consumed: int
    is_local: bool
    tlvs: list[tuple[int, bytes]] = field(default_factory=list, hash=False)


def parse_proxy_protocol(buf: BytesLike) -> ProxyHeader | None:
    """Read a header of either version at the start of *buf*, ``None`` while more must come.

    Raises ``ProxyParseError``, of version 0 where *buf* begins like neither.
    """
    start = bytes(memoryview(buf)[: len(_V2_SIGNATURE)])
    for signature, parse in ((_V1_PREFIX, parse_proxy_v1), (_V2_SIGNATURE, parse_proxy_v2)):
        if start.startswith(signature):
            return parse(buf)
        if signature.startswith(start):
            return None
    at = max(_first_difference(start, _V1_PREFIX), _first_difference(start, _V2_SIGNATURE))
    raise ProxyParseError(0, at, "neither PROXY nor the signature of version 2")


def _first_difference(start: bytes, signature: bytes) -> int:
    for at, (ours, theirs) in enumerate(zip(start, signature, strict=False)):
        if ours != theirs:
            return at
    return min(len(start), len(signature))


def parse_proxy_v1(buf: BytesLike) -> ProxyHeader | None:
    """Read the header line of version 1 at the start of *buf*, ``None`` while more must come.

    Raises ``ProxyParseError``.
    """
    start = bytes(memoryview(buf)[:_V1_LONGEST])
    prefix = start[: len(_V1_PREFIX)]
    if not _V1_PREFIX.startswith(prefix):
        raise ProxyParseError(1, _first_difference(prefix, _V1_PREFIX), "missing PROXY")
    end = start.find(b"\r\n")
    line = start[:end] if end >= 0 else start
    if end < 0 and len(start) < _V1_LONGEST:
        line = line.removesuffix(b"\r")  # its LF may yet come
    if found := _V1_FORBIDDEN(line):
        raise ProxyParseError(1, found.start(), f"byte 0x{found[0][0]:02x} in the line")
    if end < 0:
        if len(start) == _V1_LONGEST:
            raise ProxyParseError(1, -1, f"missing CRLF in {_V1_LONGEST} bytes")
        return None
    _, protocol, *parts = line.decode("ascii").split(" ")
    if protocol == "UNKNOWN":
        return ProxyHeader(_NOWHERE, _NOWHERE, end + 2, True)
    if protocol not in ("TCP4", "TCP6"):
        what = f"bad protocol {protocol[:20]!a}" if protocol else "missing protocol"
        raise ProxyParseError(1, len(_V1_PREFIX), what)
    source, destination = _v1_addresses(parts, len(_V1_PREFIX) + 5, v6=protocol == "TCP6")
    return ProxyHeader(source, destination, end + 2, False)


def _v1_addresses(parts: list[str], at: int, *, v6: bool) -> tuple[SocketAddr, SocketAddr]:
    """The two addresses in *parts*, the first of which stands at *at*."""
    ips: list[IpAddr] = []
    ports: list[int] = []
    for index, name in enumerate(_V1_PARTS):
        if index >= len(parts) or not parts[index]:
            raise ProxyParseError(1, at, f"missing {name}")
        part = parts[index]
        if index < 2:
            ips.append(_v1_ip(part, at, name, v6=v6))
        else:
            port = int(part) if _V1_PORT(part) else 65536
            if port > 65535:
                raise ProxyParseError(1, at, f"bad {name} {part[:20]!a}")
            ports.append(port)
        at += len(part) + 1
    if len(parts) > len(_V1_PARTS):
        raise ProxyParseError(1, at - 1, "more than the two addresses and ports")
    return SocketAddr(ips[0], ports[0]), SocketAddr(ips[1], ports[1])


def _v1_ip(text: str, at: int, name: str, *, v6: bool) -> IpAddr:
    try:
        ip = IpAddr.parse(text)
    except AddressParseError:
        raise ProxyParseError(1, at, f"bad {name} {text[:45]!a}") from None
    if ip.is_v6() != v6:
        raise ProxyParseError(1, at, f"{name} {text[:45]!a} is not of TCP{6 if v6 else 4}")
    return ip


def parse_proxy_v2(buf: BytesLike) -> ProxyHeader | None:
    """Read the binary header of version 2 at the start of *buf*, ``None`` while more must come.

    Raises ``ProxyParseError``; for a header that announces over 4096 bytes too, and for one whose
    checksum (a TLV of type 3, CRC-32C) is wrong.
    """
    view = memoryview(buf)
    fixed = bytes(view[:_V2_FIXED])
    signature = fixed[: len(_V2_SIGNATURE)]
    if not _V2_SIGNATURE.startswith(signature):
        raise ProxyParseError(2, _first_difference(signature, _V2_SIGNATURE), "bad signature")
    if len(fixed) > 12:
        _check_command(fixed[12])
    if len(fixed) > 13:
        _check_family(fixed[12] & 15, fixed[13])
    if len(fixed) < _V2_FIXED:
        return None
    command, family = fixed[12] & 15, fixed[13] >> 4
    length = int.from_bytes(fixed[14:16], "big")
    if length > _V2_LONGEST:
        raise ProxyParseError(2, 14, f"length {length} over {_V2_LONGEST}")
    if command == _PROXY and family in (_INET, _INET6) and length < _V2_ADDRESSES[family]:
        raise ProxyParseError(2, 14, f"length {length} under {_V2_ADDRESSES[family]}")
    consumed = _V2_FIXED + length
    if len(view) < consumed:
        return None
    if command == _LOCAL:  # the rest is to be discarded, whatever it is
        return ProxyHeader(_NOWHERE, _NOWHERE, consumed, True)
    block = bytes(view[_V2_FIXED:consumed])
    tlvs = _read_tlvs(block[_V2_ADDRESSES[family] :])
    if any(kind == _CHECKSUM for kind, _ in tlvs):
        _check_sum(bytes(view[:consumed]), _V2_FIXED + _V2_ADDRESSES[family], tlvs)
    if family not in (_INET, _INET6):
        return ProxyHeader(_NOWHERE, _NOWHERE, consumed, True, tlvs)
    source, destination = _v2_addresses(block, 4 if family == _INET else 16)
    return ProxyHeader(source, destination, consumed, False, tlvs)


def _check_command(byte: int) -> None:
    if byte >> 4 != 2:
        raise ProxyParseError(2, 12, f"version {byte >> 4} is not 2")
    if byte & 15 not in (_LOCAL, _PROXY):
        raise ProxyParseError(2, 12, f"unknown command {byte & 15}")


def _check_family(command: int, byte: int) -> None:
    if command == _LOCAL:
        return
    if byte >> 4 not in _V2_ADDRESSES:
        raise ProxyParseError(2, 13, f"unknown address family {byte >> 4}")
    if byte & 15 not in (_UNSPEC, _STREAM):
        raise ProxyParseError(2, 13, f"transport {byte & 15} is not a stream")


def _v2_addresses(block: bytes, size: int) -> tuple[SocketAddr, SocketAddr]:
    """Two packed addresses of *size* bytes, then their ports."""
    found = []
    for index in range(2):
        packed = block[index * size : (index + 1) * size]
        port_at = 2 * size + 2 * index
        port = int.from_bytes(block[port_at : port_at + 2], "big")
        found.append(SocketAddr(IpAddr(ipaddress.ip_address(packed)), port))
    return found[0], found[1]


def _read_tlvs(data: bytes) -> list[tuple[int, bytes]]:
    """The whole pairs in *data*; a rest that is none is skipped, as all of them could be."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 3 <= len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if end > len(data):
            break
        found.append((data[at], data[at + 3 : end]))
        at = end
    return found


def _check_sum(header: bytes, at: int, tlvs: list[tuple[int, bytes]]) -> None:
    """Compare the checksum among *tlvs*, which begin at *at*, with that of the *header*, in which
    the four bytes of the checksum itself count as zeros."""
    for kind, value in tlvs:
        at += 3
        if kind == _CHECKSUM:
            if len(value) != 4:
                raise ProxyParseError(2, at, f"a checksum of {len(value)} bytes")
            if _crc32c(header[:at] + bytes(4) + header[at + 4 :]) != int.from_bytes(value, "big"):
                raise ProxyParseError(2, at, "wrong checksum")
        at += len(value)


def _crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720 section 12.1)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
