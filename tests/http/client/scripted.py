"""A server that plays a script: what it expects to read, what it sends, when it hangs up."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

LIMIT = 10.0  # no step of a script waits longer


@dataclass
class Send:
    """Send these bytes; stop quietly where the client has gone."""

    data: bytes


@dataclass
class Drip:
    """Send these bytes one at a time, *pause* seconds apart, until the client goes."""

    data: bytes
    pause: float


class Head:
    """Read one request head (and what came with it)."""


@dataclass
class Body:
    """Read until this many bytes came behind the head."""

    size: int


class Whole:
    """Read a request with its body, by Content-Length or chunked."""


class Eof:
    """Read until the client has closed its side."""


class Goodbye:
    """Send TLS's own end (close_notify), and read the client's."""


class Reset:
    """Cut the connection off."""


@dataclass
class StartTls:
    """Go on over TLS."""

    context: ssl.SSLContext


@dataclass
class Wait:
    """Wait for an event of the test."""

    event: threading.Event


@dataclass
class Set:
    """Tell the test that the script got here."""

    event: threading.Event


Step = Send | Drip | Head | Body | Whole | Eof | Goodbye | Reset | StartTls | Wait | Set


def response(body: bytes = b"", status: str = "200 OK", *fields: str) -> bytes:
    """A response with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answers(*responses: bytes) -> list[Step]:
    """Read a request, answer it, and so on."""
    steps: list[Step] = []
    for each in responses:
        steps += [Whole(), Send(each)]
    return steps


@dataclass
class ScriptedServer:
    """One script for each connection, in the order they come; ``seen`` is what each one read.

    A connection past the last script is closed at once, and counted. With *tls* it speaks TLS;
    ``handshakes`` tells of each whether it resumed a session, or how it failed.
    """

    scripts: list[Iterable[Step]]
    tls: ssl.SSLContext | None = None
    seen: list[bytearray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.peer = f"127.0.0.1:{self.port}"
        self.base = f"http://{self.peer}" if self.tls is None else f"https://localhost:{self.port}"
        self.handshakes: list[bool | OSError] = []
        self._threads: list[threading.Thread] = []
        self._stop = False
        self._sockets: list[socket.socket] = []
        self._played = threading.Condition()
        self._finished: set[int] = set()
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def connections(self) -> int:
        return len(self.seen)

    def requests(self, connection: int = 0) -> list[bytes]:
        """The heads a connection sent, without bodies (for requests that have none)."""
        return bytes(self.seen[connection]).split(b"\r\n\r\n")[:-1]

    def wait_played(self, connection: int = 0) -> None:
        """Wait until the script of a connection has come to its end, and hung up."""
        with self._played:
            assert self._played.wait_for(lambda: connection in self._finished, LIMIT)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._stop:
                connection.close()
                return
            connection.settimeout(LIMIT)
            number = len(self.seen)
            self.seen.append(bytearray())
            self._sockets.append(connection)
            script = self.scripts[number] if number < len(self.scripts) else []
            thread = threading.Thread(target=self._play, args=(connection, number, script))
            self._threads.append(thread)
            thread.start()

    def _play(self, connection: socket.socket, number: int, script: Iterable[Step]) -> None:
        if self.tls is not None:
            try:
                connection = self.tls.wrap_socket(connection, server_side=True)
            except OSError as exc:
                self.handshakes.append(exc)
                connection.close()
                script = []
            else:
                self.handshakes.append(bool(connection.session_reused))
                self._sockets.append(connection)
        reader = _Reader(connection, self.seen[number])
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: connection.close())
            try:
                for step in script:
                    if isinstance(step, StartTls):
                        connection = step.context.wrap_socket(connection, server_side=True)
                        self._sockets.append(connection)
                        reader = _Reader(connection, self.seen[number])
                    else:
                        self._do(step, connection, reader)
            except OSError:
                pass  # the client has gone; what it saw is asserted there
        with self._played:
            self._finished.add(number)
            self._played.notify_all()

    def _do(self, step: Step, connection: socket.socket, reader: _Reader) -> None:
        match step:
            case Send(data):
                connection.sendall(data)
            case Drip(data, pause):
                for index in range(len(data)):
                    connection.sendall(data[index : index + 1])
                    threading.Event().wait(pause)
            case Head():
                reader.head()
            case Body(size):
                reader.take(size)
            case Whole():
                reader.whole()
            case Eof():
                while reader.more():
                    pass
            case Goodbye():
                connection.unwrap()
            case Reset():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
            case Wait(event):
                event.wait(LIMIT)
            case Set(event):
                event.set()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._acceptor.join(LIMIT)
        for connection in self._sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(LIMIT)
        self._listener.close()


class _Reader:
    """Takes requests from a connection and notes their bytes."""

    def __init__(self, connection: socket.socket, seen: bytearray) -> None:
        self._connection = connection
        self._seen = seen
        self._held = bytearray()

    def more(self) -> bool:
        data = self._connection.recv(65536)
        self._seen += data
        self._held += data
        return bool(data)

    def _until(self, found: Callable[[], int]) -> bytes:
        while found() < 0:
            if not self.more():
                raise ConnectionError("the client hung up")
        size = found()
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def head(self) -> bytes:
        return self._until(lambda: _end(self._held, b"\r\n\r\n"))

    def take(self, size: int) -> bytes:
        return self._until(lambda: size if len(self._held) >= size else -1)

    def whole(self) -> None:
        head = self.head().lower()
        if b"transfer-encoding: chunked" in head:
            while True:
                line = self._until(lambda: _end(self._held, b"\r\n"))
                size = int(line, 16)
                self.take(size + 2)
                if not size:
                    return
        _, found, value = head.partition(b"content-length:")
        if found:
            self.take(int(value.split(b"\r\n")[0]))


def _end(data: bytearray, mark: bytes) -> int:
    at = data.find(mark)
    return at + len(mark) if at >= 0 else -1


def wait_for_input(client: Any) -> None:
    """Wait until something has come in on the one idle connection, if it was kept."""
    for (connection,) in client._pool._idle.values():
        assert select.select([connection._stream.fileno()], [], [], LIMIT)[0]


class MemoryTransport:
    """A transport of in-memory streams; a function plays the server on a thread of its own."""

    def __init__(self, serve: Callable[[object], None]) -> None:
        self._serve = serve
        self._threads: list[threading.Thread] = []
        self.dialled: list[tuple[str, int, float | None]] = []

    def connect(self, host: str, port: int, deadline: float | None) -> object:
        from flare.testing.memory import MemoryStream

        self.dialled.append((host, port, deadline))
        ours, theirs = MemoryStream.pair()
        thread = threading.Thread(target=self._run, args=(theirs,))
        self._threads.append(thread)
        thread.start()
        return ours

    def _run(self, stream: object) -> None:
        with stream:  # type: ignore[attr-defined]
            try:
                self._serve(stream)
            except OSError:
                pass

    def join(self) -> None:
        for thread in self._threads:
            thread.join(LIMIT)
