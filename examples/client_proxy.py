"""A client behind a proxy that wants a password, and what of it the server sees."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from flare.http import HeaderMap, HttpClient, ProxyError
from flare.http2 import Http2Connection


class Proxy(BaseHTTPRequestHandler):
    """Leads to one server, whoever is asked for, if the password is right."""

    protocol_version = "HTTP/1.1"
    server_address = ("127.0.0.1", 0)

    def do_CONNECT(self) -> None:
        if self.headers["Proxy-Authorization"] != "Basic dXNlcjpzZWNyZXQ=":
            self.send_error(407)
            return
        print("asked to lead to", self.path)
        with socket.create_connection(self.server_address) as onward:
            self.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pour, args=(onward, self.connection))
            back.start()
            pour(self.connection, onward)
            back.join()
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


def pour(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock:
        h2 = Http2Connection()
        while data := sock.recv(65536):
            h2.feed(data)
            for sid in h2.take_completed_streams():
                headers = h2.take_request(sid).headers
                body = f"password seen: {'proxy-authorization' in headers}".encode()
                h2.emit_response(
                    sid,
                    SimpleNamespace(status=200, headers=HeaderMap(), body=body, trailers=None),
                )
            sock.sendall(h2.drain())


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Proxy.server_address = listener.getsockname()
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=proxy.serve_forever).start()
        where = f"127.0.0.1:{proxy.server_port}"
        try:
            # HTTP/2 in the clear goes through a tunnel, as https does.
            with HttpClient(proxy=f"http://user:secret@{where}", prefer_h2c=True) as client:
                print(client.get("http://server.example/").text())
            with HttpClient(proxy=f"http://{where}", prefer_h2c=True) as client:
                try:
                    client.get("http://server.example/")
                except ProxyError as error:
                    print("refused:", error.status)
        finally:
            proxy.shutdown()
            proxy.server_close()
            server.join()


if __name__ == "__main__":
    main()
