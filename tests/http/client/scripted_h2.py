"""An HTTP/2 server that a test plays frame by frame, or that answers by a function."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "http2"))
from h2_wire import ACK, END_STREAM, Reply, Sent, block, data, head

from flare.http2 import (
    H2_PREFACE,
    HpackDecoder,
    Http2Config,
    Http2Connection,
    Http2Error,
    build_ping,
    build_settings,
    build_window_update,
    parse_frame,
)

__all__ = ["H2Peer", "Reply", "Wire", "block", "data", "handling", "head"]

LIMIT = 10.0  # no step waits longer


class Gone(Exception):
    """The client has hung up."""


class Wire:
    """One connection of a client. Acknowledges SETTINGS, and PINGs unless told not to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = HpackDecoder()
        self.frames: list[Sent] = []
        self.answers_pings = True
        self._held = bytearray()

    def begin(self, settings: dict[int, int] | None = None) -> None:
        """Take the preface, and say our settings."""
        self._fill(len(H2_PREFACE))
        assert self._held.startswith(H2_PREFACE)
        del self._held[: len(H2_PREFACE)]
        self.sock.sendall(build_settings(settings or {}))

    def _fill(self, size: int) -> None:
        while len(self._held) < size:
            more = self.sock.recv(65536)
            if not more:
                raise Gone
            self._held += more

    def next(self, *kinds: str) -> Sent:
        """The next frame of one of these types."""
        while True:
            self._fill(9)
            while (frame := parse_frame(self._held)) is None:
                self._fill(len(self._held) + 1)
            header = frame.header
            del self._held[: 9 + header.length]
            kind = header.type.name
            found = (kind, int(header.flags), header.stream_id, bytes(frame.payload))
            self.frames.append(found)
            if kind == "SETTINGS" and not header.flags & ACK:
                self.send(build_settings(ack=True))
            if kind == "PING" and not header.flags & ACK and self.answers_pings:
                self.send(build_ping(found[3], ack=True))
            if not kinds or kind in kinds:
                return found

    def request(self) -> tuple[int, dict[str, str]]:
        """The next request's stream and fields."""
        _, _, sid, payload = self.next("HEADERS")
        return sid, {name: value for name, value, _ in self.decoder.decode(payload)}

    def body(self, sid: int) -> bytes:
        """A request's body to its end, the windows opened for all that came."""
        got = b""
        while True:
            _, flags, stream, payload = self.next("DATA")
            assert stream == sid
            got += payload
            if payload:
                self.send(build_window_update(0, len(payload)))
            if flags & END_STREAM:
                return got
            if payload:
                self.send(build_window_update(sid, len(payload)))

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def answer(self, sid: int, body: bytes = b"", status: str = "200") -> None:
        """A whole small response."""
        fields = [(":status", status), ("content-length", str(len(body)))]
        self.send(head(sid, fields, end=not body))
        if body:
            self.send(data(sid, body, end=True))

    def rest(self) -> list[Sent]:
        """Frames until the client hangs up."""
        found = []
        try:
            while True:
                found.append(self.next())
        except (Gone, OSError):
            return found


class H2Peer:
    """Plays ``scripts``, one for each connection in turn; the last one for all that follow."""

    def __init__(self, *scripts: Callable[[Wire], None], tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.base = f"{'https' if tls else 'http'}://localhost:{self.port}"
        self.wires: list[Wire] = []
        self.errors: list[BaseException] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._stop = False
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def connections(self) -> int:
        return len(self.wires)

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stop:
                sock.close()
                return
            sock.settimeout(LIMIT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            script = self._scripts[min(len(self._threads), len(self._scripts) - 1)]
            thread = threading.Thread(target=self._play, args=(script, sock))
            self._threads.append(thread)
            thread.start()

    def _play(self, script: Callable[[Wire], None], sock: socket.socket) -> None:
        with sock:
            try:
                if self._tls is not None:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
                wire = Wire(sock)
                self.wires.append(wire)
                script(wire)
            except (Gone, OSError):
                pass
            except BaseException as exc:
                self.errors.append(exc)
            finally:
                sock.close()

    def __enter__(self) -> H2Peer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._acceptor.join(LIMIT)
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(LIMIT)
        self._listener.close()
        if exc_info[0] is None and self.errors:
            raise self.errors[0]


def handling(
    handle: Callable[[Any], Reply] = lambda request: Reply(body=request.url.encode()),
    **settings: Any,
) -> Callable[[Wire], None]:
    """A script that answers every request by *handle*, by flare's own server side."""

    def serve(wire: Wire) -> None:
        server = Http2Connection.with_config(Http2Config(**settings))
        wire.sock.sendall(server.drain())
        while received := wire.sock.recv(65536):
            try:
                server.feed(received)
                for sid in server.take_completed_streams():
                    server.emit_response(sid, handle(server.take_request(sid)))
            except Http2Error:
                wire.sock.sendall(server.drain())
                raise
            while out := server.drain(65536):
                wire.sock.sendall(out)

    return serve
