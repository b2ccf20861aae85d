"""Through a proxy to a server: CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, 1929).

Both say to the proxy where to connect to, over the stream that then leads there.
"""

from __future__ import annotations

import re
from concurrent.futures import TimeoutError as LookupTimeout
from time import monotonic
from typing import NoReturn

from flare.errors import NetworkError, Timeout, ValidationError
from flare.http.client.proxy import Proxy
from flare.http.client.transport import Stream
from flare.http.errors import ProxyError
from flare.http.proto.decoder import ResponseDecoder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.heads import H1Limits, ResponseHead

__all__ = ["open_tunnel"]

_HEAD_BYTES = 8 * 1024
_valid_host = re.compile(r"[\x21-\x7e]{1,255}").fullmatch

_SOCKS_REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "CONNECT is not supported",
    8: "that kind of address is not supported",
}


def open_tunnel(
    stream: Stream, proxy: Proxy, host: str, port: int, deadline: float | None
) -> bytes:
    """Have *proxy*, at the other end of *stream*, connect to *host*; what came behind its answer.

    Waits until *deadline*. Raises ``ProxyError`` where the proxy refuses, or is none; ``Timeout``;
    ``ValidationError`` for a host that cannot be asked for; and what the stream raises. The
    timeouts of *stream* are then none.
    """
    # Where it is asked for stands in a line of its own, as far as CONNECT goes.
    if not _valid_host(host):
        raise ValidationError("host", f"cannot be asked of a proxy: {host[:40]!a}")
    way = _Way(stream, proxy, deadline)
    rest = way.connect(host, port) if proxy.scheme == "http" else way.socks(host, port)
    stream.set_recv_timeout(0)
    stream.set_send_timeout(0)
    return rest


class _Way:
    """What is said to a proxy, each wait bounded by the one deadline."""

    def __init__(self, stream: Stream, proxy: Proxy, deadline: float | None) -> None:
        self._stream = stream
        self._proxy = proxy
        self._deadline = deadline
        self._held = b""

    def connect(self, host: str, port: int) -> bytes:
        """CONNECT; what came behind the head of the answer."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._send(
            f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n".encode("ascii")
            + self._proxy.authorization()
            + b"\r\n"
        )
        decoder = ResponseDecoder(H1Limits(max_header_size=_HEAD_BYTES))
        decoder.expect("CONNECT")
        try:
            while True:
                while (event := decoder.next_event()) is None:
                    if data := self._receive():
                        decoder.receive(data)
                    else:
                        decoder.receive_eof()
                assert isinstance(event, ResponseHead)
                if event.status >= 200 or event.status == 101:
                    break
        except HttpParseError as exc:
            raise self._error(f"not an HTTP proxy: {exc.detail}") from exc
        if not 200 <= event.status < 300:
            why = f"{event.status} {event.reason}".strip()
            self._refuse(f"CONNECT to {authority} was answered {why}", event.status)
        return decoder.take_rest()

    def socks(self, host: str, port: int) -> bytes:
        """SOCKS5, with a name and password where there are some."""
        user, password = self._proxy.credentials()
        self._send(b"\x05\x02\x00\x02" if user else b"\x05\x01\x00")
        version, method = self._take(2)
        if version != 5:
            raise self._error("not a SOCKS5 proxy")
        if method == 2 and user:
            self._send(bytes((1, len(user))) + user + bytes((len(password),)) + password)
            if self._take(2)[1]:
                self._refuse("name or password were refused", 0xFF)
        elif method:
            self._refuse("it wants another kind of authentication", method)
        self._send(b"\x05\x01\x00" + self._socks_address(host) + port.to_bytes(2, "big"))
        version, reply, _, kind = self._take(4)
        if version != 5:
            raise self._error("not a SOCKS5 proxy")
        if reply:
            self._refuse(
                f"{host}:{port}: {_SOCKS_REPLIES.get(reply, 'unknown failure')} ({reply})", reply
            )
        # The address it connects from, of no interest.
        self._take({1: 4, 4: 16}.get(kind) or self._take(1)[0])
        self._take(2)
        return self._held

    def _socks_address(self, host: str) -> bytes:
        """*host* as SOCKS5 has it: an address where it is one, or is to be looked up here."""
        import ipaddress

        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            if self._proxy.scheme == "socks5h":
                name = host.encode("ascii")
                return bytes((3, len(name))) + name
            address = ipaddress.ip_address(self._look_up(host))
        return (b"\x01" if address.version == 4 else b"\x04") + address.packed

    def _look_up(self, host: str) -> str:
        """The first address of *host*, an IPv4 one where there is one: any proxy takes that."""
        from flare.dns.lookup import start_lookup

        left = None if self._deadline is None else max(0.001, self._deadline - monotonic())
        try:
            found = start_lookup(host, wait=left).result(left)
        except LookupTimeout as exc:
            raise Timeout("look-up", 0) from exc
        return str(min(found, key=lambda address: address.is_v6()))

    def _left_ms(self) -> int:
        if self._deadline is None:
            return 0
        left = int((self._deadline - monotonic()) * 1000)
        if left <= 0:
            raise Timeout("proxy", 0)
        return left

    def _send(self, data: bytes) -> None:
        while data:
            self._stream.set_send_timeout(self._left_ms())
            data = data[self._stream.write(data) :]

    def _receive(self) -> bytes:
        self._stream.set_recv_timeout(self._left_ms())
        return self._stream.read(_HEAD_BYTES)

    def _take(self, size: int) -> bytes:
        """The next *size* bytes."""
        while len(self._held) < size:
            data = self._receive()
            if not data:
                raise self._error("it hung up")
            self._held += data
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _refuse(self, why: str, status: int) -> NoReturn:
        raise self._error(why, status)

    def _error(self, why: str, status: int = 0) -> NetworkError:
        return ProxyError(self._proxy.name, why, status)
