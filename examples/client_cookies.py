"""Cookies: a login whose session is kept, and comes back from a file in the next program."""

import tempfile
from pathlib import Path

from flare.http import Cookie, HttpClient, Router, ok, redirect


def login(request):
    response = redirect("/account", 303)
    response.set_cookie(Cookie("session", "abc123", path="/", http_only=True, same_site="Lax"))
    return response


def account(request):
    return ok(f"welcome back, {request.cookie_or('session', 'stranger')}")


router = Router()
router.post("/login", login)
router.get("/account", account)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "cookies.json")
    # A handler as transport stands in for the server here; a URL would do as well.
    with HttpClient("http://shop.example", transport=router) as client:
        print(client.post("/login", data={"user": "me"}).text())
        client.cookies.save(path)
    with HttpClient("http://shop.example", transport=router) as client:
        print("before:", client.get("/account").text())
        client.cookies.load(path)
        print("after: ", client.get("/account").text())
        for cookie in client.cookies:
            print(f"{cookie.name} goes to {cookie.domain} alone: {cookie.host_only}")
