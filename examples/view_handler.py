"""A handler that reads requests where they were received: no header map, no copy of the body.

python examples/view_handler.py
"""

import threading
import zlib

from flare import Cancel, HttpClient, HttpServer, Request, RequestView, Response, SocketAddr, ok

kept: list[Request] = []


class Checksum:
    def serve_view(self, req: RequestView, cancel: Cancel) -> Response:
        if req.header("X-Keep"):
            kept.append(req.into_owned())  # the view itself ends with this call
        return ok(f"{zlib.crc32(req.body()):08x}")


def main() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        thread = threading.Thread(target=server.serve_view, args=(Checksum(),))
        thread.start()
        with HttpClient(f"http://{server.local_addr()}") as client:
            print(client.post("/", b"x" * 1_000_000).text())
            print(client.post("/", b"hello", headers={"X-Keep": "yes"}).text())
        server.close()
        thread.join()
    print("kept:", kept[0].method, kept[0].text())


if __name__ == "__main__":
    main()
