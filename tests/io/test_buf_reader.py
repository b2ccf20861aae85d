"""``BufReader``: lines, delimiters, counts, over streams that give bytes as they come."""

from __future__ import annotations

import io
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.errors import NetworkError, Timeout, UnexpectedEof, ValidationError
from flare.io import MAX_LINE_BYTES, BufReader, Readable


class Chunks:
    """A stream of given pieces. At the end of them it is empty, or it would block."""

    def __init__(self, *pieces: bytes, blocks: bool = False) -> None:
        self.pieces = list(pieces)
        self.blocks = blocks
        self.asked: list[int] = []
        self.closed = False

    def read(self, n: int, /) -> bytes:
        self.asked.append(n)
        if self.pieces:
            piece = self.pieces.pop(0)
            if len(piece) > n:
                self.pieces.insert(0, piece[n:])
            return piece[:n]
        if self.blocks:
            raise Timeout("read")
        return b""

    def close(self) -> None:
        self.closed = True


class ChunksInto(Chunks):
    """The same with ``read_into``, and a ``read`` that nobody should need."""

    def read_into(self, buffer: memoryview) -> int:
        piece = Chunks.read(self, len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def read(self, n: int, /) -> bytes:
        raise AssertionError("read_into is there")


def split(data: bytes, how: str) -> Chunks:
    if how == "bytewise":
        return Chunks(*(data[i : i + 1] for i in range(len(data))))
    if how == "into":
        return ChunksInto(*(data[i : i + 3] for i in range(0, len(data), 3)))
    return Chunks(data) if data else Chunks()


LINES = [
    (b"", []),
    (b"\n", [""]),
    (b"a\nb\n", ["a", "b"]),
    (b"a\r\nb", ["a", "b"]),
    (b"a\rb\r\rc", ["a", "b", "", "c"]),
    (b"\r\n\r\n", ["", ""]),
    (b"a\n\rb", ["a", "", "b"]),
    (b"a\r", ["a"]),
    (b"a\r\n", ["a"]),
    (b"\r\r\n\n", ["", "", ""]),
    ("é".encode(), ["Ã©"]),
    (bytes(range(128, 256)), [bytes(range(128, 256)).decode("latin-1")]),
]


@pytest.mark.parametrize("how", ["whole", "bytewise", "into"])
@pytest.mark.parametrize(("data", "lines"), LINES)
def test_lines_end_at_lf_crlf_and_a_lone_cr(data, lines, how):
    assert list(BufReader(split(data, how))) == lines


@given(st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\r\n"])), st.data())
def test_lines_are_the_same_however_the_stream_is_split(parts, data):
    whole = b"".join(parts)
    pieces = []
    rest = whole
    while rest:
        n = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:n])
        rest = rest[n:]
    capacity = data.draw(st.integers(1, 10))
    expected = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode().split("\n")
    if expected[-1] == "":
        expected.pop()
    assert list(BufReader(Chunks(*pieces), capacity)) == expected


def test_a_cr_as_the_last_byte_ends_the_line_without_waiting_for_more():
    stream = Chunks(b"first\r", blocks=True)
    reader = BufReader(stream)
    assert reader.readline() == "first"
    with pytest.raises(Timeout):
        reader.readline()
    stream.pieces.append(b"\nsecond\n")
    assert reader.readline() == "second"


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (lambda r: r.read_exact(2), b"xy"),
        (lambda r: r.read(2), b"xy"),
        (lambda r: r.peek(2), b"xy"),
        (lambda r: r.read_until(b"y"), "x"),
        (lambda r: r.readline_bytes(), b"xyz\n"),
    ],
)
@pytest.mark.parametrize("pieces", [(b"\nxyz\n",), (b"\n", b"xyz\n"), (b"xyz\n",)])
def test_the_lf_of_a_split_crlf_is_seen_by_nobody(call, result, pieces):
    reader = BufReader(Chunks(b"line\r", *pieces))
    assert reader.readline_bytes() == b"line\r"
    assert call(reader) == result


