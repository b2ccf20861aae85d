"""Which cookie is kept, and who gets it: RFC 6265 and its revision, without a socket."""

from __future__ import annotations

import json
import os
import pickle
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.errors import ValidationError
from flare.http.client import ClientCookieJar, StoredCookie
from flare.http.proto.cookie import Cookie
from flare.http.proto.headers import HeaderInjectionError
from flare.http.proto.url import Url


def jar_after(url: str, *set_cookies: str) -> ClientCookieJar:
    jar = ClientCookieJar()
    jar.store(Url.parse(url), set_cookies)
    return jar


@pytest.mark.parametrize(
    ("set_cookie", "goes_to", "stays_away"),
    [
        ("a=1", ["http://www.example.com/", "http://www.example.com:81/x"],
         ["http://example.com/", "http://x.www.example.com/", "http://other.com/"]),
        ("a=1; Domain=example.com",
         ["http://example.com/", "http://www.example.com/", "http://a.b.example.com/"],
         ["http://notexample.com/", "http://example.com.evil.com/", "http://example.org/"]),
        ("a=1; Domain=.EXAMPLE.com", ["http://example.com/"], ["http://ample.com/"]),
        ("a=1; Path=/docs", ["http://www.example.com/docs", "http://www.example.com/docs/x"],
         ["http://www.example.com/", "http://www.example.com/docsx"]),
        ("a=1; Path=/docs/", ["http://www.example.com/docs/x"], ["http://www.example.com/docs"]),
        ("a=1; Max-Age=0", [], ["http://www.example.com/"]),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", [], ["http://www.example.com/"]),
        ("a=1; Expires=nonsense", ["http://www.example.com/"], []),
        ("a=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", ["http://www.example.com/"], []),
        ("a=1; HttpOnly", ["http://www.example.com/"], []),
    ],
)  # fmt: skip
def test_where_a_cookie_goes(set_cookie, goes_to, stays_away):
    jar = jar_after("http://www.example.com/", set_cookie)
    assert {url: jar.header_for(url) for url in goes_to} == dict.fromkeys(goes_to, "a=1")
    assert {url: jar.header_for(url) for url in stays_away} == dict.fromkeys(stays_away, "")


@pytest.mark.parametrize(
    ("url", "set_cookie"),
    [
        ("http://www.example.com/", "a=1; Domain=other.com"),
        ("http://www.example.com/", "a=1; Domain=x.www.example.com"),
        ("http://www.example.com/", "a=1; Domain=com"),
        ("http://www.example.co.uk/", "a=1; Domain=co.uk"),
        ("http://me.github.io/", "a=1; Domain=github.io"),
        ("http://127.0.0.1/", "a=1; Domain=0.0.1"),
        ("http://127.0.0.1/", "a=1; Domain=1"),
        ("http://example.com/", "a=1; Secure"),
        ("https://example.com/", "__Secure-a=1"),
        ("https://example.com/", "__Host-a=1; Secure; Path=/x"),
        ("https://example.com/", "__Host-a=1; Secure"),
        ("https://example.com/", "__Host-a=1; Secure; Path=/; Domain=example.com"),
        ("https://example.com/", "__hOST-a=1; Path=/"),
        ("http://example.com/", "=1"),
        ("http://example.com/", "a=" + "x" * 4096),
        ("http://example.com/", "a=\x01"),
    ],
)
def test_what_may_not_be_set_is_left_out(url, set_cookie):
    assert len(jar_after(url, set_cookie)) == 0


@pytest.mark.parametrize(
    ("url", "set_cookie"),
    [
        ("https://example.com/", "__Secure-a=1; Secure; Domain=example.com"),
        ("https://example.com/", "__Host-a=1; Secure; Path=/"),
        ("http://127.0.0.1/", "a=1; Domain=127.0.0.1"),
        ("http://localhost/", "a=1; Secure"),
        ("http://127.0.0.1:8080/", "a=1; Secure"),
        ("http://github.io/", "a=1; Domain=github.io"),
        ("http://localhost/", "a=1; Domain=localhost"),
        ("http://[::1]/", "a=1; Domain=[::1]x; Path=x"),
    ],
)
def test_what_may_be_set_is_kept(url, set_cookie):
    jar = jar_after(url, set_cookie)
    expected = 0 if "x; Path" in set_cookie else 1
    assert len(jar) == expected
    assert all(cookie.host_only for cookie in jar if "Domain=e" not in set_cookie)


def test_a_domain_that_is_a_suffix_and_the_host_itself_is_for_that_host_alone():
    jar = jar_after("http://github.io/", "a=1; Domain=github.io")
    assert jar.header_for("http://github.io/") == "a=1"
    assert jar.header_for("http://me.github.io/") == ""


def test_the_rules_for_suffixes_can_be_replaced():
    jar = ClientCookieJar(public_suffix=lambda domain: domain == "shared.example")
    jar.store(Url.parse("http://a.shared.example/"), ["x=1; Domain=shared.example", "y=1"])
    assert [cookie.name for cookie in jar] == ["y"]


