"""What the codec's memos hold, for the tests that must look inside them."""

from __future__ import annotations

from flare.http.proto import encoder, fields, heads

MEMOS = {
    "lines": fields._line_memo,
    "blocks": fields._block_memo,
    "heads": heads._head_memo,
    "encoded": encoder._line_memo,
}


def clear_memos() -> None:
    for memo in MEMOS.values():
        memo.clear()


def everything_remembered() -> str:
    found: list[object] = [*fields._line_memo.items(), *encoder._line_memo.items()]
    for section, block in fields._block_memo.items():
        found += [section, block.items]
    for raw, head in heads._head_memo.items():
        found += [raw, head.method, head.target, head.fields.items]
    return repr(found)
