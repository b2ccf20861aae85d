"""HTTP/2 by the client: twenty threads on one connection, and streaming both ways."""

import threading
from collections.abc import Iterator

from flare import HttpServer, Request, Response, SocketAddr, ok
from flare.http import HttpClient


def hello(request: Request) -> Response:
    return Response(200, body=request.body) if request.body else ok(f"hello {request.path}")


def pieces() -> Iterator[bytes]:
    for number in range(100):
        yield b"%d\n" % number


def main() -> None:
    with HttpServer.bind(SocketAddr.localhost(0)) as server:
        serving = threading.Thread(target=server.serve, args=(hello,))
        serving.start()
        # Over https the two would agree by themselves.
        with HttpClient(f"http://{server.local_addr()}", prefer_h2c=True) as client:
            print(client.get("/").version)

            def ask(number: int) -> None:
                for turn in range(5):
                    path = f"/{number}/{turn}"
                    assert client.get(path).text() == f"hello {path}"

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print("100 answers over", client.idle_count(), "connection")
            with client.request("POST", "/echo", pieces(), stream=True) as response:
                print(sum(1 for _ in response.iter_lines()), "lines came back")
        server.close()
        serving.join()


if __name__ == "__main__":
    main()
