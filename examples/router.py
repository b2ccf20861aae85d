"""Routes with parameters, a mounted sub-router, and what the misses get.

python examples/router.py [PORT]
"""

import sys
import threading
from http.client import HTTPConnection

from flare.http.request import Request
from flare.http.response import Response, ok, ok_json_value
from flare.http.router import Router
from flare.http.server import HttpServer
from flare.net import SocketAddr

router = Router()


@router.get("/users/:id")
def user(req: Request) -> Response:
    return ok_json_value({"id": req.param("id"), "path": req.mount_path + req.path})


router.get("/", lambda req: ok("welcome"))
router.get("/files/*", lambda req: ok(f"the file {req.param('*')}"))

site = Router()
site.mount("/v1", router)
site.fallback(lambda req: Response(404, body="try /v1"))


def main() -> None:
    server = HttpServer.bind(SocketAddr.localhost(int(sys.argv[1]) if sys.argv[1:] else 0))
    thread = threading.Thread(target=server.serve, args=(site,))
    thread.start()
    client = HTTPConnection("127.0.0.1", server.local_addr().port, timeout=5)
    for path in ("/v1", "/v1/users/a%2Fb", "/v1/files/a/b", "/none"):
        client.request("GET", path)
        answer = client.getresponse()
        print(f"{path} -> {answer.status} {answer.read().decode()}")
    client.close()
    server.close()
    thread.join()


if __name__ == "__main__":
    main()
