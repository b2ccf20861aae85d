"""HTTP/2 by the client: twenty threads on one connection, in the clear, streaming both ways."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

from flare.http import HeaderMap, HttpClient
from flare.http2 import Http2Connection


def serve(listener: socket.socket, connections: list[socket.socket]) -> None:
    """A server of a few lines on the protocol without I/O; one client at a time."""
    while True:
        sock, _ = listener.accept()
        connections.append(sock)
        with sock:
            h2 = Http2Connection()
            sock.sendall(h2.drain())
            while data := sock.recv(65536):
                h2.feed(data)
                for sid in h2.take_completed_streams():
                    request = h2.take_request(sid)
                    body = request.body or f"hello {request.url}".encode()
                    response = SimpleNamespace(
                        status=200, headers=HeaderMap(), body=body, trailers=None
                    )
                    h2.emit_response(sid, response)
                sock.sendall(h2.drain())


def pieces() -> Iterator[bytes]:
    for number in range(100):
        yield b"%d\n" % number


def main() -> None:
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, connections), daemon=True).start()
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with HttpClient(base, prefer_h2c=True) as client:

            def ask(number: int) -> None:
                for turn in range(5):
                    assert client.get(f"/{number}/{turn}").text() == f"hello /{number}/{turn}"

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(f"100 answers over {len(connections)} connection")
            with client.request("POST", "/echo", pieces(), stream=True) as response:
                print(response.version, sum(1 for _ in response.iter_lines()), "lines came back")


if __name__ == "__main__":
    main()
