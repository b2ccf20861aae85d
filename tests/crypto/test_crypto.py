from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.crypto import base64url_decode, base64url_encode, hmac_sha256, hmac_sha256_verify
from flare.crypto.base64 import base64_decode, base64_encode
from flare.errors import ValidationError

# RFC 4231 section 4, test cases 1 to 4, 6 and 7.
RFC_4231 = [
    (
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.mark.parametrize(("key", "msg", "mac"), RFC_4231)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_hmac_test_vectors(key: bytes, msg: bytes, mac: str, kind: type) -> None:
    assert hmac_sha256(kind(key), kind(msg)).hex() == mac
    assert hmac_sha256_verify(kind(key), kind(msg), kind(bytes.fromhex(mac)))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_hmac_agrees_with_the_standard_library(key: bytes, msg: bytes) -> None:
    assert hmac_sha256(key, msg) == hmac.new(key, msg, hashlib.sha256).digest()


def test_a_wrong_mac_is_refused() -> None:
    mac = hmac_sha256(b"", b"")
    assert hmac_sha256_verify(b"", b"", mac)
    flipped = bytes([mac[0] ^ 1]) + mac[1:]
    for wrong in (b"", mac[:-1], mac + b"\0", flipped, mac[:16]):
        assert not hmac_sha256_verify(b"", b"", wrong)
    assert not hmac_sha256_verify(b"k", b"", mac)
    assert not hmac_sha256_verify(b"", b"m", mac)


@pytest.mark.parametrize(
    ("data", "standard", "url"),
    [
        (b"", "", ""),
        (b"a", "YQ==", "YQ"),
        (b"ab", "YWI=", "YWI"),
        (b"abc", "YWJj", "YWJj"),
        (b"\xfb\xff", "+/8=", "-_8"),
        (b"user:pass", "dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ],
)
def test_base64_both_ways(data: bytes, standard: str, url: str) -> None:
    assert base64_encode(data) == base64_encode(memoryview(data)) == standard
    assert base64url_encode(data) == base64url_encode(bytearray(data)) == url
    for decode in (base64_decode, base64url_decode):
        for text in (standard, url, url + "===", url.encode(), memoryview(standard.encode())):
            assert decode(text) == data


def test_spare_bits_are_ignored() -> None:
    assert base64url_decode("YR") == base64url_decode("YQ") == b"a"
    assert base64url_decode("YWJ") == base64url_decode("YWI") == b"ab"


@pytest.mark.parametrize(
    "text",
    [
        "Y",
        "YWJjY",
        "YQ==YQ==",
        "Y=Q",
        " YQ",
        "YQ ",
        "YQ\n",
        "Y Q",
        "YQ==\n",
        "Y!Q",
        "YQ\0",
        "ŸQ",
        "é",
    ],
)
def test_text_that_is_no_base64_is_refused(text: str) -> None:
    for decode in (base64_decode, base64url_decode):
        for given_text in (text, text.encode()):
            with pytest.raises(ValidationError) as caught:
                decode(given_text)
            assert caught.value.field == "base64"
            assert isinstance(caught.value, ValueError)


@given(st.binary(max_size=300))
def test_base64_agrees_with_the_standard_library(data: bytes) -> None:
    assert base64_encode(data) == base64.b64encode(data).decode()
    assert base64url_encode(data) == base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert base64_decode(base64_encode(data)) == data
    assert base64url_decode(base64url_encode(data)) == data


@given(st.text(alphabet="AZaz09+/-_=\n é", max_size=30))
def test_decoding_gives_bytes_or_a_validation_error(text: str) -> None:
    try:
        data = base64_decode(text)
    except ValidationError:
        return
    # Whatever was accepted is what the strict standard decoder makes of the padded text.
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    assert data == base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
