"""One port, two versions: the same handler over HTTP/1.1 and, without TLS, over HTTP/2.

python examples/h2c_server.py
"""

import time
from concurrent.futures import ThreadPoolExecutor

from flare import HttpClient, Request, Response, Router, ServerConfig, ok
from flare.http2 import Http2Config
from flare.testing import running_server

router = Router()


@router.get("/version")
def version(request: Request) -> Response:
    return ok(request.version)


@router.get("/slow")
def slow(request: Request) -> Response:
    time.sleep(0.2)  # holds up no other stream of the connection
    return ok("slept")


def main() -> None:
    config = ServerConfig(h2_config=Http2Config(max_concurrent_streams=64))
    with running_server(router, config=config) as server:
        url = f"http://{server.local_addr()}"
        with HttpClient(url) as old, HttpClient(url, prefer_h2c=True) as new:
            print(old.get("/version").text(), "and", new.get("/version").text())
            began = time.monotonic()
            with ThreadPoolExecutor(20) as pool:  # on one connection
                answers = [pool.submit(new.get, "/slow") for _ in range(20)]
                print(new.get("/version").text(), "meanwhile")
                print({answer.result().text() for answer in answers})
            print("one after the other it would be 4 s:", time.monotonic() - began < 3.5)


if __name__ == "__main__":
    main()
