"""Centrifugo: it runs as a process of its own, whose id the first answer tells; this one calls its HTTP API.

Arguments: its program; optionally the URL of a Redis, and `sync` to have messages kept in the history of
each user's channel. One message a turn is one request; several a turn are one batch.
"""

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..centrifugo_api import KEY, Api, publication
from ..load.dialects import CENTRIFUGO_SECRET, EVERYBODY, PERSONAL
from ..redis_server import free_port

program, redis, sync = (*sys.argv[1:], *("", "", "")[len(sys.argv) - 1 :])

PATIENCE = 15.0
LONG = "3600s"
"""Between two Pings."""

_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
_libc = ctypes.CDLL(None)

HISTORY = {"history_size": 1_000, "history_ttl": "3600s", "force_recovery": True}


def config(port: int) -> dict[str, Any]:
    """Return the settings, as the documentation advises them."""
    namespace = {"name": PERSONAL, **(HISTORY if sync else {})}
    engine = {"type": "redis", "redis": {"address": [redis]}} if redis else {"type": "memory"}
    return {
        "http_server": {"address": "127.0.0.1", "port": port},
        "http_api": {"key": KEY},
        "engine": engine,
        "channel": {"namespaces": [namespace]},
        "client": {
            "allowed_origins": ["http://127.0.0.1"],
            "token": {"hmac_secret_key": CENTRIFUGO_SECRET},
            "subscribe_to_user_personal_channel": {"enabled": True, "personal_channel_namespace": PERSONAL},
            "ping_interval": LONG,
            "pong_timeout": "8s",
            "concurrency": 0,
        },
        "health": {"enabled": True},
        "log": {"level": "error"},
        "usage_stats": {"disabled": True},
    }


def _end_with_parent() -> None:
    """Have this process killed when its parent has ended, however that ended."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def running(port: int) -> Iterator[int]:
    """Run Centrifugo until the block ends; return the id of its process."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config(port)))
        process = subprocess.Popen(
            [program, "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # this program has one thread
        )
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()


def connected(port: int) -> Api:
    """Return a connection to the API, as soon as it is there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Api(port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def everybody(api: Api, messages: int, each: int, data: Any) -> None:
    for _turn in range(messages // each):
        if each == 1:
            api.call("publish", publication(EVERYBODY, data))
        else:
            commands = [{"publish": publication(EVERYBODY, data)} for _ in range(each)]
            api.call("batch", {"commands": commands})


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = free_port()
    with running(port) as pid:
        api = connected(port)
        print(json.dumps({"port": port, "pid": pid}), flush=True)
        for line in sys.stdin:
            details = json.loads(line)
            details.pop("order")
            everybody(api, details["messages"], details["each"], details["data"])
            print("{}", flush=True)


main()
