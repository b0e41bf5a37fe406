"""How many sockets a process may open."""

import resource

SPARE = 200
"""Open files of a process besides its clients."""


def raise_limit(connections: int) -> str | None:
    """Let this process and those it starts open enough files; say what is missing, or None."""
    needed = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return None
    for ceiling in (hard, max(hard, needed)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, ceiling))
        except (ValueError, OSError):  # the first when hard is too low, the second without the right
            continue
        return None
    return f"{connections} connections need {needed} open files, and {hard} are allowed; raise `ulimit -Hn`"