def test_secure_cookies_go_over_tls_or_stay_within_the_machine():
    jar = jar_after("https://example.com/", "a=1; Secure")
    assert jar.header_for("https://example.com/") == "a=1"
    assert jar.header_for("http://example.com/") == ""
    assert jar_after("http://localhost/", "a=1; Secure").header_for("http://localhost/") == "a=1"


def test_a_cookie_sent_in_clear_does_not_shadow_a_secure_one():
    jar = jar_after("https://www.example.com/", "a=good; Secure; Path=/login; Domain=example.com")
    for evil in ("a=evil; Path=/login", "a=evil; Path=/login; Domain=example.com",
                 "a=evil; Path=/login/en"):  # fmt: skip
        jar.store(Url.parse("http://www.example.com/"), [evil])
    jar.store(Url.parse("http://www.example.com/"), ["a=else; Path=/"])
    assert jar.header_for("https://www.example.com/login/en") == "a=good; a=else"


def test_the_order_is_longest_path_then_oldest():
    jar = jar_after("http://e.com/a/b/c", "short=1; Path=/", "long=1; Path=/a/b", "new=1; Path=/",
                    "mid=1; Path=/a")  # fmt: skip
    assert jar.header_for("http://e.com/a/b/") == "long=1; mid=1; short=1; new=1"
    jar.store(Url.parse("http://e.com/"), ["short=2; Path=/"])
    assert jar.header_for("http://e.com/") == "short=2; new=1"  # its age is kept


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("/a/b/c?d=/e/", "/a/b")],
)
def test_the_default_path(path, expected):
    [cookie] = jar_after("http://e.com" + path, "a=1")
    assert cookie.path == expected


def test_same_site_matters_after_a_redirect_from_another_site():
    jar = jar_after("http://e.com/", "strict=1; SameSite=Strict", "lax=1; SameSite=lax", "none=1")
    url = Url.parse("http://e.com/")

    def names(method, cross_site):
        return [each.name for each in jar.matching(url, method, cross_site=cross_site)]

    assert names("POST", False) == ["strict", "lax", "none"]
    assert names("GET", True) == ["lax", "none"]
    assert names("POST", True) == ["none"]


def test_a_redirect_to_another_port_takes_along_no_cookie_of_the_host_alone():
    jar = jar_after("http://www.e.com:1000/", "own=1", "shared=1; Domain=e.com")
    here, there = Url.parse("http://www.e.com:1000/"), Url.parse("http://www.e.com:2000/")
    assert [each.name for each in jar.matching(there, redirected=True)] == ["shared"]
    assert [each.name for each in jar.matching(here, redirected=True)] == ["own", "shared"]
    assert [each.name for each in jar.matching(there)] == ["own", "shared"]
    upgraded = jar_after("http://e.com/", "own=1")
    assert len(upgraded.matching(Url.parse("https://e.com/"), redirected=True)) == 1


def test_no_more_than_fifty_for_a_domain_and_the_unused_go_first():
    jar = ClientCookieJar()
    url = Url.parse("https://e.com/")
    jar.store(url, ["kept=1; Secure", *(f"c{number}=1" for number in range(60))])
    names = [cookie.name for cookie in jar]
    assert len(names) == 50
    assert "kept" in names
    assert "c59" in names
    assert "c0" not in names


def test_no_more_than_three_thousand_in_all():
    jar = ClientCookieJar()
    for number in range(1600):
        jar.store(Url.parse(f"http://h{number}.com/"), ["a=1", "b=2"])
    assert 2900 < len(jar) <= 3000
    assert "h0.com" not in {cookie.domain for cookie in jar}


def test_none_lives_longer_than_four_hundred_days():
    import time

    [cookie] = jar_after("http://e.com/", "a=1; Max-Age=99999999999")
    assert cookie.expires is not None
    assert cookie.expires - time.time() <= 400 * 86400 + 1
    [cookie] = jar_after("http://e.com/", "a=1; Expires=Fri, 01 Jan 2500 00:00:00 GMT")
    assert cookie.expires is not None
    assert cookie.expires - time.time() <= 400 * 86400 + 1


def test_the_program_sets_looks_and_removes():
    jar = ClientCookieJar(host="e.com")
    jar["a"] = "1"
    jar.set("b", "2", domain=".e.com", path="/x")
    jar.set(Cookie("c", "3", domain="other.com", secure=True))
    jar.update({"d": "4"})
    assert jar["a"] == jar.get("a") == "1"
    assert "b" in jar
    assert "z" not in jar
    assert jar.get("z", "none") == "none"
    assert jar.to_dict() == {"a": "1", "b": "2", "c": "3", "d": "4"}
    assert jar.header_for("http://www.e.com/x") == "b=2"
    assert jar.header_for("http://e.com/x") == "b=2; a=1; d=4"
    assert jar.get("c", domain="e.com") == ""
    del jar["a"]
    assert jar.remove("a") is False
    with pytest.raises(KeyError):
        jar["a"]
    with pytest.raises(KeyError):
        del jar["a"]
    jar.set(Cookie("d", "", max_age=0))
    assert "d" not in jar
    jar.clear()
    assert len(jar) == 0
    assert not jar


