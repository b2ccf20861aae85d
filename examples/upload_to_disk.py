"""An upload that goes to disk as it arrives, whatever its size, and is whole or not there.

python examples/upload_to_disk.py
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flare import HttpClient, Request, Response, Router, ok
from flare.testing import running_server

router = Router()
store = Path(tempfile.mkdtemp())


@router.put("/files/:name", stream_body=True, max_body_size=10 * 1024**3)
def upload(request: Request) -> Response:
    digest = hashlib.sha256()
    # What read() raises, where the client leaves, stalls or sends too much, is answered by itself.
    with tempfile.NamedTemporaryFile(dir=store, delete=False) as file:
        try:
            while piece := request.stream.read(65536):
                digest.update(piece)
                file.write(piece)
        except BaseException:
            os.unlink(file.name)
            raise
    # A name from a client is a name, never a path.
    os.replace(file.name, store / hashlib.sha256(request.param("name").encode()).hexdigest())
    return ok(digest.hexdigest())


def pieces(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield number.to_bytes(4, "big") * 16_384


def main() -> None:
    with running_server(router) as server, HttpClient(f"http://{server.local_addr()}") as client:
        answer = client.put("/files/large", pieces(512))
        expected = hashlib.sha256(b"".join(pieces(512))).hexdigest()
        print("the same on both sides:", answer.text() == expected)
        [file] = store.iterdir()
        print(file.stat().st_size, "bytes on disk")
        file.unlink()
    store.rmdir()


if __name__ == "__main__":
    main()
