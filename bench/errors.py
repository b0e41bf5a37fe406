"""Reasons why a benchmark has no result; their texts are printed."""


class Failed(Exception):
    """A process of the benchmark failed."""


class Skipped(Exception):
    """A part of the run is skipped because something is missing."""
