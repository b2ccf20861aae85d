"""Reading from streams: buffered lines and counts, and cursors over binary data."""

from flare.io.buf_reader import MAX_LINE_BYTES, BufReader
from flare.io.byte_cursor import ByteReader, ByteWriter, ReadPastEnd
from flare.io.readable import Readable

__all__ = [
    "MAX_LINE_BYTES",
    "BufReader",
    "ByteReader",
    "ByteWriter",
    "ReadPastEnd",
    "Readable",
]
