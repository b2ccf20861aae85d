"""Swallows uploads: ``python -m benchmarks.client_sink --port N``.

nginx would write them to a disk, or answer before it has read them. One connection at a time for
each thread, bodies by Content-Length, a 200 when the last byte is there.
"""

from __future__ import annotations

import argparse
import re
import socket
import threading

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_length = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE).search


def _serve(connection: socket.socket, buffer: bytearray) -> None:
    held = b""
    while True:
        while b"\r\n\r\n" not in held:
            more = connection.recv(65536)
            if not more:
                return
            held += more
        head, _, rest = held.partition(b"\r\n\r\n")
        found = _length(head)
        left = (int(found[1]) if found else 0) - len(rest)
        while left > 0:
            count = connection.recv_into(buffer, min(left, len(buffer)))
            if not count:
                return
            left -= count
        held = b""
        connection.sendall(_ANSWER)


def _swallow(connection: socket.socket) -> None:
    with connection:
        try:
            _serve(connection, bytearray(1 << 20))
        except OSError:
            pass  # the client has gone


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    with socket.create_server(("127.0.0.1", parser.parse_args().port)) as listener:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_swallow, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
