"""Settings are checked when they are made, files when they are used, and contexts are shared."""

from __future__ import annotations

import os
import shutil
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from tls_peers import Pki, answering, connection, exchange
from trustme import KeyType

import flare.tls.client_context
from flare.errors import ValidationError
from flare.net import SocketAddr
from flare.tls import (
    TLS_PROTOCOL_TLS12,
    TLS_PROTOCOL_TLS13,
    CertificateUntrusted,
    InsecureTlsWarning,
    TlsAcceptor,
    TlsConfig,
    TlsHandshakeError,
    TlsServerConfig,
    TlsServerError,
    TlsStream,
    TlsVerify,
)
from flare.tls.client_context import client_context

BAD_CLIENTS: list[tuple[str, dict[str, Any]]] = [
    ("verify", {"verify": 2}),
    ("verify", {"verify": "no"}),
    ("key_file", {"key_file": "key.pem"}),
    ("alpn", {"alpn": [""]}),
    ("alpn", {"alpn": ["x" * 256]}),
    ("alpn", {"alpn": ["ü"]}),
    ("alpn", {"alpn": [b"h2"]}),
    ("alpn", {"alpn": ["x" * 127, "y" * 127]}),
    ("min_protocol", {"min_protocol": 0x0302}),
    ("min_protocol", {"min_protocol": 0x0305}),
]


@pytest.mark.parametrize(("field", "settings"), BAD_CLIENTS, ids=str)
def test_a_client_that_cannot_be_meant_is_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        TlsConfig(**settings)
    assert caught.value.field == field


@pytest.mark.parametrize("alpn", [["x" * 254], ["x" * 127, "y" * 126], ["h2", "http/1.1"]])
def test_protocol_lists_up_to_the_limit_are_taken(alpn: list[str]) -> None:
    assert client_context(TlsConfig(alpn=alpn, verify=TlsVerify.NONE))


BAD_SERVERS: list[tuple[str, dict[str, Any]]] = [
    ("cert_file", {"cert_file": ""}),
    ("min_protocol", {"min_protocol": 0x0301}),
    ("min_protocol", {"min_protocol": 1}),
    ("alpn", {"alpn": [""]}),
    ("client_ca_bundle", {"require_client_cert": True}),
    ("client_ca_bundle", {"client_cert_mode": "optional"}),
    ("client_cert_mode", {"client_cert_mode": "maybe"}),
    (
        "client_cert_mode",
        {"client_cert_mode": "optional", "require_client_cert": True, "client_ca_bundle": "x"},
    ),
    ("ticket_lifetime_s", {"ticket_lifetime_s": 0}),
    ("ticket_lifetime_s", {"ticket_lifetime_s": 604_801}),
    ("handshake_timeout_ms", {"handshake_timeout_ms": -1}),
    ("sni_certs", {"sni_certs": {"": ("a", "b")}}),
    ("sni_certs", {"sni_certs": {"*": ("a", "b")}}),
    ("sni_certs", {"sni_certs": {"a.*.example": ("a", "b")}}),
]


