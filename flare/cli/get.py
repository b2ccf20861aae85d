"""``flare get URL``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import Any

from flare.cli import CommandError
from flare.cli.progress import ProgressBar
from flare.errors import ValidationError
from flare.http.client import HttpClient, HttpDownload
from flare.http.client.save import Fetch, forget, save
from flare.http.errors import HttpError
from flare.http.proto.headers import HeaderInjectionError, HeaderMap
from flare.http.proto.url import UrlParseError

__all__ = ["run"]

FAILED = 1
STATUS = 3


def run(arguments: argparse.Namespace) -> int:
    """Fetch the URL and write the body to stdout as it comes, or to a file when it is whole.

    To stdout any status is a success; into a file none but a 2xx is.
    """
    headers = _headers(arguments.header)
    body = _body(arguments.data)
    if body is not None and not headers.contains("content-type"):
        headers.set("Content-Type", "application/x-www-form-urlencoded")
    method = arguments.request
    if method is None:
        method = "GET" if body is None else "POST"
    if "://" not in arguments.url:
        raise CommandError(f"bad URL {arguments.url!r}: it must begin with http:// or https://")
    to_stdout = arguments.output is None or arguments.include
    if to_stdout and sys.stdout is None:
        raise CommandError("standard output is closed")
    if arguments.resume and (arguments.output is None or method != "GET"):
        raise CommandError("-C goes on with a GET into a file: it needs -o and no other method")

    try:
        # What goes to stdout or a file is not held, so that it may be as large as it likes.
        with HttpClient(max_decompressed_bytes=0, **_connection(arguments)) as client:

            def fetch(asked: HeaderMap) -> HttpDownload:
                response = client.request(
                    method,
                    arguments.url,
                    body,
                    headers=asked,
                    timeout=arguments.timeout,
                    stream=True,
                )
                assert isinstance(response, HttpDownload)
                return response

            if arguments.output is None:
                return _print(fetch, headers, arguments.include)
            return _save(fetch, headers, arguments)
    except UrlParseError as error:
        raise CommandError(f"bad URL {arguments.url!r}: {error}") from None
    except (ValidationError, HeaderInjectionError) as error:
        raise CommandError(str(error)) from None
    except (BrokenPipeError, CommandError):
        raise
    except HttpError as error:
        return _failed(error, STATUS)
    except OSError as error:
        return _failed(error, FAILED)


def _failed(error: Exception, code: int) -> int:
    if sys.stdout is not None:
        sys.stdout.flush()
    print(f"flare: {error}", file=sys.stderr)
    return code


def _print(fetch: Fetch, headers: HeaderMap, include: bool) -> int:
    output = sys.stdout.buffer
    with fetch(headers) as response:
        if include:
            output.write(_head_of(response))
        for chunk in response.iter_bytes(65536):
            output.write(chunk)
            output.flush()
    return 0


def _save(fetch: Fetch, headers: HeaderMap, arguments: argparse.Namespace) -> int:
    path = arguments.output
    for field in ("range", "if-range"):
        if field in headers:
            raise CommandError(f"-o sets {field.title()} by itself: use -C to go on with a file")
    directory = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.path.isdir(directory):
        problem = "is a directory" if os.path.isdir(path) else "its directory is not there"
        raise CommandError(f"-o {path}: {problem}")
    if not arguments.resume:
        forget(path)
    bar = None
    if sys.stderr is not None and sys.stderr.isatty():
        bar = ProgressBar(sys.stderr, os.path.basename(path))
    resume = arguments.request in (None, "GET") and arguments.data is None
    try:
        response = save(fetch, arguments.url, path, headers, resume=resume, progress=bar)
    except PermissionError as error:
        raise CommandError(f"-o {path}: {error.strerror}") from None
    finally:
        if bar is not None:
            bar.finish()
    if arguments.include:
        sys.stdout.buffer.write(_head_of(response))
        sys.stdout.flush()
    return 0


def _head_of(response: HttpDownload) -> bytes:
    reason = f" {response.reason}" if response.reason else ""
    head = f"{response.version} {response.status}{reason}\r\n{response.headers}\r\n"
    return head.encode("latin-1")


def _connection(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the arguments say about how to connect."""
    settings: dict[str, Any] = {"prefer_h2c": arguments.http2, "proxy": arguments.proxy}
    if arguments.insecure:
        from flare.tls import InsecureTlsWarning

        warnings.simplefilter("ignore", InsecureTlsWarning)  # it was asked for in so many letters
        settings["verify"] = False
    elif arguments.cacert:
        settings["verify"] = arguments.cacert
    if arguments.cert:
        settings["cert"] = arguments.cert
    if arguments.unix_socket:
        settings["transport"] = f"unix:{arguments.unix_socket}"
    return settings


def _headers(lines: list[str]) -> HeaderMap:
    headers = HeaderMap()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise CommandError(f"-H takes 'Name: value', got {line!r}")
        try:
            headers.append(name.strip(), value.strip())
        except HeaderInjectionError as error:
            raise CommandError(f"-H {line!r}: {error}") from None
    return headers


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if data == "@-":
        if sys.stdin is None:
            raise CommandError("-d @-: standard input is closed")
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return os.fsencode(data)  # the very bytes that were typed
    try:
        with open(data[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise CommandError(f"-d {data}: {error.strerror}") from None