def test_bytes_of_lines_keep_their_terminator():
    reader = BufReader(Chunks(b"a\nb\r\nc\rd"))
    assert [reader.readline_bytes() for _ in range(5)] == [b"a\n", b"b\r\n", b"c\r", b"d", b""]


def test_an_empty_line_and_the_end_can_be_told_apart():
    reader = BufReader(Chunks(b"\n\n"))
    reader.peek(10)  # the end has been seen, and lines are left
    assert (reader.readline(), reader.at_eof()) == ("", False)
    assert (reader.readline(), reader.at_eof()) == ("", False)
    assert (reader.readline(), reader.at_eof()) == ("", True)


def test_a_stream_that_has_ended_is_not_read_again():
    stream = Chunks(b"a")
    reader = BufReader(stream)
    assert list(reader) == ["a"]
    asked = len(stream.asked)
    assert (reader.readline(), reader.read(), reader.peek(), reader.read_until(b"x")) == (
        *("", b"", b""),
        "",
    )
    assert len(stream.asked) == asked


@pytest.mark.parametrize("how", ["whole", "bytewise", "into"])
@pytest.mark.parametrize(
    ("data", "delimiter", "parts"),
    [
        (b"a;b;;c", b";", ["a", "b", "", "c"]),
        (b"a;b", 59, ["a", "b"]),
        (b"a--b-c---d", b"--", ["a", "b-c", "-d"]),
        (b"aab", b"ab", ["a"]),
        (b"\xff\x00", 0, ["ÿ"]),
    ],
)
def test_delimiters_of_one_byte_or_several_are_consumed(data, delimiter, parts, how):
    reader = BufReader(split(data, how))
    assert [reader.read_until(delimiter) for _ in parts] == parts
    assert reader.read_until(delimiter) == ""
    assert reader.at_eof()


@pytest.mark.parametrize("delimiter", [b"", -1, 256])
def test_impossible_delimiters_are_refused(delimiter):
    with pytest.raises(ValidationError, match="delimiter"):
        BufReader(Chunks()).read_until(delimiter)


@pytest.mark.parametrize("how", ["whole", "bytewise", "into"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b""])
def test_a_line_of_the_limit_passes_and_a_longer_one_stays_unread(how, end):
    assert BufReader(split(b"12345" + end, how)).readline(5) == "12345"
    reader = BufReader(split(b"123456" + end, how))
    for call in (reader.readline, reader.readline_bytes):
        with pytest.raises(ValidationError, match="longer than 5"):
            call(5)
    assert reader.readline(6) == "123456"


@pytest.mark.parametrize("how", ["whole", "bytewise"])
@pytest.mark.parametrize("end", [b"||", b""])
def test_a_stretch_of_the_limit_passes_and_a_longer_one_stays_unread(how, end):
    assert BufReader(split(b"12345" + end, how)).read_until_bytes(b"||", 5) == b"12345"
    reader = BufReader(split(b"123456" + end, how))
    with pytest.raises(ValidationError, match="longer than 5"):
        reader.read_until(b"||", 5)
    assert reader.read_until(b"||", 6) == "123456"


class Endless:
    def read(self, n: int, /) -> bytes:
        return b"x" * n


@pytest.mark.parametrize("call", ["readline", "readline_bytes"])
def test_an_endless_line_stops_at_a_mebibyte(call):
    reader = BufReader(Endless(), 65536)
    with pytest.raises(ValidationError, match=str(MAX_LINE_BYTES)):
        getattr(reader, call)()
    with pytest.raises(ValidationError, match=str(MAX_LINE_BYTES)):
        reader.read_until(b";")
    assert reader.buffered() <= MAX_LINE_BYTES + 65536


