"""What a delivered message costs the server, its proof and its acknowledgement included."""

from collections.abc import Sequence

from ..cost_table import cost_outcome
from ..figures import Outcome, Sample, Series, Target
from ..options import Options
from ..peer import Peer
from ..redis_server import redis_server
from ..rig import take_turns
from .monitor import commands_during
from .party import KINDS, OFF, ON, ON2, all_parties

NAME = "sync"
RATE = 2_000
"""Messages a second, for all kinds alike: what comes faster costs less for each."""

EACH = 50
"""Messages to each client of a busy round."""

LIMIT = 1.5
_BUSY, _SINGLE = f"{EACH} each", "1 each"


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch to clients in turn: many messages to some of them, then one to each of them."""
    crowds = {_BUSY: max(1, options.singles // EACH), _SINGLE: options.connections}
    messages = {_BUSY: crowds[_BUSY] * EACH, _SINGLE: options.connections}
    with redis_server(logs=True) as redis, all_parties(redis) as parties:
        for party in parties.values():
            party.listen(max(crowds.values()))
        work = {
            _label(kind.name, pace): (parties[kind.name], messages[pace], crowds[pace])
            for pace in crowds
            for kind in KINDS
        }

        told: dict[str, float] = {}

        def round_of(label: str) -> Sample:
            party, count, crowd = work[label]
            if label not in told:  # the round that does not count
                counts = commands_during(redis, lambda: party.deliver(count, crowd, RATE))
                told[label] = counts["ack"] / count
                return Sample(count, 0, {})
            return party.rig.measure(count, lambda: party.deliver(count, crowd, RATE), redis=redis)

        series = take_turns(work, options.rounds, "message", round_of)
    title = (
        f"messages to clients through Redis, {RATE} a second: {EACH} to each of {crowds[_BUSY]}, "
        f"then one to each of {crowds[_SINGLE]}, until all are proven"
    )
    outcome = cost_outcome(NAME, title, series, _targets(series), _beside(series))
    outcome.notes.append("messages a second include the wait for proofs, about a second for each crowd")
    outcome.notes += [
        f"{label}: {share:.3f} acknowledging scripts a message" for label, share in told.items() if share
    ]
    return outcome


def _label(kind: str, pace: str) -> str:
    return f"{kind}, {pace}"


def _beside(series: Series) -> dict[str, str]:
    return {f"off, {pace}": _label(OFF.name, pace) for pace in (_BUSY, _SINGLE)}


def _targets(series: Series) -> list[Target]:
    return [
        Target(
            f"server CPU of a message, {_label(kind.name, pace)}, beside {OFF.name}",
            LIMIT,
            series.ratio(_label(kind.name, pace), _label(OFF.name, pace)),
        )
        for pace in (_BUSY, _SINGLE)
        for kind in (ON, ON2)
    ]
