"""Digest authentication: the examples of RFC 7616, a server that checks, and what stays at home."""

from __future__ import annotations

import hashlib
import io
import re
import threading

import pytest
from scripted import ScriptedServer, answers, response

from flare.errors import ValidationError
from flare.http import Request, Response, ok
from flare.http.client import BasicAuth, DigestAuth, HttpClient, Signing
from flare.http.proto.headers import HeaderMap
from flare.testing import running_server

OK = response(b"done")
ORIGIN = "http://www.example.org:80"


def answer_to(
    auth: DigestAuth, challenge: str, method: str = "GET", target: str = "/", body: bytes = b""
) -> dict[str, str]:
    request = Signing(method, ORIGIN, target, body)
    assert auth.challenged(request, [challenge], again=False)
    headers = HeaderMap()
    auth.authorize(request, headers)
    value = headers["Authorization"]
    assert value.startswith("Digest ")
    return {
        name: quoted or token
        for name, quoted, token in re.findall(r'([\w*]+)=(?:"((?:[^"\\]|\\.)*)"|([^, ]+))', value)
    }


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_the_rfc(algorithm, expected, monkeypatch):
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    monkeypatch.setattr("secrets.token_hex", lambda n: cnonce)
    challenge = (
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
        'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    auth = DigestAuth("Mufasa", "Circle of Life")
    got = answer_to(auth, challenge, target="/dir/index.html")
    assert got == {
        "username": "Mufasa", "realm": "http-auth@example.org", "uri": "/dir/index.html",
        "algorithm": algorithm, "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001", "cnonce": cnonce, "qop": "auth", "response": expected,
        "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    }  # fmt: skip


def test_the_example_with_a_hashed_user_name(monkeypatch):
    # Section 3.9.2; the digests are those of the RFC's erratum 4897.
    cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
    monkeypatch.setattr("secrets.token_hex", lambda n: cnonce)
    challenge = (
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
        'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    auth = DigestAuth("Jäsøn Doe", "Secret, or not?")
    got = answer_to(auth, challenge, target="/doe.json")
    assert got["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert got["response"] == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
    assert got["userhash"] == "true"


def test_old_servers_without_qop_get_the_old_form():
    got = answer_to(DigestAuth("u", "p"), 'Digest realm="r", nonce="n"')
    first, second = _md5("u:r:p"), _md5("GET:/")
    assert got["response"] == _md5(f"{first}:n:{second}")
    assert not {"qop", "nc", "cnonce", "algorithm"} & got.keys()


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def test_the_body_is_part_of_the_proof_where_the_server_wants_it():
    challenge = 'Digest realm="r", nonce="n", qop="auth-int", algorithm=MD5-sess'
    got = answer_to(DigestAuth("u", "p"), challenge, "POST", "/x", b"body")
    first = _md5(f"{_md5('u:r:p')}:n:{got['cnonce']}")
    second = _md5(f"POST:/x:{_md5('body')}")
    assert got["response"] == _md5(f"{first}:n:00000001:{got['cnonce']}:auth-int:{second}")
    streamed = Signing("POST", ORIGIN, "/x", None)
    assert not DigestAuth("u", "p").challenged(streamed, [challenge], again=False)


def test_the_strongest_algorithm_is_taken():
    auth = DigestAuth("u", "p")
    offers = ", ".join(
        f'Digest realm="r", nonce="n", qop="auth", algorithm={name}'
        for name in ("MD5", "SHA-256", "SHA-512-256", "SHA-1")
    )
    assert answer_to(auth, offers)["algorithm"] == "SHA-256"


@pytest.mark.parametrize(
    "challenge",
    [
        "", "Basic realm=x", "Digest", 'Digest realm="r"', 'Digest nonce="n"',
        'Digest realm="r", nonce="n", algorithm=CRC32', 'Digest realm="r", nonce="n", qop="new"',
        'Digest realm="r", nonce="' + "n" * 5000 + '"', 'Digest realm="r\x7f", nonce="n"',
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_not(challenge):
    auth = DigestAuth("u", "p")
    request = Signing("GET", ORIGIN, "/", b"")
    assert not auth.challenged(request, [challenge], again=False)
    headers = HeaderMap()
    auth.authorize(request, headers)
    assert not headers


def test_a_quote_in_a_name_or_a_realm_stays_inside():
    got = answer_to(DigestAuth('u"x', "p"), r'Digest realm="a\"b", nonce="n"')
    assert got["username"] == r"u\"x"
    assert got["realm"] == r"a\"b"


def test_a_name_past_ascii():
    got = answer_to(DigestAuth("Jäs", "p"), 'Digest realm="r", nonce="n", algorithm=MD5')
    assert got["username*"] == "UTF-8''J%C3%A4s"


@pytest.mark.parametrize("pair", [("a\n", "b"), ("a", "b\0")])
def test_control_characters_are_refused(pair):
    with pytest.raises(ValidationError):
        DigestAuth(*pair)


def test_nothing_secret_shows():
    assert "hunter2" not in repr(DigestAuth("hunter2", "hunter2"))


class Checking:
    """A handler that checks what it is told, by one nonce at a time."""

    def __init__(self, qop: str = "auth") -> None:
        self.qop = qop
        self.nonce = "nonce-1"
        self.stale = False
        self.counts: list[str] = []
        self.seen: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        value = request.headers.get("authorization")
        with self._lock:
            self.seen.append((request.url, value))
            fields = dict(re.findall(r'(\w+)="?([^",]*)"?', value))
            if fields.get("nonce") == self.nonce and self._is_right(request, fields):
                self.counts.append(fields["nc"])
                return ok("welcome " + request.text())
        challenge = f'Digest realm="r", nonce="{self.nonce}", qop="{self.qop}"'
        if self.stale:
            challenge += ", stale=true"
        return Response(401, headers={"WWW-Authenticate": challenge})

    def _is_right(self, request: Request, fields: dict[str, str]) -> bool:
        first = _md5("user:r:secret")
        second = f"{request.method}:{fields['uri']}"
        if fields["qop"] == "auth-int":
            second += ":" + hashlib.md5(request.body).hexdigest()
        middle = ":".join(fields[name] for name in ("nonce", "nc", "cnonce", "qop"))
        return fields["response"] == _md5(f"{first}:{middle}:{_md5(second)}")


def test_a_call_is_challenged_once_and_later_ones_are_not():
    checking = Checking()
    with running_server(checking) as server:
        base = f"http://{server.local_addr()}"
        with HttpClient(base, DigestAuth("user", "secret")) as client:
            first = client.get("/a?x=1")
            assert first.text() == "welcome "
            assert [hop.status for hop in first.history] == [401]
            assert client.post("/b", b"body").text() == "welcome body"
    assert [url for url, _ in checking.seen] == ["/a?x=1", "/a?x=1", "/b"]
    assert checking.counts == ["00000001", "00000002"]


def test_a_stale_nonce_is_replaced_without_a_question():
    checking = Checking()
    with running_server(checking) as server:
        with HttpClient(f"http://{server.local_addr()}", DigestAuth("user", "secret")) as client:
            assert client.get("/").ok
            checking.nonce, checking.stale = "nonce-2", True
            assert client.get("/").ok
    assert checking.counts == ["00000001", "00000001"]


@pytest.mark.parametrize("stale", [False, True])
def test_a_wrong_password_ends_with_the_401(stale):
    checking = Checking()
    checking.stale = stale
    with running_server(checking) as server:
        with HttpClient(f"http://{server.local_addr()}", DigestAuth("user", "wrong")) as client:
            assert client.get("/").status == 401
    assert len(checking.seen) == (3 if stale else 2)


def test_a_file_is_sent_again_and_an_iterator_leaves_the_401():
    checking = Checking()
    with running_server(checking) as server:
        base = f"http://{server.local_addr()}"
        with HttpClient(base, DigestAuth("user", "secret")) as client:
            assert client.post("/", io.BytesIO(b"file")).text() == "welcome file"
        with HttpClient(base, DigestAuth("user", "secret")) as client:
            assert client.post("/", iter([b"once"])).status == 401


def test_auth_int_over_the_wire():
    checking = Checking("auth-int")
    with running_server(checking) as server:
        with HttpClient(f"http://{server.local_addr()}") as client:
            auth = DigestAuth("user", "secret")
            assert client.post("/", b"body", auth=auth).text() == "welcome body"


def test_threads_share_one_auth_and_no_count_is_used_twice():
    checking = Checking()
    with running_server(checking) as server:
        with HttpClient(f"http://{server.local_addr()}", DigestAuth("user", "secret")) as client:
            client.get("/")
            got: list[int] = []
            threads = [
                threading.Thread(
                    target=lambda: got.extend(client.get("/").status for _ in range(10))
                )
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
    assert got == [200] * 40
    assert len(set(checking.counts)) == 41


def test_the_proof_never_leaves_its_origin():
    challenge = response(
        b"", "401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"'
    )
    with ScriptedServer([answers(challenge)]) as other, ScriptedServer([]) as server:
        away = response(b"", "307 Temporary Redirect", f"Location: {other.base}/x")
        server.scripts.append(answers(challenge, away))
        with HttpClient(server.base, DigestAuth("user", "secret")) as client:
            assert client.get("/").status == 401
            # Neither by a redirect nor for an absolute URL.
            other.scripts.append(answers(challenge))
            assert client.get(f"{other.base}/y").status == 401
        assert b"Digest" not in b"".join(bytes(raw) for raw in other.seen)
        assert server.requests()[1].count(b"Authorization: Digest") == 1


def test_an_origin_is_not_told_the_nonce_count_of_another():
    challenge = response(
        b"", "401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"'
    )
    with ScriptedServer([answers(challenge, OK)]) as one, ScriptedServer([answers(OK)]) as two:
        with HttpClient() as client:
            auth = DigestAuth("user", "secret")
            client.get(one.base, auth=auth)
            client.get(two.base, auth=auth)
        assert b"Authorization" not in bytes(two.seen[0])


def test_an_auth_that_is_not_challenged_leaves_a_401_alone():
    with ScriptedServer([answers(response(b"no", "401 Unauthorized"))]) as server:
        with HttpClient(server.base, BasicAuth("a", "b")) as client:
            assert client.get("/").body == b"no"
        assert len(server.requests()) == 1
