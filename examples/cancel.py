"""A handler that stops working when its client has gone."""

import threading

from flare import Cancel, HttpServer, Request, Response, SocketAddr, TcpStream, ok

stopped = threading.Event()


class Patient:
    """Works until there is nobody left to work for."""

    def serve(self, request: Request, cancel: Cancel) -> Response:
        while not cancel.wait(0.01):
            pass  # a piece of work
        print("stopped, because of reason", cancel.reason(), "(1: the peer left)")
        stopped.set()
        return ok("nobody reads this")


def main() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        thread = threading.Thread(target=server.serve_cancellable, args=(Patient(),))
        thread.start()
        with TcpStream.connect(server.local_addr()) as client:
            client.write_all(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
        stopped.wait(10)
        server.close()
        thread.join()


if __name__ == "__main__":
    main()
