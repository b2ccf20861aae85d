"""The certificates of ``flare serve`` and ``flare demo``: given, or made for the occasion."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flare.cli import CommandError
from flare.cli.output import say
from flare.errors import AddressParseError
from flare.net import IpAddr

if TYPE_CHECKING:
    from flare.tls import TlsServerConfig

__all__ = ["certificates", "is_encrypted", "self_signed", "tls_of"]

_MADE_SECONDS = 20.0
_DAYS = 30
_MAX_PASSWORD_CHARS = 4096  # OpenSSL takes 1024 bytes
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?").fullmatch
# A server's certificate and no authority's: who trusts it trusts nothing else by it.
_REQUEST = """
[req]
distinguished_name = subject
x509_extensions = extensions
prompt = no
[subject]
CN = {name}
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = {names}
"""


def is_encrypted(arguments: argparse.Namespace) -> bool:
    """Whether the flags ask for TLS; ``CommandError`` where they contradict each other."""
    given = bool(arguments.tls_cert)
    if given and arguments.tls_self_signed:
        raise CommandError("--tls-self-signed does not go with --tls-cert")
    if arguments.tls_key and not given:
        raise CommandError("--tls-key needs --tls-cert")
    if arguments.tls_key_password_file and not given:
        raise CommandError("--tls-key-password-file needs --tls-cert")
    if arguments.tls_client_ca and not (given or arguments.tls_self_signed):
        raise CommandError("--tls-client-ca needs --tls-cert")
    return given or arguments.tls_self_signed


@contextmanager
def certificates(arguments: argparse.Namespace) -> Iterator[None]:
    """For the time of the block, with ``--tls-self-signed``: make a certificate, say where it is,
    and have ``--tls-cert`` and ``--tls-key`` name it."""
    if not is_encrypted(arguments) or not arguments.tls_self_signed:
        yield
        return
    hosts = [arguments.host] if arguments.host else []
    with tempfile.TemporaryDirectory(prefix="flare-") as folder:
        cert, key = self_signed(Path(folder), hosts)
        arguments.tls_self_signed = False
        arguments.tls_cert, arguments.tls_key = str(cert), str(key)
        say(f"flare: self-signed, until this ends: {cert}")
        yield


def tls_of(arguments: argparse.Namespace) -> TlsServerConfig | None:
    """What the flags say of TLS."""
    if not is_encrypted(arguments):
        return None
    from flare.tls import TlsServerConfig

    return TlsServerConfig(
        arguments.tls_cert,
        arguments.tls_key,
        require_client_cert=bool(arguments.tls_client_ca),
        client_ca_bundle=arguments.tls_client_ca,
        key_password=_password_in(arguments.tls_key_password_file),
    )


def _password_in(path: str) -> str:
    """The first line of the file at *path*; ``""`` where there is none to read."""
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            return file.readline(_MAX_PASSWORD_CHARS).rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a line of text"
        raise CommandError(f"--tls-key-password-file {path}: {why}") from None


def self_signed(folder: Path, hosts: Iterable[str] = ()) -> tuple[Path, Path]:
    """Make a key (ECDSA P-256) and a certificate, in two files of *folder*, for *hosts* and for
    whatever this host is called. By the ``openssl`` program; ``CommandError`` without it."""
    program = shutil.which("openssl")
    if program is None:
        raise CommandError("a self-signed certificate is made by the openssl program; install it")
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts]
    request, cert, key = folder / "request.cnf", folder / "cert.pem", folder / "key.pem"
    alternatives = ",".join(dict.fromkeys(filter(None, map(_alternative, names))))
    request.write_text(_REQUEST.format(name="localhost", names=alternatives))
    command = [program, "req", "-x509", "-config", str(request), "-days", str(_DAYS), "-nodes"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-keyout", str(key), "-out", str(cert)]
    os.close(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_MADE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"openssl made no certificate: {error}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        raise CommandError(f"openssl made no certificate: {last}")
    return cert, key


def _alternative(name: str) -> str:
    """*name* as a subject alternative name; ``""`` for what can be none."""
    try:
        return f"IP:{IpAddr.parse(name)}"
    except AddressParseError:
        pass
    is_name = (
        name.isascii() and len(name) <= 253 and name.replace("-", "").replace(".", "").isalnum()
    )
    return f"DNS:{name}" if is_name else ""
