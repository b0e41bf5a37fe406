"""Memory of Redis for absent ids that one message each is stored for."""

from collections.abc import Sequence

from redis import Redis

from ..child import Child
from ..figures import Figure, Outcome
from ..options import Options
from ..peer import Peer
from ..redis_server import RunningRedis, redis_server
from .rig import BATCH, dispatch, dispatching

NAME = "outbox-memory"
NAMESPACE = "bench"
TOGETHER = 200
PROTOTYPE = "about 520"

OWN, SHARED = "a message for each", f"a message for {TOGETHER} of them"


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch to new ids, and measure how much Redis has grown."""
    grown: dict[str, list[tuple[float, float]]] = {OWN: [], SHARED: []}
    for _ in range(options.rounds):
        for what, each in ((OWN, 1), (SHARED, TOGETHER)):
            with (
                redis_server(logs=True) as redis,
                dispatching("many_ids", redis, NAMESPACE, sync=True) as dispatcher,
            ):
                grown[what].append(_growth(redis, dispatcher, options.waiting, each))
    return Outcome(
        name=NAME,
        title=f"a message of 100 bytes is stored for each of {options.waiting:,} ids, memory of Redis",
        header=["what", "bytes/id", "after 120 s", "spread", "prototype, elsewhere"],
        rows=[_row(what, rounds) for what, rounds in grown.items()],
        raw={"bytes_per_id": grown},
        notes=[
            "for 120 s Redis remembers message ids, so that a repeated dispatch stores nothing twice; "
            "they are deleted here instead of waited for",
        ],
    )


def _growth(redis: RunningRedis, dispatcher: Child, ids: int, each: int) -> tuple[float, float]:
    with Redis.from_url(redis.url) as client:
        before = client.info("memory")["used_memory"]
        for first in range(0, ids, BATCH):
            count = min(BATCH, ids - first)
            dispatch(dispatcher, count // each, first=first, ids=count, each=each)
        stored = client.info("memory")["used_memory"]
        for remembered in client.scan_iter(match="*:k:*", count=BATCH):
            client.delete(remembered)
        after = client.info("memory")["used_memory"]
    return (stored - before) / ids, (after - before) / ids


def _row(what: str, rounds: list[tuple[float, float]]) -> list[str]:
    at_first, later = (Figure.of(values) for values in zip(*rounds, strict=True))
    return [
        what,
        f"{at_first.median:.0f}",
        f"{later.median:.0f}",
        f"{later.lowest:.0f} to {later.highest:.0f}",
        PROTOTYPE,
    ]
