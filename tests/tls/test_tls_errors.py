from __future__ import annotations

import copy
import pickle
import ssl

import pytest

from flare.errors import NetworkError
from flare.tls import (
    CertificateExpired,
    CertificateHostnameMismatch,
    CertificateUntrusted,
    TlsHandshakeError,
    TlsServerError,
    TlsServerNotImplemented,
    TlsTruncated,
)

TEXTS = [
    (TlsHandshakeError("no"), "TlsHandshakeError: no"),
    (CertificateExpired("/CN=a"), "CertificateExpired: subject=/CN=a"),
    (
        CertificateHostnameMismatch("h", "/CN=a"),
        "CertificateHostnameMismatch: expected=h subject=/CN=a",
    ),
    (CertificateUntrusted("self-signed"), "CertificateUntrusted: self-signed"),
    (TlsServerError("bad file", 2), "TlsServerError(bad file code=2)"),
    (TlsServerError("bad file"), "TlsServerError(bad file code=0)"),
    (TlsTruncated(), "TlsTruncated: TLS read error: unexpected EOF"),
]


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_an_error_says_what_happened_and_survives_a_copy(error: NetworkError, text: str) -> None:
    assert str(error) == text
    error.add_note("kept")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == text
        assert vars(other) == vars(error)


@pytest.mark.parametrize("error", [error for error, _ in TEXTS], ids=lambda e: type(e).__name__)
def test_every_error_is_one_of_the_network_and_one_of_ssl(error: NetworkError) -> None:
    assert isinstance(error, NetworkError)
    assert isinstance(error, ssl.SSLError)


@pytest.mark.parametrize(
    "kind", [CertificateExpired, CertificateHostnameMismatch, CertificateUntrusted]
)
def test_a_bad_certificate_is_a_failed_handshake(kind: type[TlsHandshakeError]) -> None:
    assert issubclass(kind, TlsHandshakeError)
    assert issubclass(kind, ssl.SSLCertVerificationError)


def test_the_marker_that_nobody_raises_can_be_caught() -> None:
    error = TlsServerNotImplemented()
    assert isinstance(error, TlsServerError)
    assert isinstance(error, NotImplementedError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
