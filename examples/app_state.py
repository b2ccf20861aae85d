"""State that handlers and middleware share: python examples/app_state.py [PORT]"""

import sys
import threading

from flare import (
    App,
    Handler,
    HttpClient,
    HttpServer,
    Request,
    Response,
    Router,
    SocketAddr,
    State,
    ok,
)


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
    with HttpClient(f"http://{server.local_addr()}") as client:
        for _ in range(3):
            answer = client.get("/")
            print(f"{answer.text()}, X-Hits: {answer.headers['X-Hits']}")
    server.close()
    thread.join()


if __name__ == "__main__":
    main()
