"""Streaming both ways over HTTP/2: the windows of a stream hold back whoever is too fast.

python examples/h2_streaming.py
"""

import hashlib
from collections.abc import Iterator

from flare import HttpClient, Request, Response, Router, StreamingResponse, ok
from flare.testing import running_server

router = Router()


@router.get("/numbers")
def numbers(request: Request) -> StreamingResponse:
    def source() -> Iterator[bytes]:
        try:
            for number in range(1_000_000):
                yield b"%d\n" % number
        finally:
            print("(the source is closed)")  # the client's reset got here

    return StreamingResponse(200, source())


@router.post("/digest", stream_body=True, max_body_size=1 << 30)
def digest(request: Request) -> Response:
    found = hashlib.sha256()
    while piece := request.stream.read1():  # the client sends no faster than this reads
        found.update(piece)
    return ok(found.hexdigest())


def main() -> None:
    with (
        running_server(router) as server,
        HttpClient(f"http://{server.local_addr()}", prefer_h2c=True) as client,
    ):
        with client.get_streaming("/numbers") as download:
            for line in download.iter_lines():
                if line == "3":
                    break
            print("enough at", line)
        data = bytes(10_000_000)
        pieces = (data[at : at + 100_000] for at in range(0, len(data), 100_000))
        answer = client.post("/digest", body=pieces)
        print(answer.version, answer.text() == hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
    main()
