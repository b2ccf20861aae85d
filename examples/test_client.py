"""Testing handlers: without a socket, and over a real one for the length of a block.

python examples/test_client.py
"""

from flare import Request, Response, Router, ok_json_value, post
from flare.errors import HttpStatusError
from flare.testing import TestClient, running_server

router = Router()


@router.post("/sum")
def total(req: Request) -> Response:
    numbers = req.json()
    if not isinstance(numbers, list):
        raise HttpStatusError(422, "a list, please")
    return ok_json_value(sum(numbers))


def main() -> None:
    client = TestClient(router, raise_errors=False)
    print("sum:", client.post("/sum", json=[1, 2, 3]).json())
    refused = client.post("/sum", json={"a": 1})
    print("refused:", refused.status, refused.text())
    print("allowed:", client.get("/sum").headers["Allow"])

    with running_server(router) as server:
        answer = post(f"http://{server.local_addr()}/sum", [4, 5])
        print("over a socket:", answer.json())


if __name__ == "__main__":
    main()
