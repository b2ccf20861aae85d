"""Decodes the corpus of heads over and over: ``hpack_app heads|strings flare|hpack SECONDS``.

Prints how many heads, or strings, it decoded in a second of its processor time. The blocks are
made beforehand by one encoder for each connection of the corpus; a run decodes every one of them
once, with a fresh decoder for each connection.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flare.http.proto.huffman import huffman_decode_text, huffman_encode
from flare.http2 import HpackDecoder, HpackEncoder

_CORPUS = Path(__file__).resolve().parents[2] / "tests" / "http2" / "heads.json"
Run = Callable[[], int]


def corpus() -> list[list[list[tuple[str, str]]]]:
    """The heads of each connection."""
    stories = json.loads(_CORPUS.read_text("utf-8"))
    return [[[(name, value) for name, value in head] for head in s["heads"]] for s in stories]


def heads(codec: str) -> Run:
    """A run over all header blocks; how many there are."""
    connections = []
    for story in corpus():
        encoder = HpackEncoder()
        connections.append([encoder.encode(head) for head in story])
    count = sum(map(len, connections))
    new: Callable[[], HpackDecoder]
    if codec == "flare":
        new = HpackDecoder
    else:
        from hpack import Decoder  # type: ignore[import-not-found,unused-ignore]

        new = Decoder

    def run() -> int:
        for blocks in connections:
            decode = new().decode
            for block in blocks:
                decode(block)
        return count

    return run


def strings(codec: str) -> Run:
    """A run over all strings, to text, as often as they come; how many there are."""
    coded = [
        huffman_encode(text.encode("latin-1"))
        for story in corpus()
        for head in story
        for pair in head
        for text in pair
    ]
    decode: Callable[[bytes], str] = huffman_decode_text
    if codec != "flare":
        from hpack.huffman_table import (  # type: ignore[import-not-found,unused-ignore]
            decode_huffman,
        )

        def decode(data: bytes) -> str:
            return str(decode_huffman(data), "latin-1")

    def run() -> int:
        for data in coded:
            decode(data)
        return len(coded)

    return run


def main() -> None:
    kind, codec, seconds = sys.argv[1:]
    run = {"heads": heads, "strings": strings}[kind](codec)
    run()
    done = 0
    began = time.process_time()
    while (spent := time.process_time() - began) < float(seconds):
        done += run()
    print(done / spent)


if __name__ == "__main__":
    main()
