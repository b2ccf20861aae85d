from __future__ import annotations

import copy
import errno
import os
import pickle
import socket

import pytest

import flare.errors
import flare.net
from flare.errors import IoError, UnexpectedEof, ValidationError, map_oserror
from flare.net import (
    AddressInUse,
    AddressParseError,
    BrokenPipe,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimeout,
    DnsError,
    NetworkError,
    Timeout,
)

A = "127.0.0.1:8080"

ERRORS = [
    (NetworkError("went wrong"), "NetworkError: went wrong", 0, OSError),
    (NetworkError("went wrong", 104), "NetworkError(errno 104): went wrong", 104, OSError),
    (ConnectionRefused(A), f"ConnectionRefused: {A}", errno.ECONNREFUSED, ConnectionRefusedError),
    (ConnectionTimeout(A), f"ConnectionTimeout: {A}", errno.ETIMEDOUT, TimeoutError),
    (
        ConnectionTimeout(A, timeout_ms=5),
        f"ConnectionTimeout: {A}",
        errno.ETIMEDOUT,
        TimeoutError,
    ),
    (ConnectionReset(A), f"ConnectionReset: {A}", errno.ECONNRESET, ConnectionResetError),
    (AddressInUse(A), f"AddressInUse: {A}", errno.EADDRINUSE, OSError),
    (BrokenPipe(), "BrokenPipe", errno.EPIPE, BrokenPipeError),
    (BrokenPipe(A), f"BrokenPipe: {A}", errno.EPIPE, BrokenPipeError),
    (Timeout("recv"), "Timeout: recv", errno.EAGAIN, TimeoutError),
    (Timeout("recv", 5000), "Timeout: recv (5000 ms)", errno.EAGAIN, TimeoutError),
    (UnexpectedEof("EOF after 1/2", b"x"), "NetworkError: EOF after 1/2", 0, EOFError),
    (DnsError("host", -2, "unknown"), "DnsError(host): unknown", -2, socket.gaierror),
    (DnsError("host", 0, "nothing"), "DnsError(host): nothing", 0, socket.gaierror),
]


@pytest.mark.parametrize(("error", "text", "code", "base"), ERRORS)
def test_network_errors(error: NetworkError, text: str, code: int, base: type) -> None:
    assert str(error) == text
    assert error.code == code
    assert error.errno == (code or None)
    assert isinstance(error, base)
    assert isinstance(error, NetworkError)
    assert isinstance(error, OSError)


@pytest.mark.parametrize(
    "error",
    [
        *(row[0] for row in ERRORS),
        AddressParseError("x"),
        ValidationError("field", "reason"),
        IoError("open", 2, "/etc/x"),
    ],
    ids=str,
)
@pytest.mark.parametrize("again", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_errors_survive_pickle_and_copy(error: Exception, again: object) -> None:
    made = again(error)  # type: ignore[operator]
    assert type(made) is type(error)
    assert str(made) == str(error)
    assert vars(made) == vars(error)
    assert getattr(made, "errno", None) == getattr(error, "errno", None)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ECONNREFUSED, ConnectionRefused),
        (errno.ETIMEDOUT, ConnectionTimeout),
        (errno.ECONNRESET, ConnectionReset),
        (errno.EADDRINUSE, AddressInUse),
        (errno.EPIPE, BrokenPipe),
        (errno.EAGAIN, Timeout),
        (errno.EWOULDBLOCK, Timeout),
        (errno.ENETUNREACH, NetworkError),
        (errno.EBADF, NetworkError),
        (errno.ENOENT, NetworkError),
    ],
)
def test_the_errno_picks_the_class(code: int, kind: type[NetworkError]) -> None:
    error = map_oserror(OSError(code, "text"), "op", A, ms=7)
    assert type(error) is kind
    assert error.code == error.errno == code
    if kind is NetworkError:
        assert error.message == f"{os.strerror(code)} (op)"
    if isinstance(error, Timeout):
        assert (error.op, error.ms) == ("op", 7)
    if hasattr(error, "addr"):
        assert error.addr == A


def test_our_own_errors_pass_the_mapper_unchanged() -> None:
    error = ConnectionReset(A)
    assert map_oserror(error, "op") is error


def test_an_address_parse_error_shows_the_text() -> None:
    assert str(AddressParseError("x\n")) == r"AddressParseError: invalid address 'x\n'"
    assert not isinstance(AddressParseError("x"), OSError)


def test_flare_net_reexports_the_classes_of_flare_errors() -> None:
    for name in flare.net.__all__:
        if hasattr(flare.errors, name):
            assert getattr(flare.net, name) is getattr(flare.errors, name)
    assert flare.net.Timeout is flare.errors.Timeout
    assert issubclass(flare.net.Timeout, TimeoutError)
