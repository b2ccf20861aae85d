"""The subject of an X.509 certificate (RFC 5280 section 4.1.2.6), from its DER encoding.

``ssl`` gives the subject only of certificates it verified; this reads just as much DER as it takes
to find it in any. A certificate comes from the peer: every length is checked, nothing recurses.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["subject_of"]

_SEQUENCE = 0x30
_SET = 0x31
_INTEGER = 0x02
_OID = 0x06
_VERSION = 0xA0

_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.42": "GN",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}

_ENCODINGS = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",  # TeletexString, which is Latin-1 wherever it is met
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


def subject_of(der: bytes) -> str:
    """The subject of the certificate *der* in one line: ``/C=US/O=Ex/CN=localhost``.

    Attributes stand in the certificate's order, each after a slash; a type without a short name is
    its dotted number. A slash or backslash within a value has a backslash before it, and what
    cannot be printed is ``\\xNN`` or ``\\uNNNN``. Raises ``ValueError`` where *der* is no
    certificate.
    """
    certificate = next(_elements(der))
    tbs = next(_elements(_content(certificate, _SEQUENCE)))
    fields = _elements(_content(tbs, _SEQUENCE))
    tag, value = next(fields, (0, b""))
    if tag == _VERSION:
        tag, value = next(fields, (0, b""))
    _content((tag, value), _INTEGER)  # the serial number
    for _ in ("signature", "issuer", "validity"):
        _content(next(fields, (0, b"")), _SEQUENCE)
    name = _content(next(fields, (0, b"")), _SEQUENCE)
    return "".join(
        _attribute(pair)
        for relative in _elements(name)
        for pair in _elements(_content(relative, _SET))
    )


def _attribute(pair: tuple[int, bytes]) -> str:
    parts = _elements(_content(pair, _SEQUENCE))
    oid = _dotted(_content(next(parts, (0, b"")), _OID))
    tag, value = next(parts, (0, b""))
    encoding = _ENCODINGS.get(tag)
    text = "#" + value.hex() if encoding is None else value.decode(encoding, "replace")
    return f"/{_NAMES.get(oid, oid)}={''.join(map(_escaped, text))}"


def _escaped(char: str) -> str:
    if char in "/\\":
        return "\\" + char
    if char.isprintable():
        return char
    number = ord(char)
    return f"\\x{number:02X}" if number < 256 else f"\\u{number:04X}"


def _dotted(data: bytes) -> str:
    numbers: list[int] = []
    value = 0
    for byte in data:
        if value >= 1 << 64:
            raise ValueError("not a certificate: an object identifier without bounds")
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if not numbers or data[-1] & 0x80:
        raise ValueError("not a certificate: a broken object identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _content(element: tuple[int, bytes], tag: int) -> bytes:
    if element[0] != tag:
        raise ValueError(f"not a certificate: tag {element[0]:#x} where {tag:#x} belongs")
    return element[1]


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and the content of each element in *data*; at least one, or ``ValueError``."""
    at = 0
    while True:
        if at + 2 > len(data):
            raise ValueError("not a certificate: it ends early")
        tag, length = data[at], data[at + 1]
        at += 2
        if length > 0x84 or length == 0x80:
            raise ValueError("not a certificate: a length that DER does not have")
        if length > 0x80:
            size = length - 0x80
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("not a certificate: it ends early")
        yield tag, data[at : at + length]
        at += length
        if at == len(data):
            return
