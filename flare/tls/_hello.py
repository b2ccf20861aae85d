"""The host name in a ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), before OpenSSL.

Only to keep names that are not ASCII from ``ssl``, which answers each with a traceback on stderr
that nothing can catch: a client could fill a disk with them. All else is left for OpenSSL to judge.
"""

from __future__ import annotations

__all__ = ["MAX_HELLO_BYTES", "asked_name"]

MAX_HELLO_BYTES = 16 * 1024
"""The longest ClientHello; those with large post-quantum keys and tickets are about 4 KiB."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_FIXED_BYTES = 4 + 2 + 32  # the message's head, the version, the random


def asked_name(data: bytes) -> bytes | None:
    """The server name asked for at the start of a connection, of which *data* is what came so far.

    ``b""`` where there is none, or *data* is no ClientHello; ``None`` where it has not all come.
    """
    hello = bytearray()
    at = 0
    while len(hello) < 4 or len(hello) < 4 + int.from_bytes(hello[1:4], "big"):
        if len(data) < at + 5:
            return None if data[at : at + 1] in (b"", b"\x16") else b""
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if data[at] != _HANDSHAKE or (hello and hello[0] != _CLIENT_HELLO):
            return b""
        if len(data) < at + 5 + length:
            return None
        hello += data[at + 5 : at + 5 + length]
        at += 5 + length
    try:
        return _server_name(bytes(hello)) if hello[0] == _CLIENT_HELLO else b""
    except IndexError:
        return b""


def _server_name(hello: bytes) -> bytes:
    """The first host name of the server_name extension; ``IndexError`` where *hello* is broken."""
    at = _FIXED_BYTES
    at += 1 + hello[at]  # the session id
    at += 2 + _number(hello, at)  # the cipher suites
    at += 1 + hello[at]  # the compression methods
    end = at + 2 + _number(hello, at)
    at += 2
    while at < end:
        kind, length = _number(hello, at), _number(hello, at + 2)
        at += 4
        if kind == _SERVER_NAME:
            # A list of one entry: its length, its type (0), the name's length, the name.
            return hello[at + 5 : at + 5 + _number(hello, at + 3)]
        at += length
    return b""


def _number(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
