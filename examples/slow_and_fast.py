"""A route that waits beside one that does not: the fast one stays fast."""

import threading
import time

from flare import HttpClient, Request, Response, Router, ok
from flare.testing import running_server

router = Router()
router.get("/fast", lambda request: ok("fast"))


@router.get("/slow", dispatch="pool")
def slow(request: Request) -> Response:
    time.sleep(0.3)
    return ok("slow")


def main() -> None:
    with running_server(router) as server, HttpClient(f"http://{server.local_addr()}") as client:
        waiting = [threading.Thread(target=client.get, args=("/slow",)) for _ in range(20)]
        for thread in waiting:
            thread.start()
        answered = 0
        while any(thread.is_alive() for thread in waiting):
            client.get("/fast").raise_for_status()
            answered += 1
        print("twenty slow requests went by, and many fast ones:", answered > 20)


if __name__ == "__main__":
    main()
