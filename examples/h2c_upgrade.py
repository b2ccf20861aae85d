"""From HTTP/1.1 to HTTP/2 in the clear: one server that upgrades, and one that does not."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flare import HttpServer, SocketAddr, ok
from flare.http import HttpClient


class Old(BaseHTTPRequestHandler):
    """A server that has never heard of it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"old")

    def log_message(self, *args: object) -> None:
        pass


def ask(base: str) -> None:
    with HttpClient(base, h2c_upgrade=True) as client:
        first, second = client.get("/one"), client.get("/two")
        print(first.version, second.version, second.text(), client.idle_count())


def main() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        serving = threading.Thread(target=server.serve, args=(lambda request: ok(request.path),))
        serving.start()
        ask(f"http://{server.local_addr()}")
        server.close()
        serving.join()
    with ThreadingHTTPServer(("127.0.0.1", 0), Old) as old:
        serving = threading.Thread(target=old.serve_forever)
        serving.start()
        ask(f"http://127.0.0.1:{old.server_port}")
        old.shutdown()
        serving.join()


if __name__ == "__main__":
    main()
