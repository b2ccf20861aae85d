"""Trying again: a server that is busy twice, a POST that is left alone, hooks that watch."""

import itertools

from flare.http import HttpClient, Response, RetryPolicy, ok

visits = itertools.count(1)


def busy_at_first(request):
    number = next(visits)
    if number % 3:
        return Response(503, headers={"Retry-After": "1"}, body="busy")
    return ok(f"served at visit {number}")


policy = RetryPolicy(max_attempts=4, initial_backoff_ms=10, max_backoff_ms=50)
with HttpClient(
    "http://app",
    retry=policy,
    transport=busy_at_first,
    on_request=lambda request: request.headers.set("X-Trace", "7"),
    on_response=lambda response: print(" ", response.request.method, response.status),
) as client:
    print(client.get("/").text())
    print(client.post("/", json={"order": 1}).text(), "- a POST is not sent twice")
