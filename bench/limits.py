"""Limit of sockets that a process may open."""

import resource

SPARE = 200
"""Open files of a process in addition to its clients."""


def raise_limit(connections: int) -> str | None:
    """Raise the limit for this process and its children; return what is missing, or None."""
    needed = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return None
    for ceiling in (hard, max(hard, needed)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, ceiling))
        except (ValueError, OSError):  # the hard limit is too low, or we may not raise it
            continue
        return None
    return f"{connections} connections need {needed} open files, and {hard} are allowed; raise `ulimit -Hn`"
