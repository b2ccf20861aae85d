"""From HTTP/1.1 to HTTP/2 in the clear: one server that upgrades, and one that does not."""

import socket
import threading
from base64 import urlsafe_b64decode
from types import SimpleNamespace

from flare.http import HeaderMap, HttpClient
from flare.http2 import Http2Config, Http2Connection

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def answer(h2: Http2Connection) -> bytes:
    for sid in h2.take_completed_streams():
        body = f"hello {h2.take_request(sid).url}".encode()
        fields = SimpleNamespace(status=200, headers=HeaderMap(), body=body, trailers=None)
        h2.emit_response(sid, fields)
    return h2.drain()


def serve(listener: socket.socket, upgrade: bool) -> None:
    sock, _ = listener.accept()
    with sock:
        head = sock.recv(65536).decode()
        path = head.split(" ")[1]
        if not upgrade:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello ")
            return
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        settings = urlsafe_b64decode(fields["HTTP2-Settings"] + "==")
        request = SimpleNamespace(method="GET", url=path, headers=(), body=b"", trailers=None)
        h2 = Http2Connection.from_h2c_upgrade(Http2Config(), request, settings)
        sock.sendall(SWITCH + answer(h2))
        while data := sock.recv(65536):
            h2.feed(data)
            sock.sendall(answer(h2))


def main() -> None:
    for upgrade in (True, False):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=serve, args=(listener, upgrade))
            thread.start()
            with HttpClient(
                f"http://127.0.0.1:{listener.getsockname()[1]}", h2c_upgrade=True
            ) as client:
                response = client.get("/one")
                print(response.version, response.text())
                if upgrade:
                    print(client.get("/two").version, client.idle_count(), "connection")
            thread.join()


if __name__ == "__main__":
    main()
