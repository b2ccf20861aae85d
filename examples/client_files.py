"""Files: uploaded as a form, downloaded with a callback, and gone on with after a failure."""

import tempfile
from pathlib import Path

from flare import HttpClient, Request, Response, Router, ok
from flare.testing import running_server

REPORT = b"all is well\n" * 100_000


def report(request: Request) -> Response:
    """The report, or the part of it from where a client stopped (RFC 9110 section 14)."""
    headers = {"ETag": '"v1"'}
    wanted = request.headers.get("range")
    if not wanted or request.headers.get("if-range") != '"v1"':
        return Response(200, body=REPORT, headers=headers)
    start = int(wanted.removeprefix("bytes=").partition("-")[0])
    headers["Content-Range"] = f"bytes {start}-{len(REPORT) - 1}/{len(REPORT)}"
    return Response(206, body=REPORT[start:], headers=headers)


class PulledPlug(Exception):
    pass


def pull_the_plug(done: int, total: int | None) -> None:
    if done:
        raise PulledPlug


router = Router()
router.get("/report", report)
router.post("/photos", lambda request: ok(f"{len(request.body)} bytes of form"))

with (
    running_server(router) as server,
    HttpClient(f"http://{server.local_addr()}") as client,
    tempfile.TemporaryDirectory() as directory,
):
    photo = Path(directory, "photo.png")
    photo.write_bytes(bytes(1000))
    print(client.post("/photos", files={"photo": photo}, data={"title": "At sea"}).text())

    path = Path(directory, "report.txt")
    try:
        client.download("/report", path, progress=pull_the_plug)
    except PulledPlug:
        print("failed:", sorted(each.name for each in Path(directory).iterdir()))
    response = client.download("/report", path, progress=lambda done, total: None)
    print(response.status, response.reason, path.read_bytes() == REPORT)
