"""One client for sixteen threads, with four connections between them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flare.http import HttpClient


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it would hold the body back until the head is acknowledged
    connections = 0

    def setup(self) -> None:
        super().setup()
        Handler.connections += 1

    def do_GET(self) -> None:
        body = self.path[1:].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    with HttpClient(base, max_connections=4) as client, ThreadPoolExecutor(16) as threads:
        answers = threads.map(lambda number: int(client.get(f"/{number}").text()), range(800))
        print("all answered:", sum(answers) == sum(range(800)))
        print("connections made:", Handler.connections <= 4 and "four at most")
        print(client)
    server.shutdown()
