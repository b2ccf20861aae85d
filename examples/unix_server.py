"""A server on a Unix socket and on a TCP port at once, and a request over each."""

import os
import tempfile
import threading
from pathlib import Path

from flare import HttpClient, HttpServer, Request, Response, SocketAddr, get, ok


def handler(request: Request) -> Response:
    return ok(f"hello {request.peer.ip}")  # 0.0.0.0: a peer on a Unix socket has no address


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.sock"
        # For the owner and the group, such as the one that the proxy in front runs in.
        with HttpServer.bind_many([SocketAddr.localhost(0), path], mode=0o660) as server:
            thread = threading.Thread(target=server.serve, args=(handler,))
            thread.start()
            print("TCP: ", get(f"http://{server.local_addr()}/").text())
            with HttpClient("http://app", transport=f"unix:{path}") as client:
                print("Unix:", client.get("/").text())
            server.close()
            thread.join()
        print("the socket file is gone:", not os.path.exists(path))


if __name__ == "__main__":
    main()
