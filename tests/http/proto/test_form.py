"""Forms in urlencoded bodies."""

from __future__ import annotations

import string
import tracemalloc
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.errors import ValidationError
from flare.http.client.content import encode_content, encode_pairs
from flare.http.client.multipart import encode_form
from flare.http.proto.errors import HttpParseError
from flare.http.proto.form import (
    MAX_FORM_FIELDS,
    FormData,
    parse_form_urlencoded,
    urldecode,
    urlencode,
)
from flare.http.proto.multipart import parse_multipart_form_data

texts = st.text(st.characters(codec="utf-8"))
fields = st.lists(st.tuples(texts, texts), max_size=10)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("", ""), (string.ascii_letters + string.digits + "-._~",) * 2, ("a b", "a+b"),
     ("a+b", "a%2Bb"), ("*", "%2A"), ("é€", "%C3%A9%E2%82%AC"), ("\0\r\n", "%00%0D%0A"),
     ("a=b&c;d%", "a%3Db%26c%3Bd%25"), ("\U0001f600", "%F0%9F%98%80")],
)  # fmt: skip
def test_text_is_encoded(text, encoded):
    assert urlencode(text) == encoded
    assert urldecode(encoded) == text


@pytest.mark.parametrize(
    ("encoded", "text"),
    [("a%20b", "a b"), ("%c3%a9", "é"), ("é", "é"), ("%ff", "\ufffd"), ("%C3", "\ufffd"),
     ("%2541", "%41"), ("\ud800", "\ufffd" * 3)],
)  # fmt: skip
def test_text_is_decoded(encoded, text):
    assert urldecode(encoded) == text


@pytest.mark.parametrize(
    ("encoded", "variant"),
    [("%", "TRAILING_PERCENT"), ("a%4", "TRAILING_PERCENT"), ("%zz", "INVALID_HEX"),
     ("%4g", "INVALID_HEX"), ("%+1", "INVALID_HEX"), ("%٣٣", "INVALID_HEX")],
)  # fmt: skip
def test_a_bad_escape_is_refused_everywhere(encoded, variant):
    for read in (urldecode, parse_form_urlencoded):
        for text in (encoded, f"a=b&c={encoded}", f"{encoded}=a"):
            if text == encoded or read is parse_form_urlencoded:
                with pytest.raises(HttpParseError) as caught:
                    read(text)
                assert caught.value.status == 400
    with pytest.raises(HttpParseError) as caught:
        urldecode(encoded)
    assert caught.value.variant_name() == variant


def test_text_without_utf_8_cannot_be_encoded():
    with pytest.raises(ValidationError, match="ud800"):
        urlencode("a\ud800")
    with pytest.raises(ValidationError, match="ud800"):
        FormData({"a": "\ud800"}).to_urlencoded()


@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        (b"", []),
        (b"&&;;&", []),
        (b"a=1&b=2;c=3", [("a", "1"), ("b", "2"), ("c", "3")]),
        (b"a=1&a=2&A=3", [("a", "1"), ("a", "2"), ("A", "3")]),
        (b"a&b=&=c&=", [("a", ""), ("b", ""), ("", "c"), ("", "")]),
        (b"a=b=c==", [("a", "b=c==")]),
        (b"a+b=c+d&e%26=%3D%3b", [("a b", "c d"), ("e&", "=;")]),
        (b" a = b ", [(" a ", " b ")]),
        ("é=ü".encode(), [("é", "ü")]),
        ("é=ü", [("é", "ü")]),
        (b"%e9=\xe9", [("\ufffd", "\ufffd")]),
        (b"a=1\r\n", [("a", "1\r\n")]),
        (b"\0=\x7f", [("\0", "\x7f")]),
    ],
)
def test_a_body_is_its_fields(body, pairs):
    form = parse_form_urlencoded(body)
    assert form.items() == pairs
    if isinstance(body, bytes):
        assert parse_form_urlencoded(bytearray(body)) == form
        assert parse_form_urlencoded(memoryview(body)) == form


def test_fields_at_the_limit_and_past_it():
    assert MAX_FORM_FIELDS == 1000
    assert len(parse_form_urlencoded(b"a=b&" * 1000)) == 1000
    assert len(parse_form_urlencoded(b"a" + b"&" * 100_000 + b"b", max_fields=2)) == 2
    for body, limit in ((b"a=b&" * 1001, 1000), (b"a;b;c", 2), (b"a", 0)):
        with pytest.raises(HttpParseError, match=f"more than {limit} fields") as caught:
            parse_form_urlencoded(body, max_fields=limit)
        assert caught.value.variant_name() == "FORM_TOO_LARGE"
        assert caught.value.status == 413


