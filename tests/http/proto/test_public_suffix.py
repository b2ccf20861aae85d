"""The few rules that stand in for the Public Suffix List."""

from __future__ import annotations

import pytest

from flare.http.proto.public_suffix import is_public_suffix, registrable_domain


@pytest.mark.parametrize(
    "domain",
    [
        "com", "org", "uk", "localhost", "co.uk", "com.au", "or.jp", "org.br", "gov.in",
        "k12.tr", "co.jp",
        "ac.nz", "github.io", "herokuapp.com", "s3.amazonaws.com", "eu-west-1.on.aws",
        "amazonaws.com", "anything.np", "web.id",
    ],
)  # fmt: skip
def test_suffixes(domain: str) -> None:
    assert is_public_suffix(domain)


@pytest.mark.parametrize(
    "domain",
    [
        "example.com", "example.co.uk", "web.de", "ad.nl", "id.me", "t.co", "bbc.uk",
        "me.github.io", "com.example.org", "a.b.example.com", "example.uk",
    ],
)  # fmt: skip
def test_what_somebody_registered(domain: str) -> None:
    assert not is_public_suffix(domain)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("www.example.com", "example.com"), ("a.b.example.co.uk", "example.co.uk"),
        ("me.github.io", "me.github.io"), ("x.me.github.io", "me.github.io"),
        ("localhost", "localhost"), ("co.uk", "co.uk"), ("app.localhost", "app.localhost"),
    ],
)  # fmt: skip
def test_the_registered_part(host: str, expected: str) -> None:
    assert registrable_domain(host) == expected
