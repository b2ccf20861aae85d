"""The list that harnesses enter themselves in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Target = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Harness:
    """A function that raises when the contract is broken, and the inputs to begin with."""

    name: str
    run: Target
    seeds: tuple[bytes, ...]


HARNESSES: dict[str, Harness] = {}


def harness(seeds: Iterable[bytes]) -> Callable[[Target], Target]:
    """Register the decorated function under its own name."""

    def register(target: Target) -> Target:
        name = target.__name__
        if name in HARNESSES:
            raise ValueError(f"two harnesses are named {name}")
        HARNESSES[name] = Harness(name, target, tuple(seeds) or (b"",))
        return target

    return register
