"""Run harnesses on bent copies of their seeds: ``python -m fuzz.run [harness ...]``."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import fuzz.app_harnesses
import fuzz.client_harnesses
import fuzz.form_harnesses
import fuzz.h1_harnesses
import fuzz.h2_harnesses
import fuzz.harnesses
from fuzz.registry import HARNESSES, Harness

__all__ = ["crash_path", "main", "mutate", "run_harness"]

CRASHES = Path(__file__).parent / "crashes"
MAX_LENGTH = 4096
# Bytes that end, join or escape something in one of the formats, and the edges of their classes.
TELLING = b"\0\t\n\r\x0b\x1f !\"#%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~\x7f\x80\x85\xa0\xc2\xff"


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the *seeds* after one to eight random changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 8)):
        start = rng.randint(0, len(data))
        end = min(len(data), start + rng.choice((1, 1, 2, 4, 16, 64)))
        match rng.randrange(8):
            case 0:
                data[start:end] = b""
            case 1:
                data[start:end] = bytes((rng.choice(TELLING),))
            case 2:
                data[start:start] = bytes((rng.choice(TELLING),))
            case 3:
                data[start:start] = rng.randbytes(rng.randint(1, 8))
            case 4:
                data[start:start] = data[start:end] * rng.choice((1, 2, 3, 50))
            case 5:
                other = rng.choice(seeds)
                cut = rng.randint(0, len(other))
                data[start:] = other[cut:]
            case 6:
                for index in range(start, end):
                    data[index] ^= 1 << rng.randrange(8)
            case _:
                data[start:end] = data[start:end].swapcase()
    return bytes(data[:MAX_LENGTH])


def crash_path(name: str, data: bytes) -> Path:
    """Where an input that broke harness *name* is kept."""
    return CRASHES / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"


def _keep(harness: Harness, data: bytes) -> None:
    traceback.print_exc()
    path = crash_path(harness.name, data)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    print(f"{harness.name}: broken by {data[:200]!r}, kept in {path}", file=sys.stderr)


def run_harness(harness: Harness, seconds: float, rng: random.Random) -> int | None:
    """Run for *seconds*; how many inputs it took, or ``None`` after one that broke it.

    The seeds come first, as they are. The breaking input is written to ``crash_path``.
    """
    deadline = time.monotonic() + seconds
    runs = 0
    data = b""
    try:
        for data in harness.seeds:
            harness.run(data)
            runs += 1
        while time.monotonic() < deadline:
            data = mutate(rng, harness.seeds)
            harness.run(data)
            runs += 1
    except Exception:
        _keep(harness, data)
        return None
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where every contract held, 1 where one was broken."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=fuzz.harnesses.__doc__)
    parser.add_argument("harness", nargs="*", help="names to run; all where none is given")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each harness (10)")
    parser.add_argument("--seed", type=int, help="of the random numbers")
    parser.add_argument("--input", type=Path, help="run only this file, once")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(sorted(HARNESSES)))
        return 0
    unknown = [name for name in options.harness if name not in HARNESSES]
    if unknown:
        parser.error(f"no harness named {', '.join(unknown)}; --list shows them")
    chosen = [HARNESSES[name] for name in options.harness or sorted(HARNESSES)]
    if options.input:
        data = options.input.read_bytes()
        chosen = [Harness(each.name, each.run, (data,)) for each in chosen]
        options.seconds = 0.0
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}")
    failed = False
    for harness in chosen:
        # Seeded by name as well, so that one harness alone sees what it saw among all.
        runs = run_harness(harness, options.seconds, random.Random(f"{seed} {harness.name}"))
        failed = failed or runs is None
        print(f"{harness.name:20} {'BROKEN' if runs is None else f'{runs} runs'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
