"""A client behind a proxy that wants a password, and what of it the server sees."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flare import HttpServer, Request, Response, SocketAddr, ok
from flare.http import HttpClient, ProxyError


class Proxy(BaseHTTPRequestHandler):
    """Leads to one server, whoever is asked for, if the password is right."""

    protocol_version = "HTTP/1.1"
    behind = ("127.0.0.1", 0)

    def do_CONNECT(self) -> None:
        if self.headers["Proxy-Authorization"] != "Basic dXNlcjpzZWNyZXQ=":
            self.send_error(407)
            return
        print("asked to lead to", self.path)
        with socket.create_connection(self.behind) as onward:
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


def whatever(request: Request) -> Response:
    return ok(f"password seen: {'proxy-authorization' in request.headers}")


def main() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        Proxy.behind = ("127.0.0.1", server.local_addr().port)
        serving = threading.Thread(target=server.serve, args=(whatever,))
        serving.start()
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=proxy.serve_forever).start()
        where = f"127.0.0.1:{proxy.server_port}"
        # HTTP/2 in the clear goes through a tunnel, as https does.
        with HttpClient(proxy=f"http://user:secret@{where}", prefer_h2c=True) as client:
            print(client.get("http://server.example/").text())
        with HttpClient(proxy=f"http://{where}", prefer_h2c=True) as client:
            try:
                client.get("http://server.example/")
            except ProxyError as error:
                print("refused:", error.status)
        proxy.shutdown()
        proxy.server_close()
        server.close()
        serving.join()


if __name__ == "__main__":
    main()
