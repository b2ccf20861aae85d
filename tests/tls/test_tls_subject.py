"""The subject is found in any certificate, and a broken one is a ValueError."""

from __future__ import annotations

import datetime
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from flare.tls._subject import subject_of

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(name: x509.Name, **extra: str) -> bytes:
    now = datetime.datetime(2030, 1, 1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the issuer")]))
        .public_key(KEY.public_key())
        .serial_number(2**150 + 1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def name(*pairs: tuple[ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


MANY = name(
    (NameOID.COUNTRY_NAME, "US"),
    (NameOID.STATE_OR_PROVINCE_NAME, "Some State"),
    (NameOID.LOCALITY_NAME, "Town"),
    (NameOID.ORGANIZATION_NAME, "Ex"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "Unit"),
    (NameOID.DOMAIN_COMPONENT, "example"),
    (NameOID.USER_ID, "u1"),
    (NameOID.SERIAL_NUMBER, "0042"),
    (NameOID.EMAIL_ADDRESS, "a@b.example"),
    (NameOID.COMMON_NAME, "localhost"),
)
MANY_TEXT = (
    "/C=US/ST=Some State/L=Town/O=Ex/OU=Unit/DC=example/UID=u1/serialNumber=0042"
    "/emailAddress=a@b.example/CN=localhost"
)

NAMES = [
    (name((NameOID.COMMON_NAME, "localhost")), "/CN=localhost"),
    (MANY, MANY_TEXT),
    (name((NameOID.COMMON_NAME, "Müller")), "/CN=Müller"),
    (name((NameOID.ORGANIZATION_NAME, "Ex/CN=admin")), "/O=Ex\\/CN=admin"),
    (name((NameOID.ORGANIZATION_NAME, "a\\b")), "/O=a\\\\b"),
    (name((NameOID.ORGANIZATION_NAME, "a\r\nb\x1b\u2028")), "/O=a\\x0D\\x0Ab\\x1B\\u2028"),
    (name((ObjectIdentifier("1.3.6.1.4.1.99999.7"), "x")), "/1.3.6.1.4.1.99999.7=x"),
    (name((ObjectIdentifier("2.999.3"), "x")), "/2.999.3=x"),
    (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wide", _type=_ASN1Type.BMPString)]),
        "/CN=wide",
    ),
    (
        x509.Name(
            [
                x509.RelativeDistinguishedName(
                    [
                        x509.NameAttribute(NameOID.COMMON_NAME, "two"),
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "in one"),
                    ]
                )
            ]
        ),
        None,
    ),
]


@pytest.mark.parametrize(("subject", "text"), NAMES, ids=[str(text) for _, text in NAMES])
def test_the_subject_in_one_line(subject: x509.Name, text: str | None) -> None:
    found = subject_of(certificate(subject))
    if text is None:  # a set has no order
        assert sorted(found.split("/")) == ["", "CN=two", "O=in one"]
    else:
        assert found == text


def test_openssl_says_the_same() -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    done = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "compat"],
        input=certificate(MANY),
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.decode().strip().removeprefix("subject=").strip() == MANY_TEXT


GOOD = certificate(MANY)


def test_a_certificate_cut_short_is_refused_wherever_it_is_cut() -> None:
    for size in range(len(GOOD)):
        with pytest.raises(ValueError, match="not a certificate"):
            subject_of(GOOD[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x80\x00\x00",
        b"\x30\x85\x00\x00\x00\x00\x01\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x00",
        b"\x02\x01\x00",
        b"\x30\x03\x02\x01\x00",
    ],
    ids=bytes.hex,
)
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        subject_of(data)


def test_an_object_identifier_without_end_is_refused() -> None:
    at = GOOD.rindex(b"\x06\x03\x55\x04\x06", 0, len(GOOD))
    for broken in (b"\x55\x04\x86", b"\xff\xff\xff"):
        with pytest.raises(ValueError, match="not a certificate"):
            subject_of(GOOD[: at + 2] + broken + GOOD[at + 5 :])


@given(st.binary(max_size=300))
def test_any_bytes_give_a_subject_or_a_value_error(data: bytes) -> None:
    try:
        assert subject_of(data).isprintable()
    except ValueError:
        pass


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.integers(0, 4))
def test_a_bent_certificate_gives_a_subject_or_a_value_error(at: int, byte: int, cut: int) -> None:
    try:
        found = subject_of(GOOD[:at] + bytes([byte]) + GOOD[at + 1 + cut :])
    except ValueError:
        return
    assert found.isprintable()
