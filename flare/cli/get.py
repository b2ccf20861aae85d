"""``flare get URL``."""

from __future__ import annotations

import argparse
import os
import sys

from flare.cli import CommandError
from flare.errors import ValidationError
from flare.http.client import HttpClient
from flare.http.proto.headers import HeaderInjectionError, HeaderMap
from flare.http.proto.url import UrlParseError

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Fetch the URL and write the body to stdout as it comes. Any status is a success."""
    headers = _headers(arguments.header)
    body = _body(arguments.data)
    if body is not None and not headers.contains("content-type"):
        headers.set("Content-Type", "application/x-www-form-urlencoded")
    method = arguments.request
    if method is None:
        method = "GET" if body is None else "POST"
    if "://" not in arguments.url:
        raise CommandError(f"bad URL {arguments.url!r}: it must begin with http:// or https://")
    if sys.stdout is None:
        raise CommandError("standard output is closed")
    output = sys.stdout.buffer
    try:
        with (
            HttpClient() as client,
            client.request(
                method,
                arguments.url,
                body,
                headers=headers,
                timeout=arguments.timeout,
                stream=True,
            ) as response,
        ):
            if arguments.include:
                reason = f" {response.reason}" if response.reason else ""
                head = f"{response.version} {response.status}{reason}\r\n{response.headers}\r\n"
                output.write(head.encode("latin-1"))
            for chunk in response.iter_bytes(65536):
                output.write(chunk)
                output.flush()
    except UrlParseError as error:
        raise CommandError(f"bad URL {arguments.url!r}: {error}") from None
    except (ValidationError, HeaderInjectionError) as error:
        raise CommandError(str(error)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        output.flush()
        print(f"flare: {error}", file=sys.stderr)
        return 1
    return 0


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
