"""Credentials: what goes on the wire, and what never shows."""

from __future__ import annotations

import pytest

from flare.errors import ValidationError
from flare.http.client import DigestAuth, HttpClient
from flare.http.client.auth import Auth, BasicAuth, BearerAuth, as_auth
from flare.http.proto.headers import HeaderInjectionError, HeaderMap


def applied(auth: Auth) -> HeaderMap:
    headers = HeaderMap()
    auth.apply(headers)
    return headers


@pytest.mark.parametrize(
    ("username", "password", "expected"),
    [
        ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("test", "123£", "Basic dGVzdDoxMjPCow=="),
        ("", "", "Basic Og=="),
        ("u", "a:b", "Basic dTphOmI="),
        ("u" * 100, "p" * 100, None),
    ],
)
def test_basic_is_one_line_of_base64_over_utf8(username, password, expected):
    value = applied(BasicAuth(username, password))["Authorization"]
    assert "\n" not in value
    if expected is not None:
        assert value == expected


@pytest.mark.parametrize(("username", "password"), [("a:b", "c"), ("a\n", "b"), ("a", "b\0")])
def test_basic_refuses_what_would_mean_another_pair(username, password):
    with pytest.raises(ValidationError):
        BasicAuth(username, password)


def test_bearer_is_the_token():
    assert applied(BearerAuth("tok_abc"))["authorization"] == "Bearer tok_abc"


def test_bearer_with_a_line_end_is_refused_without_showing_it():
    with pytest.raises(HeaderInjectionError) as caught:
        applied(BearerAuth("secret\r\nX: y"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("auth", [BasicAuth("user", "hunter2"), BearerAuth("hunter2")])
def test_repr_shows_no_secret(auth):
    assert "hunter2" not in repr(auth)
    assert "user" not in repr(auth).replace("username", "")


def test_they_are_values():
    assert BasicAuth("a", "b") == BasicAuth("a", "b") != BasicAuth("a", "c")
    assert len({BearerAuth("t"), BearerAuth("t")}) == 1


def test_a_pair_and_a_function_are_auth_too():
    assert as_auth(("a", "b")) == BasicAuth("a", "b")
    auth = as_auth(lambda headers: headers.set("X-Key", "k"))
    assert auth is not None
    assert applied(auth)["x-key"] == "k"
    assert as_auth(None) is None


def test_any_auth_may_be_the_first_argument_of_a_client():
    for auth in (BasicAuth("a", "b"), BearerAuth("t"), DigestAuth("a", "b"), ("a", "b"), print):
        HttpClient(auth).close()


@pytest.mark.parametrize("bad", ["user:pass", 3, ("a", "b", "c"), object()])
def test_anything_else_is_a_type_error(bad):
    with pytest.raises(TypeError):
        as_auth(bad)
