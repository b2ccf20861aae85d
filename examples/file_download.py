"""Files as responses, whole and in part, without reading them into the process.

python examples/file_download.py
"""

import tempfile
from pathlib import Path

from flare import HttpClient, Request, Router, StreamingResponse
from flare.http import FileBody, HttpStatusError
from flare.testing import running_server

router = Router()
folder = tempfile.TemporaryDirectory()
files = {"report": Path(folder.name) / "report.csv"}


@router.get("/files/:name")
def download(request: Request) -> StreamingResponse:
    path = files.get(request.param("name"))  # names are looked up, never made into paths
    if path is None:
        raise HttpStatusError(404, "no such file")
    return StreamingResponse(200, FileBody(path), headers={"Content-Type": "text/csv"})


@router.get("/files/:name/tail")
def tail(request: Request) -> StreamingResponse:
    path = files["report"]
    start = max(0, path.stat().st_size - 20)
    return StreamingResponse(200, FileBody(path, start, 20))


def main() -> None:
    files["report"].write_bytes(b"".join(b"%06d,%06d\n" % (n, n * n) for n in range(1000)))
    with (
        folder,
        running_server(router) as server,
        HttpClient(f"http://{server.local_addr()}") as client,
    ):
        whole = client.get("/files/report")
        print(len(whole.body), "bytes of", whole.headers.get("content-type"))
        print(client.get("/files/report/tail").text().splitlines()[-1])
        print(client.get("/files/passwd").status)


if __name__ == "__main__":
    main()
