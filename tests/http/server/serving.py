"""A server in a thread, and a client that reads exactly what comes: for the tests beside it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from flare.http.server import HttpServer, ServerConfig
from flare.net import SocketAddr

# Nothing takes this long; it only turns a hang into a failure.
PATIENCE = 20.0

Address = tuple[str, int] | str
"""Of an IPv4 socket, or the path of a Unix socket."""


class Running:
    """``serve`` in a thread. ``stop`` ends it, joins the thread, raises what ``serve`` raised."""

    def __init__(
        self,
        handler: Any,
        config: ServerConfig | None = None,
        *,
        server: HttpServer | None = None,
        workers: int = 1,
    ) -> None:
        self.server = server or HttpServer.bind(SocketAddr.localhost(0), config)
        self.addresses: list[Address] = [
            ("127.0.0.1", addr.port) for addr in self.server.local_addrs()
        ]
        self.addresses += self.server.local_paths()
        self.address = self.addresses[0]
        self.workers = workers
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, args=(handler,), name="serving")
        self.thread.start()

    def _serve(self, handler: Any) -> None:
        try:
            self.server.serve(handler, self.workers)
        except BaseException as error:
            self.error = error

    def join(self) -> None:
        """Wait for ``serve`` to return by itself."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "serve() did not return"

    def stop(self) -> None:
        self.server.close()
        self.join()
        error, self.error = self.error, None
        if error is not None:
            raise error


class Reply:
    """One response as it stood on the wire."""

    def __init__(self, head: bytes, body: bytes, trailers: list[tuple[str, str]]) -> None:
        line, *lines = head.decode("latin-1").split("\r\n")
        self.head = head
        self.line = line
        self.version, status, self.reason = line.split(" ", 2)
        self.status = int(status)
        self.fields = [_field(line) for line in lines]
        self.body = body
        self.trailers = trailers

    def get(self, name: str) -> str | None:
        """The value of a field that comes at most once."""
        values = [value for field, value in self.fields if field.lower() == name]
        assert len(values) <= 1, f"{name} comes {len(values)} times"
        return values[0] if values else None


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(": ")
    assert colon, line
    return name, value


class Peer:
    """A client's end of one connection."""

    def __init__(self, address: Address, *, receive_buffer: int = 0) -> None:
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        self.buffer = b""
        try:
            self.sock.connect(address)
            if self.sock.family == socket.AF_INET:
                # Else what is sent in pieces waits for the server's delayed acknowledgement.
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.sock.close()
            raise

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: str = "/", *lines: str) -> None:
        self.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: h", *lines, "", ""]).encode())

    def post(self, body: bytes, *lines: str, target: str = "/") -> None:
        head = [f"POST {target} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *lines]
        self.send("\r\n".join([*head, "", ""]).encode() + body)

    def finish_sending(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            assert self._more(), f"the connection ended inside {self.buffer[-200:]!r}"
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        parts = [self.buffer[:size]]
        self.buffer = self.buffer[size:]
        left = size - len(parts[0])
        while left:
            data = self.sock.recv(min(left, 1 << 20))
            assert data, f"the connection ended {left} bytes before the end of the body"
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def read(self, method: str = "GET") -> Reply:
        """The next response, interim ones included, and not a byte more."""
        head = self._until(b"\r\n\r\n")
        reply = Reply(head, b"", [])
        length, coding = reply.get("content-length"), reply.get("transfer-encoding")
        assert length is None or coding is None
        if method == "HEAD" or reply.status in (204, 304) or reply.status < 200:
            return reply
        if coding is not None:
            assert coding == "chunked"
            reply.body, reply.trailers = self._chunks()
        elif length is not None:
            reply.body = self._exactly(int(length))
        else:
            reply.body = self.rest()
        return reply

    def _chunks(self) -> tuple[bytes, list[tuple[str, str]]]:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        trailers = []
        while line := self._until(b"\r\n"):
            trailers.append(_field(line.decode("latin-1")))
        return body, trailers

    def rest(self) -> bytes:
        """Everything until the server ends the connection in order."""
        while self._more():
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    def is_ended(self) -> bool:
        """Wait for the end of the connection; whether nothing came before it."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return self.buffer == b""

    def close(self) -> None:
        self.sock.close()


Serve = Callable[..., Address]
Start = Callable[..., Running]
Connect = Callable[..., Peer]
