"""Portals and a server are killed, paused and stopped under load: every event has its effect once, in order.

The effect of a handler is a stored dispatch, which clients receive in the end: in the order of the
effects, and twice if the effect happened twice.
"""

import asyncio
from pathlib import Path

import pytest

from tests.closing_report import ClosingReport

from .portals.run import DRAIN, LEASE, START, Life, Run

CLIENTS = {"redis": 90, "redis-8": 60}
"""Number of clients. Together they send 900 messages a second, or 600, on a fast machine."""

LEAST = 125
"""Average messages of a client, below which the test shows nothing."""

LIMIT = 60.0
"""Longest duration of the faults and messages in seconds; at full pace it is 13."""


async def inject_faults(run: Run) -> None:
    """Inject faults for about 13 seconds."""
    first, second, third, fourth = run.portals
    await asyncio.sleep(2.0)
    first.kill()
    await asyncio.sleep(2.0)
    second.pause()
    await asyncio.sleep(2 * LEASE)
    second.resume()
    await run.until_up(first, 2)
    first.kill()
    third.terminate()
    await asyncio.sleep(1.0)
    run.servers[0].kill()
    await fourth.finish(15.0)
    await run.until_up(run.servers[0], 2)


def is_whole(life: Life, count: int) -> bool:
    return life == ["connection", "authentication", *range(count), "disconnection"]


@pytest.mark.timeout(START * 2 + LIMIT + DRAIN * 2)
async def test_everything_is_handled_in_order_and_has_its_effect_once(
    release: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    clients = CLIENTS[release]
    async with Run.standing(tmp_path, release, clients) as run:
        await run.load.run(inject_faults(run), LEAST * clients)
        await run.until_handled()
        lives, handlings = await run.lives(), run.handlings()
    sent, complete = run.load.sent, run.load.complete
    repeated = sum(deliveries > 1 for _, deliveries in handlings)
    rate = sum(sent.values()) / run.load.took
    ClosingReport.of(pytestconfig).add(
        "faults",
        f"portals on {release}: {sum(sent.values())} messages of {len(sent)} connections "
        f"in {run.load.took:.1f} s ({rate:.0f}/s), {repeated} events handled again; logs in {tmp_path}",
    )
    of_ids = {id: life for id, life in lives.values() if id is not None}
    assert {id: life for id, life in of_ids.items() if id in sent and not is_whole(life, len(life) - 3)} == {}
    assert {id: sent[id] for id in complete if not is_whole(of_ids[id], sent[id])} == {}
    assert [life for id, life in lives.values() if life[0] != "connection"] == []
    assert [life for id, life in lives.values() if life[-1] != "disconnection"] == []
    assert len(set(sent) - complete) >= clients // 3, "the clients of the server that was killed"
    assert len(complete) >= clients * 2 // 3
    assert repeated > 0
    assert {each: n for each, n in handlings.items() if n > 1} == {}, "begun by who did not own the queue"
