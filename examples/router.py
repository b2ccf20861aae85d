"""Routes with parameters, a mounted sub-router, and what the misses get.

python examples/router.py [PORT]
"""

import sys
import threading

from flare import (
    HttpClient,
    HttpServer,
    Request,
    Response,
    Router,
    SocketAddr,
    ok,
    ok_json_value,
)

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
    with HttpClient(f"http://{server.local_addr()}") as client:
        for path in ("/v1", "/v1/users/a%2Fb", "/v1/files/a/b", "/none"):
            answer = client.get(path)
            print(f"{path} -> {answer.status} {answer.text()}")
    server.close()
    thread.join()


if __name__ == "__main__":
    main()
