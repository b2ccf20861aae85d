"""``flare serve module:handler``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from typing import Any, Literal

from flare.cli import CommandError
from flare.cli.listen import bound_server, places_of
from flare.cli.output import give_up_output, log_to_stdout, say, set_log_level
from flare.cli.tls import certificates
from flare.errors import NetworkError, ValidationError
from flare.http.handler import HandlerLike, as_handler_function
from flare.http.server import ServerConfig
from flare.http.server.crew import choose_kind
from flare.http.server.processes import WorkerStartError

__all__ = ["config_of", "kind_of", "load_handler", "run"]

# What the fields of a refused configuration are called on the command line.
_FLAGS = {
    "num_workers": "--workers",
    "worker_kind": "--worker-kind",
    "backlog": "--backlog",
    "shutdown_timeout_ms": "--graceful-timeout",
    "max_requests": "--max-requests",
    "trusted_proxies": "--trusted-proxies",
    "forwarded_headers": "--forwarded-headers",
    "proxy_protocol": "--proxy-protocol",
}


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal. Ctrl-C and SIGTERM drain, and are no failure.

    Where workers are processes, only they import the application: so SIGHUP takes new code.
    """
    config = config_of(arguments)
    with certificates(arguments):
        return _serve(arguments, config)


def _serve(arguments: argparse.Namespace, config: ServerConfig) -> int:
    workers, kind = arguments.workers, kind_of(arguments)

    def load() -> HandlerLike:
        return load_handler(arguments.app)

    if kind == "thread":
        handler = load()  # before anything is bound
        load = lambda: handler  # noqa: E731
    if arguments.access_log:
        log_to_stdout()
    if arguments.log_level is not None:
        set_log_level(arguments.log_level)
    with bound_server(arguments, config) as server:
        say(
            f"flare: {arguments.app} on {places_of(server)}"
            f" ({workers} worker{'s' if workers > 1 else ''}); Ctrl-C stops"
        )
        try:
            server.serve_factory(load, workers, worker_kind=kind)
        except KeyboardInterrupt:
            pass
        except WorkerStartError as error:
            text = error.reason if error.kind == CommandError.__name__ else error.message
            raise CommandError(text) from None
        except NetworkError as error:
            print(f"flare: {error.message}", file=sys.stderr)
            return 1
        finally:
            _flush_output()
    return 0


def _flush_output() -> None:
    """See off what the application has printed, if anybody still takes it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        give_up_output()


def kind_of(arguments: argparse.Namespace) -> Literal["thread", "process"]:
    """What the flags make of the workers."""
    if arguments.workers < 1:
        raise CommandError(f"--workers: must be >= 1, got {arguments.workers}")
    try:
        kind = choose_kind(arguments.workers, arguments.worker_kind)
    except ValidationError as error:
        raise CommandError(f"{_FLAGS.get(error.field, error.field)}: {error.reason}") from None
    if kind == "thread" and arguments.max_requests:
        raise CommandError(
            "--max-requests: only a worker that is a process can be replaced;"
            " add --worker-kind process"
        )
    return kind


def config_of(arguments: argparse.Namespace) -> ServerConfig:
    """The configuration that the flags ask for."""
    config = ServerConfig(
        access_log=arguments.access_log,
        backlog=arguments.backlog,
        shutdown_timeout_ms=round(arguments.graceful_timeout * 1000),
        max_requests=arguments.max_requests,
        max_requests_jitter=max(0, arguments.max_requests) // 10,
        trusted_proxies=_listed(arguments.trusted_proxies),
        forwarded_headers=_listed(arguments.forwarded_headers),
        proxy_protocol=arguments.proxy_protocol,
    )
    try:
        config.validate()
    except ValidationError as error:
        raise CommandError(f"{_FLAGS.get(error.field, error.field)}: {error.reason}") from None
    return config


def _listed(text: str) -> list[str]:
    return [entry for entry in (part.strip() for part in text.split(",")) if entry]


def load_handler(path: str) -> HandlerLike:
    """The handler at ``module:name`` (the name may be dotted)."""
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise CommandError(f"expected module:handler, got {path!r}")
    if "/" in module_name or not all(module_name.split(".")):
        meant = module_name.removesuffix(".py").strip("./").replace("/", ".")
        hint = f"; did you mean {meant}:{name}?" if meant else ""
        raise CommandError(f"{module_name!r} is a path, not the name of a module{hint}")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            hint = ""
            if module_name.endswith(".py"):
                hint = f"; did you mean {module_name.removesuffix('.py')}:{name}?"
            raise CommandError(f"there is no module {module_name!r} here{hint}") from None
        raise CommandError(_import_failure(module_name, error)) from None
    except (Exception, SystemExit) as error:
        raise CommandError(_import_failure(module_name, error)) from None
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(f"module {module_name!r} has no {name!r}") from None
    try:
        as_handler_function(found)
    except TypeError as error:
        raise CommandError(f"{path}: {error}") from None
    handler: HandlerLike = found  # itself: a router's routes say how they are to be called
    return handler


def _import_failure(module_name: str, error: BaseException) -> str:
    """One line about an exception out of the user's module, with the place it came from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
    ]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError):
        where = f" at {error.filename}:{error.lineno}"
    text = " ".join(str(error).split())
    return f"cannot import {module_name!r}: {type(error).__name__}: {text}{where}"