def test_many_lone_crs_take_linear_time():
    reader = BufReader(Chunks(b"\r" * 300_000), 300_000)
    assert sum(1 for _ in reader) == 300_000


def test_a_negative_limit_is_refused():
    with pytest.raises(ValidationError, match="limit"):
        BufReader(Chunks()).readline(-1)


@pytest.mark.parametrize("how", ["whole", "bytewise", "into"])
def test_exact_counts(how):
    reader = BufReader(split(b"abcdef", how), 4)
    assert reader.read_exact(0) == b""
    assert reader.read_exact(4) == b"abcd"
    with pytest.raises(UnexpectedEof, match="read_exact: EOF after 2/3 bytes") as caught:
        reader.read_exact(3)
    assert caught.value.partial == b"ef"
    assert isinstance(caught.value, NetworkError)
    with pytest.raises(ValidationError):
        reader.read_exact(-1)


def test_large_counts_are_read_in_large_pieces():
    data = bytes(3_000_000)
    stream = Chunks(data)
    assert BufReader(stream).read_exact(3_000_000) == data
    assert len(stream.asked) <= 4


def test_a_timeout_loses_nothing():
    stream = Chunks(b"abc", blocks=True)
    reader = BufReader(stream)
    for call in (lambda: reader.read_exact(5), reader.readline, lambda: reader.peek(4)):
        with pytest.raises(Timeout):
            call()
    assert reader.buffered() == 3
    stream.pieces.append(b"de\n")
    assert reader.read_exact(5) == b"abcde"


def test_read_asks_the_stream_once_at_most():
    stream = Chunks(b"abc", b"def", blocks=True)
    reader = BufReader(stream)
    assert (reader.read(2), reader.read(10), reader.read(), reader.read(0)) == (
        *(b"ab", b"c", b"def"),
        b"",
    )
    assert len(stream.asked) == 2
    with pytest.raises(Timeout):
        reader.read(1)


def test_peek_leaves_what_it_shows():
    reader = BufReader(Chunks(b"ab", b"cd"))
    assert (reader.peek(), reader.peek(3), reader.peek(9), reader.peek(0)) == (
        *(b"a", b"abc", b"abcd"),
        b"",
    )
    assert reader.read_exact(4) == b"abcd"
    assert reader.peek() == b""
    assert reader.at_eof()


@pytest.mark.parametrize(("capacity", "asked"), [(0, 8192), (-1, 8192), (10, 10)])
def test_the_capacity_is_what_the_stream_is_asked_for(capacity, asked):
    stream = Chunks(b"x")
    BufReader(stream, capacity).read()
    assert stream.asked == [asked]


def test_another_encoding_can_be_chosen():
    assert BufReader(Chunks("é\n".encode()), encoding="utf-8").readline() == "é"


def test_files_and_sockets_are_readable(tmp_path):
    a, b = socket.socketpair()
    (tmp_path / "file").write_bytes(b"x\ny")
    with a, b, open(tmp_path / "file", "rb") as file, b.makefile("rb") as made:
        for stream in (io.BytesIO(b"x\ny"), file, made):
            assert isinstance(stream, Readable)
        assert list(BufReader(io.BytesIO(b"x\ny"))) == ["x", "y"]
        assert list(BufReader(file)) == ["x", "y"]
        a.send(b"hello\n")  # and no end: a plain read would wait for 8192 bytes
        assert BufReader(made).readline() == "hello"
    assert not isinstance(object(), Readable)


def test_a_raw_file_with_nothing_to_give_is_a_timeout():
    class Raw:
        def read(self, n: int, /) -> bytes | None:
            return None

    with pytest.raises(Timeout):
        BufReader(Raw()).read()  # type: ignore[type-var]


def test_close_closes_the_stream():
    stream = Chunks(b"abc")
    with BufReader(stream) as reader:
        assert reader.stream is stream
        reader.peek()
    assert stream.closed
    assert reader.read() == b""
    BufReader(Endless()).close()