@pytest.mark.parametrize(("field", "settings"), BAD_SERVERS, ids=str)
def test_a_server_that_cannot_be_meant_is_refused(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        TlsServerConfig(**{"cert_file": "cert.pem", "key_file": "key.pem", **settings})
    assert caught.value.field == field


def test_settings_changed_later_are_checked_when_used(pki: Pki) -> None:
    config = pki.client_config()
    config.alpn.append("")
    with pytest.raises(ValidationError):
        client_context(config)
    server = TlsServerConfig(pki.server)
    server.min_protocol = 0
    with pytest.raises(ValidationError):
        TlsAcceptor(server)


def test_constants_are_those_of_ssl() -> None:
    assert ssl.TLSVersion(TLS_PROTOCOL_TLS12) is ssl.TLSVersion.TLSv1_2
    assert ssl.TLSVersion(TLS_PROTOCOL_TLS13) is ssl.TLSVersion.TLSv1_3
    assert (TlsVerify.NONE, TlsVerify.REQUIRED) == (0, 1)


def test_configurations_compare_by_their_fields() -> None:
    assert TlsConfig(alpn=["h2"]) == TlsConfig(alpn=["h2"]) != TlsConfig()
    assert TlsConfig().alpn is not TlsConfig().alpn
    assert TlsServerConfig("a", "b") == TlsServerConfig("a", "b") != TlsServerConfig("a", "c")


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(TlsConfig(cert_file="a", key_password="secret"))
    assert "secret" not in repr(TlsServerConfig("a", key_password="secret"))


def test_the_context_holds_to_the_policy(pki: Pki) -> None:
    made = client_context(pki.client_config()).context
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    server = pki.acceptor().context
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2
    for context in (made, server):
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.options & ssl.OP_NO_RENEGOTIATION
        old = [
            cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"
        ]
        assert len(old) == 6
        assert all(name.startswith("ECDHE-") for name in old)


def test_equal_configurations_share_a_context(pki: Pki) -> None:
    one = client_context(pki.client_config(alpn=["h2"]))
    assert client_context(pki.client_config(alpn=["h2"], server_name="other")) is one
    assert client_context(pki.client_config()).context is not one.context


def test_a_file_that_changed_makes_a_new_context(pki: Pki, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    shutil.copy(pki.stranger_bundle, bundle)
    config = TlsConfig(ca_bundle=str(bundle))
    with pytest.raises(CertificateUntrusted), connection(pki.acceptor(), config):
        pass
    shutil.copy(pki.bundle, bundle)
    with connection(pki.acceptor(), config) as (client, _, _):
        assert client.tls_version() == "TLSv1.3"


def test_only_so_many_contexts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flare.tls.client_context, "_MAX_KEPT", 2)
    first = TlsConfig(verify=TlsVerify.NONE, alpn=["kept-1"])
    one = client_context(first)
    for number in (2, 3):
        client_context(TlsConfig(verify=TlsVerify.NONE, alpn=[f"kept-{number}"]))
    again = client_context(first)
    assert again is not one
    assert again.key == one.key


def test_a_context_of_the_callers_is_used_as_it_is(pki: Pki) -> None:
    context = pki.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    config = TlsConfig(ssl_context=context)
    assert client_context(config).context is context
    with connection(pki.acceptor(), config) as (client, _, _):
        assert client.tls_version() == "TLSv1.2"


UNUSABLE = [
    ({"ca_bundle": "missing.pem"}, "CA bundle load failed: "),
    ({"ca_bundle": "empty.pem"}, "CA bundle load failed: "),
    ({"cert_file": "missing.pem"}, "mTLS cert/key load failed: "),
    ({"cert_file": "empty.pem"}, "mTLS cert/key load failed: "),
    ({"keylog_file": "missing/log"}, "key log file cannot be opened: "),
]


@pytest.mark.parametrize(("settings", "text"), UNUSABLE, ids=str)
def test_a_file_that_cannot_be_used_fails_before_anything_is_opened(
    pki: Pki, tmp_path: Path, settings: dict[str, str], text: str
) -> None:
    (tmp_path / "empty.pem").touch()
    paths = {key: tmp_path / value for key, value in settings.items()}
    with pytest.raises(TlsHandshakeError) as caught:
        TlsStream.connect("127.0.0.1", 1, TlsConfig(**{"ca_bundle": pki.bundle, **paths}))
    assert caught.value.message.startswith(text)
    assert str(next(iter(paths.values()))) in caught.value.message
    assert isinstance(caught.value.__cause__, OSError)


def encrypted(pki: Pki, path: Path) -> Path:
    from cryptography.hazmat.primitives import serialization as pem

    data = pki.server.read_bytes()
    key = pem.load_pem_private_key(data, None)
    lock = pem.BestAvailableEncryption(b"sesame")
    path.write_bytes(
        key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, lock)
        + data[data.index(b"-----BEGIN CERT") :]
    )
    return path


def test_an_encrypted_key_needs_its_password_and_nobody_is_asked(pki: Pki, tmp_path: Path) -> None:
    path = encrypted(pki, tmp_path / "locked.pem")
    asked: Any = lambda: "sesame"  # noqa: E731
    for right in ("sesame", asked):
        with connection(pki.acceptor(cert_file=path, key_password=right), pki.client_config()):
            pass
    for password, text in (("", "is missing"), ("wrong", "is the wrong one")):
        text = f"the key is encrypted, and its password {text} ({path})"
        with pytest.raises(TlsHandshakeError) as caught:
            client_context(pki.client_config(cert_file=path, key_password=password))
        assert caught.value.message == f"mTLS cert/key load failed: {text}"
        with pytest.raises(TlsServerError) as refused:
            pki.acceptor(cert_file=pki.server, key_file=path, key_password=password)
        assert refused.value.message == f"certificate load failed: {text}"


