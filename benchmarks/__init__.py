"""Compares flare with its peers in one run: ``python -m benchmarks server``, or ``client``.

Standard library only: the peers, flare and what draws the plot live in a virtual environment of
their own, which the first run makes.
"""
