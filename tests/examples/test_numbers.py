"""Numbers that the pages promise are those of the code."""

from pathlib import Path

import pytest

from mesa_ws import Authentication, Client, ClientLimits, Dispatcher, Keepalive, Limits, Reconnection
from mesa_ws.admin.api import GRACE as API_GRACE
from mesa_ws.admin.api import KEEP_ALIVE as SERVER_KEEP_ALIVE
from mesa_ws.backend.http.plan import KEEP_ALIVE as DISPATCHER_KEEP_ALIVE
from mesa_ws.backend.redis.timing import Timing
from mesa_ws.bearer import SHORTEST_KEY
from mesa_ws.cli.config.schema import Api
from mesa_ws.dispatch_request import MAX_BATCH
from mesa_ws.server.node import GRACE

DOCS = Path(__file__).parents[2] / "docs"
WORDS = {5: "five"}

KEEPALIVE, LIMITS, CLIENT_LIMITS = Keepalive(), Limits(), ClientLimits()


def default(function: object, name: str) -> object:
    return function.__init__.__kwdefaults__[name]  # type: ignore[misc]


PROMISES = [
    ("explanation/delivery.md", f"{Timing().lease:g} s later nothing speaks of it"),
    ("explanation/delivery.md", f"at {LIMITS.max_buffered >> 20} MiB of waiting bytes"),
    ("explanation/delivery.md", f"a Ping after {KEEPALIVE.interval:g} s of silence"),
    ("explanation/delivery.md", f"{KEEPALIVE.timeout:g} s later it is closed with 4001"),
    ("explanation/delivery.md", f"reading pauses at {LIMITS.max_queued} waiting messages"),
    ("howto/authenticate.md", f"takes longer than `Authentication(timeout={Authentication().timeout:g})`"),
    ("howto/client.md", f"`ClientLimits(max_queued={CLIENT_LIMITS.max_queued})`"),
    ("howto/client.md", f"`queue_size={default(Client, 'queue_size')}`"),
    ("howto/client.md", f"up to {Reconnection().max_jitter:g} seconds"),
    ("howto/client.md", f"`Keepalive(interval={KEEPALIVE.interval:g}, timeout={KEEPALIVE.timeout:g})`"),
    ("howto/deploy.md", f"after {KEEPALIVE.interval:g} seconds of silence"),
    ("howto/deploy.md", f"gives handlers {WORDS[int(GRACE)]} seconds"),
    ("howto/dispatch.md", f"no answer within `timeout` ({default(Dispatcher, 'timeout'):g} seconds)"),
    ("reference/cli.md", f"handlers get {WORDS[int(GRACE)]} seconds to finish"),
    ("reference/http-api.md", f"`batch` holds 1 to {MAX_BATCH} dispatches"),
    ("reference/http-api.md", f"a body over {Api().max_body >> 20} MiB"),
    ("reference/http-api.md", f"The key has {SHORTEST_KEY} or more visible ASCII characters"),
    ("reference/http-api.md", f"are kept for {SERVER_KEEP_ALIVE} seconds"),
    ("reference/http-api.md", f"close theirs after {DISPATCHER_KEEP_ALIVE:g}"),
    ("reference/http-api.md", f"requests under way get {API_GRACE} seconds"),
    ("../spec/protocol.md", f"`keepalive.interval` (default {KEEPALIVE.interval:g})"),
    ("../spec/protocol.md", f"`keepalive.timeout` (default {KEEPALIVE.timeout:g})"),
    ("../spec/protocol.md", f"all its fragments together | {LIMITS.max_message >> 20} MiB"),
    ("../spec/protocol.md", f"reached without the last one | {LIMITS.max_fragments} |"),
    ("../spec/protocol.md", f"`limits.max_buffered` (default {LIMITS.max_buffered >> 20} MiB)"),
]


@pytest.mark.parametrize(("page", "text"), PROMISES)
def test_a_number_on_a_page_is_that_of_the_code(page: str, text: str) -> None:
    assert text in " ".join((DOCS / page).read_text().split())