def test_errors_name_the_file_at_fault(pki: Pki, tmp_path: Path) -> None:
    (tmp_path / "noise.pem").write_text("noise")
    rsa = tmp_path / "rsa.pem"
    rsa.write_bytes(
        pki.ca.issue_cert("x", key_type=KeyType.RSA).private_key_and_cert_chain_pem.bytes()
    )
    locked = encrypted(pki, tmp_path / "locked.pem")
    for key, text in (
        (tmp_path / "missing.pem", "No such file or directory ({key})"),
        (tmp_path / "noise.pem", "there is no private key in PEM form ({key})"),
        (pki.client, "the key ({key}) is not that of the certificate ({cert})"),
        (rsa, "the key ({key}) is not that of the certificate ({cert})"),
    ):
        told = text.format(key=key, cert=pki.server)
        with pytest.raises(TlsHandshakeError) as caught:
            client_context(pki.client_config(cert_file=pki.server, key_file=key))
        assert caught.value.message == f"mTLS cert/key load failed: {told}"
        with pytest.raises(TlsServerError) as refused:
            pki.acceptor(key_file=key)
        assert refused.value.message == f"certificate load failed: {told}"
    with pytest.raises(TlsServerError, match="is not that of the certificate"):
        pki.acceptor(cert_file=pki.client, key_file=locked, key_password="sesame")
    with pytest.raises(TlsServerError, match=r"no certificate in PEM form \(.*noise\.pem"):
        pki.acceptor(cert_file=tmp_path / "noise.pem", key_file=pki.server)


# -- whom to trust ----------------------------------------------------------------------


def test_the_environment_names_the_trusted(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.bundle))
    with connection(pki.acceptor(), TlsConfig()):
        pass
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.stranger_bundle))
    with pytest.raises(CertificateUntrusted), connection(pki.acceptor(), TlsConfig()):
        pass


def test_the_environment_names_a_directory(
    pki: Pki, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hashed(pki, tmp_path)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with connection(pki.acceptor(), TlsConfig()):
        pass


def test_a_bundle_may_be_a_directory(pki: Pki, tmp_path: Path) -> None:
    hashed(pki, tmp_path)
    with connection(pki.acceptor(), TlsConfig(ca_bundle=tmp_path)):
        pass


def hashed(pki: Pki, folder: Path) -> None:
    """Fill *folder* as OpenSSL wants it: names are hashes of the subjects."""
    import subprocess

    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    command = [openssl, "x509", "-noout", "-hash", "-in", str(pki.bundle)]
    name = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    shutil.copy(pki.bundle, folder / f"{name.strip()}.0")


def test_a_bundle_goes_before_the_environment(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.stranger_bundle))
    with connection(pki.acceptor(), pki.client_config()):
        pass


def test_an_unreadable_file_in_the_environment_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(TlsHandshakeError, match=r"CA bundle load failed: .*missing\.pem"):
        client_context(TlsConfig())


def test_certifi_is_what_is_trusted_by_default(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    import certifi

    monkeypatch.setattr(certifi, "where", lambda: str(pki.bundle))
    # An alpn of its own, lest a context made before be found.
    with connection(pki.acceptor(), TlsConfig(alpn=["trusts-certifi"])):
        pass


def test_the_system_is_trusted_on_request(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: ssl.SSLContext) -> None:
        self.load_verify_locations(pki.bundle)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", load)
    with connection(pki.acceptor(), TlsConfig(system_trust=True)):
        pass


def test_with_nobody_to_trust_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "certifi", None)
    with pytest.raises(CertificateUntrusted) as caught:
        TlsStream.connect("127.0.0.1", 1, TlsConfig(alpn=["without-certifi"]))
    for hint in ("ca_bundle=", "system_trust=True", "certifi"):
        assert hint in str(caught.value)


def test_the_key_log_is_written_on_request_only(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unasked = tmp_path / "unasked"
    monkeypatch.setenv("SSLKEYLOGFILE", str(unasked))
    mine, theirs = tmp_path / "client.log", tmp_path / "server.log"
    acceptor = pki.acceptor(keylog_file=theirs)
    with connection(acceptor, pki.client_config(keylog_file=mine)) as (client, _, _):
        assert client.tls_version() == "TLSv1.3"
    assert not unasked.exists()
    for log in (mine, theirs):
        assert "CLIENT_TRAFFIC_SECRET_0" in log.read_text()


def test_insecure_warns_of_each_connection_where_it_is_made(pki: Pki) -> None:
    with TlsAcceptor.bind(SocketAddr.localhost(0), TlsServerConfig(pki.server)) as acceptor:
        server = answering(acceptor, 2)
        port = acceptor.local_addr().port
        for _ in range(2):
            with pytest.warns(InsecureTlsWarning, match="FLARE|flare TLS SECURITY") as caught:
                stream = TlsStream.connect("127.0.0.1", port, TlsConfig.insecure())
            assert os.path.samefile(caught[0].filename, __file__)
            with stream:
                assert exchange(stream) == b"ping"
                assert stream.peer_cert_subject().startswith("/O=trustme")
        server.result()
