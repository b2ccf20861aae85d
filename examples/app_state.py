"""State that handlers and middleware share: python examples/app_state.py [PORT]"""

import sys
import threading
from http.client import HTTPConnection

from flare.http.app import App, State
from flare.http.handler import Handler
from flare.http.request import Request
from flare.http.response import Response, ok
from flare.http.router import Router
from flare.http.server import HttpServer
from flare.net import SocketAddr


class WithHits(Handler):
    """Counts requests. Handlers run on several threads at once, hence the lock."""

    inner: Handler
    hits: State[list[int]]
    lock = threading.Lock()

    def serve(self, req: Request) -> Response:
        response = self.inner.serve(req)
        with self.lock:
            self.hits.get()[0] += 1
            response.headers.set("X-Hits", str(self.hits.get()[0]))
        return response


def main() -> None:
    (router := Router()).get("/", lambda req: ok("home"))
    app = App(state=[0], handler=router)
    server = HttpServer.bind(SocketAddr.localhost(int(sys.argv[1]) if sys.argv[1:] else 0))
    handler = WithHits(inner=app, hits=app.state_view())
    thread = threading.Thread(target=server.serve, args=(handler,))
    thread.start()
    client = HTTPConnection("127.0.0.1", server.local_addr().port, timeout=5)
    for _ in range(3):
        client.request("GET", "/")
        answer = client.getresponse()
        print(f"{answer.read().decode()}, X-Hits: {answer.headers['X-Hits']}")
    client.close()
    server.close()
    thread.join()


if __name__ == "__main__":
    main()
