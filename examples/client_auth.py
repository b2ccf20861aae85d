"""Credentials: Basic, Bearer, Digest, and one of your own."""

import hashlib
import re

from flare.http import BasicAuth, BearerAuth, DigestAuth, HttpClient, Response, ok


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def guarded(request):
    if request.path != "/digest":
        return ok(request.headers.get("Authorization", request.headers.get("X-Key")))
    given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.headers.get("Authorization")))
    if given:
        middle = ":".join(given[name] for name in ("nonce", "nc", "cnonce", "qop"))
        secret, action = digest("user:here:secret"), digest("GET:/digest")
        if given["response"] == digest(f"{secret}:{middle}:{action}"):
            return ok("the password was proved, and not sent")
    challenge = 'Digest realm="here", nonce="n1", qop="auth", algorithm=SHA-256'
    return Response(401, headers={"WWW-Authenticate": challenge})


with HttpClient("http://app", transport=guarded) as client:
    print(client.get("/", auth=BasicAuth("user", "secret")).text())
    print(client.get("/", auth=BearerAuth("tok_abc")).text())
    print(client.get("/", auth=lambda headers: headers.set("X-Key", "k")).text())
    answer = client.get("/digest", auth=DigestAuth("user", "secret"))
    print([hop.status for hop in answer.history], answer.status, answer.text())
