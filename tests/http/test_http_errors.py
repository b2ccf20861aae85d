"""What an HTTP exchange can end with besides a response."""

from __future__ import annotations

import copy
import pickle

import pytest

from flare.errors import HttpStatusError, NetworkError
from flare.http import CrossOriginRedirect, HttpError, HttpProtocolError, TooManyRedirects


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (HttpError(404), "HttpError: 404"),
        (HttpError(404, "Not Found"), "HttpError: 404 Not Found"),
        (HttpError(404, "Not Found", "http://h/x"), "HttpError: 404 Not Found (http://h/x)"),
        (HttpError(500, "", "http://u:p@h/x"), "HttpError: 500 (http://h/x)"),
        (
            CrossOriginRedirect(302, "Found", "http://h/"),
            "CrossOriginRedirect: 302 Found (http://h/)",
        ),
        (
            HttpError(403, "", "http://h/x?a=1&token=s3cret"),
            "HttpError: 403 (http://h/x?a=1&token=***)",
        ),
        (
            TooManyRedirects("http://h/?sid=s3cret", 20),
            "TooManyRedirects: 20 redirects at http://h/?sid=***",
        ),
        (TooManyRedirects("http://u:p@h/", 20), "TooManyRedirects: 20 redirects at http://h/"),
        (HttpProtocolError("bad chunk"), "HttpProtocolError: bad chunk"),
    ],
)
def test_messages_say_what_and_where_and_no_password(error: OSError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    "error",
    [
        HttpError(404, "Not Found", "http://h/"),
        CrossOriginRedirect(302, "Found", "http://h/"),
        TooManyRedirects("http://h/", 20),
        HttpProtocolError("bad chunk"),
        HttpStatusError(404, "gone"),
    ],
)
def test_errors_can_be_pickled_and_copied(error: Exception) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert {k: v for k, v in vars(other).items() if k[0] != "_"} == {
            k: v for k, v in vars(error).items() if k[0] != "_"
        }


def test_the_tree_fits_the_standard_library() -> None:
    assert issubclass(HttpError, OSError)
    assert not issubclass(HttpError, NetworkError)
    assert issubclass(CrossOriginRedirect, HttpError)
    assert issubclass(TooManyRedirects, NetworkError)
    assert issubclass(HttpProtocolError, NetworkError)
    assert issubclass(HttpProtocolError, ValueError)


def test_the_attributes_of_an_http_error() -> None:
    error = HttpError(404, "Not Found", "http://u:p@h/a@b")
    assert (error.status, error.reason, error.url) == (404, "Not Found", "http://h/a@b")
    assert error.response is None
    assert HttpError(403, "", "http://h/?token=s3cret").url == "http://h/?token=s3cret"
    many = TooManyRedirects("http://h/", 3)
    assert (many.url, many.count) == ("http://h/", 3)
