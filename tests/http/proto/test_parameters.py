"""Field values with parameters."""

from __future__ import annotations

from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.http.proto.charset import charset_of
from flare.http.proto.parameters import parse_parameters


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("text/plain", ("text/plain", {})),
        (" Text/Plain ;Charset=UTF-8 ", ("Text/Plain", {"charset": "UTF-8"})),
        ("a;;; b=c;", ("a", {"b": "c"})),
        ('a; b = "c d" ; e=""', ("a", {"b": "c d", "e": ""})),
        ("a; b=--=_x/y:z?(1),2", ("a", {"b": "--=_x/y:z?(1),2"})),
        (r'a; b="c \"d\" \\ C:\e"', ("a", {"b": r'c "d" \ C:\e'})),
        ('a; b="x; c=y"; d=z', ("a", {"b": "x; c=y", "d": "z"})),
        ('a; b="x; c=\\"y\\""', ("a", {"b": 'x; c="y"'})),
        # Without escapes these two make sense.
        ('a; b="c\\"', ("a", {"b": "c\\"})),
        ('a; b="c\\"; d="e"', ("a", {"b": "c\\", "d": "e"})),
        ("a; b=é€", ("a", {"b": "é€"})),
        ("a; b*=UTF-8''%41", ("a", {"b*": "UTF-8''%41"})),
    ],
)
def test_a_value_and_its_parameters(value, parsed):
    assert parse_parameters(value) == parsed


@pytest.mark.parametrize(
    "value",
    ["", ";", "; a=b", "/", "a/", "/a", "a/b/c", "a b", "a, b", "a; b", "a; =c", "a; b=", 'a; b="',
     'a; b="c', 'a; b="c"d', 'a; b="c" d', "a; b=c d", 'a; b=c"d"', "a; b=c\x00", "a; b=c; B=d",
     'a; b="c"; b="c"', 'a; b="c\\"; b="e"', "a\n; b=c", "a; b\n=c", "a\xa0; b=c", "é"],
)  # fmt: skip
def test_what_is_malformed_or_says_something_twice_is_none(value):
    assert parse_parameters(value) is None


token = st.from_regex(r"[!#$%&'+\-.^_`|~0-9A-Za-z]+", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))


@given(token, st.dictionaries(token.map(str.lower), texts, max_size=4))
def test_what_is_quoted_is_read_back(kind, parameters):
    value = kind
    for name, text in parameters.items():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        value += f'; {name}="{escaped}"'
    assert parse_parameters(value) == (kind, parameters)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1))
def test_quoted_values_are_as_the_standard_library_writes_them(text):
    message = Message()
    message.add_header("Content-Disposition", "form-data", name=text)
    assert parse_parameters(message["content-disposition"]) == ("form-data", {"name": text})


@given(st.text(st.sampled_from('a;=" \\\t/*'), max_size=40))
def test_any_text_is_read_or_refused(text):
    parsed = parse_parameters(text)
    assert parsed is None or all(name == name.lower() for name in parsed[1])


@pytest.mark.parametrize(
    "unit", [";", "; ", '"', '\\"', "\\", ";a", ";a=", ';a="', " ", "a", "=", "/"]
)
def test_hostile_values_are_read_in_linear_time(unit):
    def prepare(size):
        value = 'a; b="' + unit * size
        return lambda: (
            parse_parameters(value),
            parse_parameters(value[6:]),
            parse_parameters("a" + value[6:]),
        )

    assert takes_linear_time(prepare, 20_000)


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [("", "utf-8"), ("text/plain", "utf-8"), ('text/plain; charset="latin-1"', "latin-1"),
     ("a/b;CHARSET = utf-16", "utf-16"), ("a/b; charset=nonsense", "utf-8"),
     ("a/b; charset=zlib", "utf-8"), ("a/b; charset=idna", "utf-8"),
     ("a/b; charset=punycode", "utf-8"), ("a/b; charset=unicode_escape", "utf-8"),
     ("a/b; charset=Raw-Unicode-Escape", "utf-8"), ("a/b; charset=undefined", "utf-8")],
)  # fmt: skip
def test_a_charset_is_one_that_text_can_be_decoded_by(content_type, charset):
    assert charset_of(content_type) == charset
    b"\\q\xff".decode(charset_of(content_type), "replace")