def test_a_form_is_an_ordered_multimap():
    form = FormData()
    assert not form
    form.append("a", "1")
    form.append("b", "2")
    form.append("a", "3")
    assert (form.get("a"), form["a"], form.get("A"), form.get("c", "x")) == ("1", "1", "", "x")
    assert form.get_optional("b") == "2"
    assert form.get_optional("c") is None
    assert form.get_all("a") == ["1", "3"]
    assert form.get_all("c") == []
    assert form.contains("a")
    assert "a" in form
    assert "c" not in form
    assert form.len() == len(form) == 3
    assert list(form) == form.keys() == ["a", "b", "a"]
    assert form.values() == ["1", "2", "3"]
    assert form.items() == [("a", "1"), ("b", "2"), ("a", "3")]
    assert form.to_urlencoded() == "a=1&b=2&a=3"
    assert repr(form) == "FormData([('a', '1'), ('b', '2'), ('a', '3')])"
    with pytest.raises(KeyError, match="c"):
        form["c"]
    with pytest.raises(TypeError):
        hash(form)


def test_what_a_form_gives_away_is_not_its_own():
    form = FormData([("a", "1")])
    form.items().clear()
    other = FormData(form)
    other.append("b", "2")
    assert form == FormData({"a": "1"})


@pytest.mark.parametrize(
    ("made_of", "pairs"),
    [
        (None, []),
        ({}, []),
        ({"a": "1", "b": ["2", "3"], "c": ()}, [("a", "1"), ("b", "2"), ("b", "3")]),
        ([("a", "1"), ("a", ["2"])], [("a", "1"), ("a", "2")]),
        (iter([("a", "1")]), [("a", "1")]),
        (FormData({"a": "1"}), [("a", "1")]),
    ],
)
def test_a_form_is_made_of_a_mapping_or_pairs(made_of, pairs):
    assert FormData(made_of).items() == pairs


@pytest.mark.parametrize("made_of", ["a=b", b"a=b", {"a": 1}, {"a": None}, {1: "a"}, {"a": b"b"}])
def test_a_form_is_not_made_of_other_things(made_of):
    with pytest.raises(TypeError):
        FormData(made_of)


def test_forms_are_equal_by_fields_and_order():
    assert FormData([("a", "1"), ("b", "2")]) != FormData([("b", "2"), ("a", "1")])
    assert FormData({"a": "1"}) != FormData({"A": "1"})
    assert FormData({"a": "1"}) != {"a": "1"}


def test_the_client_sends_a_form():
    form = FormData([("a", "1"), ("b", "é &"), ("a", "2")])
    content = encode_content(None, data=form)
    assert content.content_type == "application/x-www-form-urlencoded"
    assert parse_form_urlencoded(content.data) == form
    multipart = encode_form(form, {"f": ("f.txt", b"x")})
    body = multipart.next_chunk()
    parsed = parse_multipart_form_data(body, multipart.content_type)
    assert [(part.name, part.text()) for part in parsed if not part.is_file()] == form.items()


@given(texts)
def test_encoding_is_the_standard_library_s(text):
    assert urlencode(text) == urllib.parse.quote_plus(text)
    assert urldecode(urlencode(text)) == text


@given(fields)
def test_what_is_written_is_read_back_by_us_and_others(pairs):
    form = FormData(pairs)
    text = form.to_urlencoded()
    assert parse_form_urlencoded(text) == parse_form_urlencoded(text.encode()) == form
    assert urllib.parse.parse_qsl(text, keep_blank_values=True) == pairs


@given(fields)
def test_what_others_write_is_read(pairs):
    requests = pytest.importorskip("requests", reason="pip install requests")
    by_requests = requests.Request("POST", "http://h/", data=pairs).prepare().body or ""
    for body in (urllib.parse.urlencode(pairs), encode_pairs(pairs), by_requests):
        assert parse_form_urlencoded(body).items() == pairs


@given(st.text(), st.binary(), st.text(st.sampled_from("ab=&;%+41\r\né"), max_size=60))
def test_any_body_gives_fields_or_the_documented_error(text, data, likely):
    for body in (text, data, likely):
        try:
            form = parse_form_urlencoded(body)
        except HttpParseError:
            continue
        assert parse_form_urlencoded(form.to_urlencoded()) == form


@pytest.mark.parametrize("unit", [b"&", b";&", b"=", b"%41", b"%41a", b"+", b"a", b"\xff", b"%ff"])
def test_hostile_bodies_take_linear_time(unit):
    def prepare(size):
        body = b"a=" + unit * size
        return lambda: parse_form_urlencoded(body)

    assert takes_linear_time(prepare, 50_000)


def test_fields_that_are_refused_are_not_built():
    body = b"a&" * 2_000_000
    tracemalloc.start()
    try:
        with pytest.raises(HttpParseError):
            parse_form_urlencoded(body)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_names_are_not_hashed():
    """However many names collide, there is nothing that they could collide in."""

    class Name(str):
        def __hash__(self):
            raise AssertionError("hashed")

    form = FormData([(Name("a"), "1"), (Name("b"), "2")])
    assert form.get(Name("b")) == form[Name("b")] == "2"
    assert Name("a") in form
    assert form.get_all(Name("a")) == ["1"]