def test_session_cookies_can_be_forgotten():
    jar = jar_after("http://e.com/", "a=1", "b=1; Max-Age=60")
    jar.clear_session_cookies()
    assert [cookie.name for cookie in jar] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("a", "1"), ValidationError),  # no domain known
        (("a b", "1"), ValidationError),
        (("a", "x;y"), ValidationError),
        (("a", "x\r\ny"), HeaderInjectionError),
        (("", "1"), ValidationError),
        ((StoredCookie("a", "x;y", "e.com"),), ValidationError),
        ((StoredCookie("a", "1", "E.com"),), ValidationError),
        ((StoredCookie("a", "1", "e.com", path="x"),), ValidationError),
        ((StoredCookie("__Host-a", "1", "e.com"),), ValidationError),
        ((StoredCookie("a", "1" * 5000, "e.com"),), ValidationError),
    ],
)
def test_the_program_cannot_set_what_could_not_be_sent(arguments, error):
    jar = ClientCookieJar()
    with pytest.raises(error):
        jar.set(*arguments)
    assert len(jar) == 0


def test_a_jar_comes_back_from_its_file_as_it_was(tmp_path):
    path = tmp_path / "cookies.json"
    url = Url.parse("https://www.example.com/a/b")
    jar = ClientCookieJar()
    jar.store(url, ["host=only; Secure; HttpOnly; SameSite=Strict", "all=1; Domain=example.com",
                    "odd=caf\xe9 \"x, y\"; Max-Age=60"])  # fmt: skip
    jar.save(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["cookies.json"]
    again = ClientCookieJar()
    again.load(path)
    assert list(again) == list(jar)
    assert again.header_for("https://www.example.com/a/") == jar.header_for(
        "https://www.example.com/a/"
    )
    assert "host=" not in again.header_for("https://x.www.example.com/a/")
    assert again.header_for("https://x.www.example.com/a/") == "all=1"


def test_only_lasting_cookies_are_saved_where_that_is_asked_for(tmp_path):
    path = tmp_path / "cookies.json"
    jar_after("http://e.com/", "a=1", "b=1; Max-Age=60").save(path, session=False)
    jar = ClientCookieJar()
    jar.load(path)
    assert [cookie.name for cookie in jar] == ["b"]


GOOD = {
    "name": "a", "value": "1", "domain": "e.com", "path": "/", "host_only": True, "secure": False,
    "http_only": False, "same_site": "", "expires": None, "created": 0.0, "used": 0.0, "port": 0,
}  # fmt: skip


def document(*cookies: object) -> bytes:
    return json.dumps({"format": "flare cookies 1", "cookies": [GOOD, *cookies]}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, document(1), document({}),
        document({**GOOD, "extra": 1}), document({**GOOD, "name": 1}),
        document({**GOOD, "secure": 1}), document({**GOOD, "port": True}),
        document({**GOOD, "domain": ""}), document({**GOOD, "domain": "E.com"}),
        document({**GOOD, "value": "x\r\ny"}), document({**GOOD, "name": "__Host-a"}),
        document(GOOD).replace(b"null", b"NaN"), document(GOOD).replace(b"cookies 1", b"cookies 9"),
        pickle.dumps({"format": "flare cookies 1"}),
        b'{"format": "flare cookies 1", "cookies": {}}',
    ],
)  # fmt: skip
def test_a_file_that_is_something_else_is_refused_whole(data, tmp_path):
    path = tmp_path / "cookies.json"
    path.write_bytes(data)
    jar = ClientCookieJar()
    with pytest.raises(ValidationError):
        jar.load(path)
    assert len(jar) == 0


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        ClientCookieJar().load(tmp_path / "none")
    with pytest.raises(OSError):
        ClientCookieJar().save(tmp_path / "no" / "folder")


def test_threads_share_a_jar():
    jar = ClientCookieJar()
    url = Url.parse("http://e.com/")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(200):
                jar.store(url, [f"c{number}={step}"])
                jar.matching(url)
                list(jar)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert jar.to_dict() == {f"c{number}": "199" for number in range(8)}


def test_a_forked_child_can_use_a_jar_whose_lock_was_held():
    jar = jar_after("http://e.com/", "a=1")
    with jar._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if len(jar) == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@given(st.lists(st.text(max_size=80), max_size=5), st.sampled_from(["http", "https"]))
def test_whatever_a_server_sets_can_be_sent_back(set_cookies, scheme):
    jar = ClientCookieJar()
    url = Url.parse(f"{scheme}://www.example.com/a/b")
    jar.store(url, [each.encode("latin-1", "replace").decode("latin-1") for each in set_cookies])
    header = jar.header_for(url)
    assert not any(c in header for c in "\r\n\0")
    header.encode("latin-1")
    for cookie in jar:
        assert cookie.domain in ("www.example.com", "example.com")


def test_nothing_secret_shows():
    jar = jar_after("http://e.com/", "id=hunter2")
    assert "hunter2" not in repr(jar) + repr(list(jar))
