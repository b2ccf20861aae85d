"""A body that is made while it is sent, and one whose maker fails half-way.

python examples/streaming_server.py
"""

from collections.abc import Iterator

from flare import HttpClient, NetworkError, Request, Router, StreamingResponse
from flare.testing import running_server

router = Router()


def countdown(start: int) -> Iterator[bytes]:
    try:
        for number in range(start, 0, -1):
            yield b"%d\n" % number
    finally:
        print(f"(the source of {start} is closed)")  # also where the client leaves early


@router.get("/countdown/:start")
def serve_countdown(request: Request) -> StreamingResponse:
    return StreamingResponse(200, countdown(int(request.param("start"))))


@router.get("/cut")
def serve_cut(request: Request) -> StreamingResponse:
    def source() -> Iterator[bytes]:
        yield b"the first half\n"
        raise RuntimeError("no second half today")

    return StreamingResponse(200, source(), headers={"Content-Type": "text/plain"})


def main() -> None:
    # The server logs the failed body as an error; a program would leave that to its logging.
    import logging

    logging.getLogger("flare.error").addHandler(logging.NullHandler())
    with running_server(router) as server, HttpClient(f"http://{server.local_addr()}") as client:
        with client.get_streaming("/countdown/5") as download:
            print("lines:", *download.iter_lines())
        try:
            client.get("/cut")
        except NetworkError as error:  # nobody takes half a body for a whole one
            print(type(error).__name__, "incomplete" in str(error))


if __name__ == "__main__":
    main()
