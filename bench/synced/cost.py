"""Cost of a delivered message in the server, with its acknowledgement."""

from collections.abc import Sequence

from ..cost_table import cost_outcome
from ..figures import Outcome, Sample, Series, Target
from ..options import Options
from ..peer import Peer
from ..redis_server import redis_server
from ..rig import take_turns
from .monitor import commands_during
from .rig import KINDS, OFF, ON, ON2, all_sync_rigs

NAME = "sync"
RATE = 2_000
"""Messages a second, for all kinds alike: what comes faster costs less for each."""

EACH = 50
"""Messages to each client of a busy round."""

LIMIT = 1.5
_BUSY, _SINGLE = f"{EACH} each", "1 each"


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch to clients in turn: many messages to some of them, then one to each of them."""
    client_counts = {_BUSY: max(1, options.singles // EACH), _SINGLE: options.connections}
    messages = {_BUSY: client_counts[_BUSY] * EACH, _SINGLE: options.connections}
    with redis_server(logs=True) as redis, all_sync_rigs(redis) as rigs:
        for rig in rigs.values():
            rig.listen(max(client_counts.values()))
        work = {
            _label(kind.name, pace): (rigs[kind.name], messages[pace], client_counts[pace])
            for pace in client_counts
            for kind in KINDS
        }

        scripts: dict[str, float] = {}

        def round_of(label: str) -> Sample:
            rig, count, clients = work[label]
            if label not in scripts:  # the warm-up round
                counts = commands_during(redis, lambda: rig.deliver(count, clients, RATE))
                scripts[label] = counts["ack"] / count
                return Sample(count, 0, {})
            return rig.rig.measure(count, lambda: rig.deliver(count, clients, RATE), redis=redis)

        series = take_turns(work, options.rounds, "message", round_of)
    title = (
        f"messages to clients through Redis, {RATE} a second: {EACH} to each of {client_counts[_BUSY]}, "
        f"then one to each of {client_counts[_SINGLE]}, until all are acknowledged"
    )
    outcome = cost_outcome(NAME, title, series, _targets(series), _baselines(series))
    outcome.notes.append("messages a second include the wait for acknowledgements, about a second a round")
    outcome.notes += [
        f"{label}: {share:.3f} acknowledging scripts a message" for label, share in scripts.items() if share
    ]
    return outcome


def _label(kind: str, pace: str) -> str:
    return f"{kind}, {pace}"


def _baselines(series: Series) -> dict[str, str]:
    return {f"off, {pace}": _label(OFF.name, pace) for pace in (_BUSY, _SINGLE)}


def _targets(series: Series) -> list[Target]:
    return [
        Target(
            f"server CPU of a message, {_label(kind.name, pace)}, relative to {OFF.name}",
            LIMIT,
            series.ratio(_label(kind.name, pace), _label(OFF.name, pace)),
        )
        for pace in (_BUSY, _SINGLE)
        for kind in (ON, ON2)
    ]
