"""HeaderMap: an ordered multimap that nothing can be injected through."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http.proto import headers as module
from flare.http.proto.header_view import parse_header_view
from flare.http.proto.headers import HeaderInjectionError, HeaderMap

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
tokens = st.from_regex(TOKEN, fullmatch=True)
legal_values = st.text(
    st.characters(max_codepoint=0xFF).filter(lambda c: c == "\t" or 0x20 <= ord(c) != 0x7F)
)


def two() -> HeaderMap:
    return HeaderMap([("Accept", "a"), ("X", "1"), ("accept", "b")])


def test_names_are_found_in_any_case_and_keep_the_letters_given():
    headers = HeaderMap({"Content-TYPE": "text/plain"})
    assert headers.get("content-type") == headers["CONTENT-TYPE"] == "text/plain"
    assert "cOnTeNt-TyPe" in headers
    assert headers.contains("content-type")
    assert headers.keys() == ["Content-TYPE"]


def test_get_of_a_missing_name_is_the_empty_string_or_the_default():
    headers = HeaderMap()
    assert headers.get("Missing") == ""
    assert headers.get("Missing", "x") == "x"
    assert headers.get_all("Missing") == []
    with pytest.raises(KeyError, match="Missing"):
        headers["Missing"]


def test_repeated_fields_are_all_kept_in_order():
    headers = two()
    assert headers.get("ACCEPT") == "a"
    assert headers.get_all("ACCEPT") == ["a", "b"]
    assert headers.items() == [("Accept", "a"), ("X", "1"), ("accept", "b")]
    assert headers.values() == ["a", "1", "b"]
    assert list(headers) == headers.keys() == ["Accept", "X", "accept"]
    assert len(headers) == headers.len() == 3


def test_set_leaves_one_entry_at_the_place_of_the_first_with_the_new_letters():
    headers = two()
    headers.set("ACCEPT", "c")
    assert headers.items() == [("ACCEPT", "c"), ("X", "1")]
    headers["New"] = "n"
    assert headers.items()[-1] == ("New", "n")


def test_remove_drops_every_entry_and_says_whether_there_was_one():
    headers = two()
    assert headers.remove("ACCEPT") is True
    assert headers.items() == [("X", "1")]
    assert headers.remove("ACCEPT") is False
    del headers["x"]
    assert not headers
    with pytest.raises(KeyError):
        del headers["x"]


def test_pop_setdefault_and_clear_work_as_in_a_dict():
    headers = two()
    assert headers.pop("accept") == "a"
    assert headers.pop("accept", "none") == "none"
    assert headers.setdefault("x", "2") == "1"
    assert headers.setdefault("y", "2") == "2"
    headers.clear()
    assert headers.items() == []


def test_names_with_non_ascii_look_alikes_are_not_found():
    headers = HeaderMap({"Cookie": "v"})
    assert "coo\u212aie" not in headers
    assert headers.get("coo\u212aie") == ""
    assert headers.get_all("coo\u212aie") == []
    assert not headers.remove("coo\u212aie")
    assert 5 not in headers


def test_update_replaces_names_and_keeps_repeats_of_the_other():
    headers = two()
    headers.update([("ACCEPT", "n"), ("Z", "1"), ("accept", "m")])
    assert headers.items() == [("ACCEPT", "n"), ("X", "1"), ("Z", "1"), ("accept", "m")]
    headers.update({"x": "2"})
    assert headers["X"] == "2"


def test_update_with_a_bad_field_changes_nothing():
    headers = two()
    with pytest.raises(HeaderInjectionError):
        headers.update([("New", "1"), ("Bad", "a\nb")])
    assert headers == two()


def test_a_map_is_made_from_a_mapping_pairs_or_another_map():
    assert HeaderMap({"A": "1"}) == HeaderMap([("A", "1")])
    first = two()
    second = HeaderMap(first)
    second.append("B", "2")
    assert first == two() != second


@pytest.mark.parametrize("copying", [HeaderMap.copy, copy.copy, copy.deepcopy])
def test_a_copy_is_independent(copying):
    first = two()
    second = copying(first)
    second.append("B", "2")
    assert first.items() == two().items()
    assert second.len() == 4


def test_pickling_keeps_everything():
    assert pickle.loads(pickle.dumps(two())).items() == two().items()


def test_equality_ignores_the_case_of_names_and_order_between_names():
    assert HeaderMap([("A", "1"), ("B", "2")]) == HeaderMap([("b", "2"), ("a", "1")])
    assert HeaderMap([("A", "1"), ("A", "2")]) != HeaderMap([("A", "2"), ("A", "1")])
    assert HeaderMap([("A", "1")]) != HeaderMap([("A", "1"), ("A", "1")])
    assert HeaderMap() != {}
    with pytest.raises(TypeError):
        hash(HeaderMap())


def test_encoding_is_one_line_for_each_field():
    buf = bytearray(b"HTTP/1.1 200 OK\r\n")
    HeaderMap([("A", "1"), ("b-C", "\xe9"), ("Empty", "")]).encode_to(buf)
    assert bytes(buf) == b"HTTP/1.1 200 OK\r\nA: 1\r\nb-C: \xe9\r\nEmpty: \r\n"
    assert str(HeaderMap({"A": "1"})) == "A: 1\r\n"


def test_blanks_round_a_value_are_dropped_and_only_those():
    headers = HeaderMap({"A": " \t x y\t", "B": "\xa0x\x85"})
    assert headers.items() == [("A", "x y"), ("B", "\xa0x\x85")]


@pytest.mark.parametrize("name", ["Authorization", "PROXY-AUTHORIZATION", "cookie", "Set-Cookie"])
def test_repr_masks_secrets(name):
    text = repr(HeaderMap([(name, "hunter2"), ("X", "shown")]))
    assert "hunter2" not in text
    assert name in text
    assert "shown" in text


CONTROLS = [*"\0\x01\x08\n\x0b\x0c\r\x1b\x1f\x7f"]


@pytest.mark.parametrize("bad", [*CONTROLS, "\u0100", "\u2028", "\U0001f600", "\ud800"])
@pytest.mark.parametrize("pattern", ["{}", "a{}", "{}b", "a{}b", "\r{}b"])
def test_a_value_that_is_no_field_value_is_refused(bad, pattern):
    value = pattern.format(bad)
    for change in (HeaderMap.set, HeaderMap.append, HeaderMap.__setitem__, HeaderMap.setdefault):
        headers = HeaderMap()
        with pytest.raises(HeaderInjectionError) as caught:
            change(headers, "X-Name", value)
        assert (caught.value.field, caught.value.value) == ("X-Name", value)
        assert not headers


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:", ":a", "a\r\nB", "a\n", "\na", "a\0", "a\t", " a", "a ", '"a"', "a/b",
     "(a)", "a@b", "[a]", "{a}", "a,b", "a;b", "a=b", "a?b", "\xe9", "\u212a", "\ud800", "a\x7f"],
)  # fmt: skip
def test_a_name_that_is_no_token_is_refused(name):
    with pytest.raises(HeaderInjectionError) as caught:
        HeaderMap().set(name, "v")
    assert caught.value.field == name
    with pytest.raises(HeaderInjectionError):
        HeaderMap([(name, "v")])
    str(caught.value).encode("ascii")
    assert "\n" not in str(caught.value)


def test_a_name_refused_once_is_refused_again():
    for _ in range(2):
        with pytest.raises(HeaderInjectionError):
            HeaderMap().append("a\n", "v")


@pytest.mark.parametrize("value", [None, 5, 1.5, True, b"bytes", ["list"]])
def test_a_value_that_is_no_text_is_a_type_error_naming_the_field(value):
    with pytest.raises(TypeError, match=r"'X-Count' must be str, not "):
        HeaderMap().set("X-Count", value)


@pytest.mark.parametrize("name", [None, 5, b"Host"])
def test_a_name_that_is_no_text_is_a_type_error(name):
    with pytest.raises(TypeError, match="header name"):
        HeaderMap().set(name, "v")


def test_string_enums_are_taken_by_their_value():
    class Kind(str, Enum):  # noqa: UP042 - it prints as Kind.NAME, not as its value
        NAME = "X-Kind"
        VALUE = "plain"

    headers = HeaderMap([(Kind.NAME, Kind.VALUE)])
    assert str(headers) == "X-Kind: plain\r\n"
    assert type(headers.values()[0]) is str


def test_the_error_is_escaped_short_and_survives_pickling():
    error = HeaderInjectionError("X", "a\r\nEvil: 1" + "x" * 1000)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(error, ValueError)
    for each in (error, again):
        assert each.field == "X"
        assert str(each).startswith("HeaderInjectionError: X ")
        assert "'\\r' at 1" in str(each)
        for text in (str(each), repr(each)):
            assert len(text) < 160
            assert not re.search(r"[\x00-\x1f]", text)


def test_the_error_hides_the_value_of_a_secret_field():
    with pytest.raises(HeaderInjectionError) as caught:
        HeaderMap({"Authorization": "Bearer hunter2\n"})
    assert "hunter2" not in str(caught.value) + repr(caught.value)


def test_the_memory_of_names_is_bounded():
    for index in range(3000):
        HeaderMap({f"X-Flood-{index}": ""})
    HeaderMap({"X" * 5000: ""})
    assert len(module._known) <= module._MAX_KNOWN
    assert max(map(len, module._known)) <= module._MAX_KNOWN_LENGTH
    assert sys.getsizeof(module._known) < 200_000


@given(st.text() | tokens, st.text() | legal_values)
def test_any_text_is_refused_or_survives_the_wire(name, value):
    headers = HeaderMap({"Before": "1"})
    try:
        headers.append(name, value)
    except HeaderInjectionError:
        assert not TOKEN.fullmatch(name) or re.search(r"[^\t\x20-\x7e\x80-\xff]", value)
        return
    headers.append("After", "2")
    buf = bytearray()
    headers.encode_to(buf)
    assert parse_header_view(buf).into_owned().items() == [
        ("Before", "1"),
        (name, value.strip(" \t")),
        ("After", "2"),
    ]


@given(st.lists(st.tuples(tokens, legal_values)))
def test_encoding_and_parsing_give_back_the_same_fields(pairs):
    headers = HeaderMap(pairs)
    buf = bytearray()
    headers.encode_to(buf)
    assert parse_header_view(buf).into_owned().items() == headers.items()
    assert parse_header_view(bytes(buf)).into_owned() == headers


@given(st.lists(st.tuples(st.sampled_from("aAbB"), st.sampled_from("12")), max_size=8))
def test_every_operation_agrees_with_a_plain_list_of_pairs(pairs):
    headers = HeaderMap(pairs)
    model = [value for name, value in pairs if name in "aA"]
    assert headers.get_all("a") == model
    assert headers.get("A") == (model[0] if model else "")
    assert headers.contains("a") is ("A" in headers) is bool(model)
    headers.set("a", "z")
    assert headers.get_all("A") == ["z"]
    assert len(headers) == len(pairs) - len(model) + 1
    assert headers.remove("A")
    assert headers.items() == [pair for pair in pairs if pair[0] not in "aA"]


def test_a_text_is_no_map() -> None:
    with pytest.raises(TypeError, match="mapping or pairs"):
        HeaderMap("Name: value")
