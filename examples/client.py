"""The client in a nutshell: JSON, forms, errors and redirects, against a server of its own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flare.http import HttpClient, HttpError, get


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/old":
            self.answer(302, b"", Location="/items")
        else:
            self.answer(200 if self.path.startswith("/items") else 404, b'[{"name": "one"}]')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, json.dumps([self.headers["Content-Type"], body.decode()]).encode())

    def answer(self, status: int, body: bytes, **fields: str) -> None:
        self.send_response(status)
        for name, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    print("one request:", get(f"{base}/items").json()[0]["name"])
    with HttpClient(base, timeout_ms=5_000) as client:
        print("json:", client.post("/items", json={"name": "two"}).json())
        print("form:", client.post("/items", data={"name": "three", "n": 3}).text())
        moved = client.get("/old")
        print("redirected:", [hop.status for hop in moved.history], "->", moved.url[len(base) :])
        try:
            client.get("/nowhere").raise_for_status()
        except HttpError as error:
            print("error:", error.status, error.reason)
    server.shutdown()
