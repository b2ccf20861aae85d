"""A form with a file in it, received, checked and stored; and what happens to a bad one.

python examples/form_upload.py
"""

import tempfile
from pathlib import Path

from flare import (
    HttpClient,
    HttpParseError,
    Request,
    Response,
    Router,
    ok,
    ok_json_value,
    parse_form_urlencoded,
    parse_multipart_form_data,
)
from flare.errors import HttpStatusError
from flare.testing import running_server

router = Router()
store = Path(tempfile.mkdtemp())


@router.post("/search")
def search(request: Request) -> Response:
    try:
        form = parse_form_urlencoded(request.body, max_fields=10)
    except HttpParseError as error:
        raise HttpStatusError(error.status, error.detail) from error
    return ok(f"{form.get('q', 'nothing')} in {', '.join(form.get_all('in'))}")


@router.post("/photos")
def upload(request: Request) -> Response:
    try:
        form = parse_multipart_form_data(request.body, request.headers.get("content-type"))
    except HttpParseError as error:
        raise HttpStatusError(error.status, error.detail) from error
    photo = form.file("photo")
    if photo is None:
        raise HttpStatusError(400, "no photo")
    # What a peer calls a file is a name at most, never a path; two files may have the same.
    name = photo.safe_filename() or "unnamed"
    path = store / f"{len(list(store.iterdir()))}-{name}"
    path.write_bytes(photo.body)
    return ok_json_value({"title": form.value("title"), "stored": path.name})


def main() -> None:
    with running_server(router) as server, HttpClient(f"http://{server.local_addr()}") as client:
        print(client.post("/search", data={"q": "waves & wind", "in": ["titles", "notes"]}).text())

        photo = ("../../holiday.png", b"\x89PNG", "image/png")
        print(client.post("/photos", data={"title": "At sea"}, files={"photo": photo}).json())

        for answer in (
            client.post("/photos", data={"title": "At sea"}),
            client.post("/photos", b"--b\r\n", headers={"Content-Type": "multipart/form-data"}),
            client.post("/search", data=[("in", "")] * 11),
        ):
            print(answer.status, answer.text())
    for path in store.iterdir():
        path.unlink()
    store.rmdir()


if __name__ == "__main__":
    main()
