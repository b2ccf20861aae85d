"""A large body up and down without holding it: 32 MiB each way, a chunk at a time."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flare.http import HttpClient

CHUNK, COUNT = bytes(range(256)) * 256, 512


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.begin(len(CHUNK) * COUNT)
        for _ in range(COUNT):
            self.wfile.write(CHUNK)

    def do_PUT(self) -> None:
        digest = hashlib.sha256()
        while size := int(self.rfile.readline(), 16):
            digest.update(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        self.begin(64)
        self.wfile.write(digest.hexdigest().encode())

    def begin(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with HttpClient(f"http://127.0.0.1:{server.server_address[1]}") as client:
        sent, received = hashlib.sha256(CHUNK * COUNT).hexdigest(), hashlib.sha256()
        answer = client.put("/", (CHUNK for _ in range(COUNT)))
        print("uploaded, the same on both sides:", answer.text() == sent)
        with client.get_streaming("/") as download:
            for piece in download:
                received.update(piece)
        print("downloaded, the same on both sides:", received.hexdigest() == sent)
    server.shutdown()
