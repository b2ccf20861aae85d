"""The ``Link`` field (RFC 8288 section 3): where a resource points to, and by which relation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from flare.http.proto.url import Url, UrlParseError

__all__ = ["Link", "links_by_relation", "parse_link_header"]

_match_target = re.compile(r"[ \t,]*+<([^<>]*+)>").match
_match_param = re.compile(
    r"[ \t]*+;[ \t]*+(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]++)"
    r"(?:[ \t]*+=[ \t]*+(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s,;\"<>]*+)))?)?"
).match
_unquote = re.compile(r"\\(.)", re.DOTALL).sub
_find_next = re.compile(r",[ \t]*+(?=<)").search

# More than any page has; a bound for what is built out of a peer's bytes.
MAX_LINKS = 256


@dataclass(slots=True)
class Link:
    """A link: its ``target`` as written, its ``rel`` (several relations with blanks between, in
    lower case), and ``params``, the rest of its parameters by lower-case name."""

    target: str
    rel: str = ""
    params: dict[str, str] = field(default_factory=dict)


def parse_link_header(values: str | Iterable[str]) -> list[Link]:
    """The links of a ``Link`` field, or of several values of it, in order, at most 256.

    Of a repeated parameter the first counts, ``title*`` and the like stay encoded (RFC 8187).
    What is no link is skipped, up to the next one.

    >>> [link] = parse_link_header('</items?page=2>; rel="next"')
    >>> link.target, link.rel
    ('/items?page=2', 'next')
    """
    found: list[Link] = []
    for value in (values,) if isinstance(values, str) else values:
        at = 0
        while len(found) < MAX_LINKS:
            target = _match_target(value, at)
            if target is None:
                behind = _find_next(value, at)
                if behind is None:
                    break
                at = behind.end()
                continue
            link = Link(target[1].strip(" \t"))
            at = target.end()
            while (param := _match_param(value, at)) and param.end() > at:
                at = param.end()
                name, quoted, token = param.groups()
                if name:
                    text = _unquote(r"\1", quoted) if quoted is not None else token or ""
                    link.params.setdefault(name.lower(), text)
            link.rel = " ".join(link.params.pop("rel", "").lower().split())
            found.append(link)
    return found


def links_by_relation(values: Iterable[str], base: str = "") -> dict[str, dict[str, str]]:
    """The first link of each relation, as a dict of ``url``, ``rel`` and its parameters. URLs are
    resolved against *base* (RFC 3986 section 5); one that is none is left as it is."""
    found: dict[str, dict[str, str]] = {}
    for link in parse_link_header(values):
        url = link.target
        if base:
            try:
                url = str(Url.parse(base).join(url))
            except UrlParseError:
                pass
        for relation in link.rel.split():
            found.setdefault(relation, {**link.params, "url": url, "rel": link.rel})
    return found
