"""HTTP over a Unix socket: a server and a client of one host, without a port."""

import tempfile
import threading
from pathlib import Path

from flare import HttpServer, Request, Response, ok
from flare.http import HttpClient


def hello(request: Request) -> Response:
    return ok(f"hello {request.headers.get('host')}{request.path}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "app.sock")
        with HttpServer.bind_unix(path) as server:
            thread = threading.Thread(target=server.serve, args=(hello,))
            thread.start()
            with HttpClient("http://app", transport=f"unix:{path}") as client:
                print(client.get("/one").text())
                print(client.get("/two").text(), client.idle_count())
            server.close()
            thread.join()


if __name__ == "__main__":
    main()
