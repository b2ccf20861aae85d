"""The HTTP server: ``HttpServer``, its ``ServerConfig``, and the response helpers."""

from flare.http.response import (
    bad_request,
    forbidden,
    internal_error,
    not_found,
    ok,
    ok_json,
    ok_json_value,
    redirect,
    response_from_body,
    stream_response,
    unauthorized,
)
from flare.http.server.config import ServerConfig
from flare.http.server.processes import WorkerStartError
from flare.http.server.server import HttpServer
from flare.http.server.stats import ServerStats
from flare.runtime.report import ShutdownReport

__all__ = [
    "HttpServer",
    "ServerConfig",
    "ServerStats",
    "ShutdownReport",
    "WorkerStartError",
    "bad_request",
    "forbidden",
    "internal_error",
    "not_found",
    "ok",
    "ok_json",
    "ok_json_value",
    "redirect",
    "response_from_body",
    "stream_response",
    "unauthorized",
]
