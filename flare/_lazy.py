"""Packages that import their parts on first use (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, namespace: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make the ``__getattr__``, ``__dir__`` and ``__all__`` of *package*.

    *homes* maps a module to the space-separated names it exports; ``name=other`` exports the
    module's ``other`` as ``name``. A name is stored in *namespace* when first asked for, so each
    is looked up once.
    """
    table: dict[str, tuple[str, str]] = {}
    for module, names in homes.items():
        for entry in names.split():
            name, _, original = entry.partition("=")
            table[name] = (module, original or name)

    def __getattr__(name: str) -> Any:
        try:
            module, original = table[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        value = getattr(importlib.import_module(module), original)
        namespace[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*namespace, *table})

    return __getattr__, __dir__, list(table)
