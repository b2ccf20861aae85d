"""What a configuration refuses, and when."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from flare.errors import ValidationError
from flare.http import Request, Response, ok
from flare.http.proto import H1LeniencyConfig
from flare.http.server import HttpServer, ServerConfig
from flare.http2 import Http2Config
from flare.net import SocketAddr
from flare.tls import TlsServerConfig

TIMEOUTS = [
    "idle_timeout_ms",
    "header_timeout_ms",
    "write_timeout_ms",
    "read_body_timeout_ms",
    "handler_timeout_ms",
    "request_timeout_ms",
]


def hello(request: Request) -> Response:
    return ok()


def test_the_defaults_are_the_documented_ones_and_valid() -> None:
    config = ServerConfig()
    config.validate()
    config.validate(strict=True)
    assert (config.read_buffer_size, config.max_header_size, config.max_uri_length) == (8192,) * 3
    assert config.max_body_size == 10 * 1024 * 1024
    assert (config.keep_alive, config.max_keepalive_requests) == (True, 0)
    assert [getattr(config, name) for name in TIMEOUTS] == [
        30_000,
        10_000,
        5_000,
        30_000,
        30_000,
        60_000,
    ]
    assert config.shutdown_timeout_ms == 5_000
    assert (config.dispatch, config.handler_threads, config.handler_queue) == ("auto", 64, 1024)
    assert config.expose_error_messages is config.access_log is False
    assert config.h1_leniency == H1LeniencyConfig.strict()


def test_fields_come_in_the_documented_order() -> None:
    names = [field.name for field in dataclasses.fields(ServerConfig)]
    assert names[:7] == [
        "read_buffer_size",
        "max_header_size",
        "max_body_size",
        "max_uri_length",
        "keep_alive",
        "max_keepalive_requests",
        "idle_timeout_ms",
    ]
    with pytest.raises(AttributeError):
        ServerConfig().misspelt = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 0) for name in ("read_buffer_size", "max_header_size", "max_uri_length")),
        *((name, -1) for name in ("read_buffer_size", "max_header_size", "max_uri_length")),
        ("max_body_size", -1),
        ("max_keepalive_requests", -1),
        ("max_connections", -1),
        ("shutdown_timeout_ms", -1),
        ("handler_threads", 0),
        ("handler_queue", -1),
        ("dispatch", "threads"),
        ("dispatch", None),
        *((name, -1) for name in TIMEOUTS),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        ServerConfig(**{field: value}).validate()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_body_size": "10"}, "max_body_size"),
        ({"idle_timeout_ms": None}, "idle_timeout_ms"),
        ({"handler_timeout_ms": 0.5}, "handler_timeout_ms"),
        ({"handler_threads": "64"}, "handler_threads"),
        ({"h1_leniency": True}, "h1_leniency"),
        ({"h2_config": {"max_frame_size": 1}}, "h2_config"),
        ({"h2_config": Http2Config(max_frame_size="16384")}, "max_frame_size"),  # type: ignore[arg-type]
        ({"on_worker_start": "open_pool"}, "on_worker_start"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with (
        HttpServer.bind(SocketAddr.localhost(0), ServerConfig(**fields)) as server,
        pytest.raises(ValidationError, match="must be") as caught,
    ):
        server.serve(hello)
    assert caught.value.field == named


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"backlog": 5}, "config must be a ServerConfig, not a dict$"),
        (ServerConfig, "config must be a ServerConfig, not a type$"),
        (TlsServerConfig("no-such-file.pem"), "write tls=TlsServerConfig"),
    ],
)
def test_what_is_no_configuration_is_refused(config: Any, says: str, tmp_path: Path) -> None:
    here = SocketAddr.localhost(0)
    path = tmp_path / "socket"
    with HttpServer.bind(here) as other:
        for make in (
            lambda: HttpServer.bind(here, config),
            lambda: HttpServer.bind(here, config, h2_config=Http2Config()),
            lambda: HttpServer.bind_many([here], config),
            lambda: HttpServer.bind_unix(path, config),
            lambda: HttpServer.from_fds([0], config),
            lambda: HttpServer(other._listeners, config),
            lambda: other.serve_comptime(hello, config),
        ):
            with pytest.raises(TypeError, match=says):
                make()
    assert not path.exists()


@pytest.mark.parametrize("mode", ["auto", "inline", "pool"])
def test_one_thread_and_no_queue_are_enough_for_every_dispatch(mode: str) -> None:
    ServerConfig(dispatch=mode, handler_threads=1, handler_queue=0).validate()


@pytest.mark.parametrize(
    "fields",
    [
        {"request_timeout_ms": 100, "handler_timeout_ms": 101, "read_body_timeout_ms": 0},
        {"request_timeout_ms": 100, "handler_timeout_ms": 0, "read_body_timeout_ms": 101},
    ],
)
def test_the_outer_deadline_is_not_inside_another(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="request_timeout_ms"):
        ServerConfig(**fields).validate()


@pytest.mark.parametrize(
    "fields",
    [
        dict.fromkeys(TIMEOUTS, 0),
        {"request_timeout_ms": 0, "handler_timeout_ms": 10**9},
        {"request_timeout_ms": 100, "handler_timeout_ms": 100, "read_body_timeout_ms": 100},
        {"max_body_size": 0},
        {"shutdown_timeout_ms": 0},
    ],
)
def test_zero_means_off_and_is_no_bound_of_another(fields: dict[str, Any]) -> None:
    ServerConfig(**fields).validate()


def test_a_body_smaller_than_a_head_is_refused_only_where_asked() -> None:
    config = ServerConfig(max_body_size=8191)
    config.validate()
    with pytest.raises(ValidationError, match="max_body_size"):
        config.validate(strict=True)


@pytest.mark.parametrize(
    ("config", "handler", "workers", "error"),
    [
        (ServerConfig(read_buffer_size=0), hello, 1, ValidationError),
        (ServerConfig(), hello, 257, ValidationError),
        (ServerConfig(), 5, 1, TypeError),
        (ServerConfig(), None, 1, TypeError),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is(
    config: ServerConfig, handler: Any, workers: int, error: type[Exception]
) -> None:
    with HttpServer.bind(SocketAddr.localhost(0), config) as server, pytest.raises(error):
        server.serve(handler, workers)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("trusted_proxies", {"trusted_proxies": ["10.0.0.1/8"]}),
        ("trusted_proxies", {"trusted_proxies": "10.0.0.0/8"}),
        ("forwarded_headers", {"forwarded_headers": ["x-real-ip"]}),
        ("forwarded_headers", {"forwarded_headers": ["forwarded", "x-forwarded-for"]}),
        ("proxy_protocol", {"proxy_protocol": True}),
    ],
)
def test_proxies_that_cannot_be_meant_are_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        ServerConfig(**changes).validate()
    assert caught.value.field == field
