"""What can keep a benchmark from its figures; the texts are for people."""


class Failed(Exception):
    """A process of the benchmark did not do what it was ordered to."""


class Skipped(Exception):
    """Something is not there, so a part of the run is left out."""
