"""Count of the commands and scripts that programs send to Redis."""

import re
import socket
from collections import Counter
from collections.abc import Callable

from redis import Redis

from mesa_ws.backend.redis.scripts import SCRIPTS

from ..bare_redis import address
from ..redis_server import RunningRedis

_END = b"the bench has seen enough"
_NAMES = {script.sha: script.name for script in SCRIPTS}
_sent = re.compile(rb'^\+[\d.]+ \[\d+ (?!lua)\S+\] "(\w+)"(?: "(\w*)")?').match


def commands_during(redis: RunningRedis, work: Callable[[], None]) -> Counter[str]:
    """Count commands, and scripts by name, that Redis receives during `work`; not those that scripts call."""
    with (
        Redis.from_url(redis.url) as client,
        socket.create_connection(address(redis.url)) as observer,
        observer.makefile("rb") as lines,
    ):
        client.ping()  # commands of our own connection are not counted
        observer.sendall(b"MONITOR\r\n")
        lines.readline()
        work()
        client.echo(_END)
        counts: Counter[str] = Counter()
        for line in lines:
            if _END in line:
                break
            found = _sent(line)
            if found:
                command, first = found[1].decode().lower(), (found[2] or b"").decode()
                counts[_NAMES.get(first, command) if command == "evalsha" else command] += 1
    return counts
