"""Fuzz harnesses, one for each parser. ``python -m fuzz.run``."""
