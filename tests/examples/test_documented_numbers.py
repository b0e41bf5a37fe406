"""Numbers on the pages equal those of the code."""

from pathlib import Path

import pytest

from mesa_ws import (
    Authentication,
    Client,
    ClientLimits,
    Dispatcher,
    Keepalive,
    Limits,
    Portals,
    Presence,
    Reconnection,
    Sync,
)
from mesa_ws.backend.http.aio import MAX_REQUESTS as MAX_HTTP_REQUESTS
from mesa_ws.backend.http.auth import SHORTEST_KEY
from mesa_ws.backend.http.dispatch_schema import MAX_BATCH
from mesa_ws.backend.http.exchange import KEEP_ALIVE as DISPATCHER_KEEP_ALIVE
from mesa_ws.backend.inbox import (
    FEW,
    GUARANTEED_EVENTS,
    MAX_ACCOUNT_WEIGHT,
    MAX_DEAD,
    MAX_KEPT,
    MAX_OBSERVED,
    MAX_READ,
    PARTITIONS,
    READ_AHEAD,
    READ_AHEAD_BYTES,
    WEIGHT_UNIT,
)
from mesa_ws.backend.mesa1.portal_dispatch import PATIENCE as POOL_PATIENCE
from mesa_ws.backend.mesa1.portal_dispatch import SILENCE
from mesa_ws.backend.orders import PATIENCE as ORDER_PATIENCE
from mesa_ws.backend.outbox import BROADCASTS
from mesa_ws.backend.redis.keys import BACKLOG_LIFE, DEAD_LIFE, POSITION_LIFE
from mesa_ws.backend.redis_client.command import MAX_IDS
from mesa_ws.backend.redis_client.master import HOLD
from mesa_ws.backend.redis_wire.timing import BEATS, Timing
from mesa_ws.backend.urls import DEFAULT_LEASE
from mesa_ws.cli.config import Api
from mesa_ws.client.event_queue import PATIENCE as MORE_OF_CLIENT
from mesa_ws.concurrency.turns import TURN
from mesa_ws.http_server.server import GRACE as API_GRACE
from mesa_ws.http_server.server import KEEP_ALIVE as SERVER_KEEP_ALIVE
from mesa_ws.http_server.slices import SLICE
from mesa_ws.messages.envelope import REMEMBERED, REMEMBERED_KEY
from mesa_ws.messages.order import MAX_IDS as MAX_ORDERED
from mesa_ws.messages.order import RETENTION as ORDERS
from mesa_ws.messages.request import DEFAULT_REQUEST_TIMEOUT as PATIENCE
from mesa_ws.messages.request import MAX_BLOCKING_REQUESTS, MAX_REQUESTS, MAX_TEXT
from mesa_ws.portal.handling import FIRST_PAUSE, HAND_OVER, MAX_BYTES, MAX_DELIVERIES, MAX_WAITING
from mesa_ws.portal.mesa1 import MAX_BYTES as HEARD_BYTES
from mesa_ws.portal.mesa1 import MAX_WAITING as HEARD
from mesa_ws.portal.worker import GRACE as PORTAL_GRACE
from mesa_ws.protocol.client import MAX_MESSAGES
from mesa_ws.protocol.cursor import WINDOW_MESSAGES
from mesa_ws.server.connection_limits import MAX_KNOWN, PREFIX_OF_IPV6
from mesa_ws.server.fanout import COMING_BACK, SENDING_AWAY
from mesa_ws.server.flow_control import PATIENCE as MORE
from mesa_ws.server.large_deliveries import TURN as LARGE_TURN
from mesa_ws.server.node import GRACE
from mesa_ws.server.portal_forwarding import GUESTS_PART
from mesa_ws.server.send_queue import MAX_HELD_BYTES, MAX_HELD_FRAMES
from mesa_ws.tokens import LEEWAY
from mesa_ws.tokens.keys import COOLDOWN as JWKS_COOLDOWN
from mesa_ws.tokens.keys import LIFETIME as JWKS_LIFETIME
from mesa_ws.transports import run as portals
from mesa_ws.transports import run as servers
from mesa_ws.transports.event_loop import CANCEL_GRACE, THREAD_GRACE
from mesa_ws.transports.frame_feed import FRAMES_AT_ONCE, MAX_HEAD
from mesa_ws.transports.server_socket import HANDSHAKE_TIMEOUT, HIGH_WATER, RESERVE

DOCS = Path(__file__).parents[2] / "docs"
WORDS = {1: "a", 5: "five", 7: "seven", 8: "eight", 10: "ten", 16: "sixteen"}
KIB = {1024: "KiB"}
END = 30
"""Seconds within which a process ends: its limit, and the time to close its event loop."""

KEEPALIVE, LIMITS, CLIENT_LIMITS, SYNC = Keepalive(), Limits(), ClientLimits(), Sync()
DAY, HOUR, MIB = 86_400, 3600, 1024 * 1024


def default(function: object, name: str) -> object:
    return function.__init__.__kwdefaults__[name]  # type: ignore[misc]


PROMISES = [
    ("explanation/delivery.md", f"{Timing().lease:g} s later nothing of it is left in Redis"),
    ("explanation/delivery.md", f"at {LIMITS.max_buffered >> 20} MiB of waiting bytes"),
    ("explanation/delivery.md", f"before {LIMITS.max_node_buffer >> 20} MiB wait for all of them"),
    ("explanation/delivery.md", f"a Ping after {KEEPALIVE.interval:g} s of silence"),
    ("explanation/delivery.md", f"{KEEPALIVE.timeout:g} s later it is closed with 4001"),
    ("explanation/delivery.md", f"reading pauses at {LIMITS.max_queued} waiting messages"),
    ("explanation/delivery.md", f"when they have more than {LIMITS.most_queued_bytes // MIB} MiB together"),
    ("explanation/delivery.md", f"`max_messages` ({SYNC.max_messages})"),
    ("explanation/delivery.md", f"`max_bytes` ({SYNC.max_bytes // MIB} MiB)"),
    ("explanation/delivery.md", f"each message `ttl` ({SYNC.ttl / DAY:g} days)"),
    ("explanation/delivery.md", f"for `resume_window` ({SYNC.resume_window:g} seconds)"),
    ("explanation/delivery.md", f"the last {BROADCASTS.ttl:g} seconds of them are kept"),
    (
        "explanation/delivery.md",
        f"({BROADCASTS.max_messages // 1000} 000 messages, {BROADCASTS.max_bytes // MIB} MiB)",
    ),
    ("explanation/delivery.md", f"recognizes the message for {REMEMBERED:g} seconds"),
    (
        "explanation/delivery.md",
        f"{REMEMBERED:g} seconds; {REMEMBERED_KEY / HOUR:g} hours for an `idempotency_key`",
    ),
    ("explanation/delivery.md", f"or {POSITION_LIFE / DAY:g} days after its last visit"),
    ("explanation/delivery.md", f"up to a second, or {MAX_MESSAGES} messages"),
    ("explanation/delivery.md", f"acknowledged on wire 2 | {WINDOW_MESSAGES} messages"),
    ("explanation/delivery.md", f"about {HIGH_WATER // MIB} MiB of stored messages"),
    ("explanation/delivery.md", f"{MAX_HELD_BYTES // MIB} MiB or {MAX_HELD_FRAMES} of others"),
    ("howto/message-sync.md", f"for one id | {SYNC.max_messages} |"),
    ("howto/message-sync.md", f"for one id | {SYNC.max_bytes // MIB} MiB |"),
    ("howto/message-sync.md", f"a message waits | {SYNC.ttl / DAY:g} days |"),
    ("howto/message-sync.md", f"A name is known for {REMEMBERED_KEY / HOUR:g} hours"),
    ("howto/message-sync.md", f"`resume_window` ({SYNC.resume_window:g} seconds)"),
    ("howto/presence.md", f"`grace` seconds ({Presence().grace:g} by default)"),
    ("howto/presence.md", f"until its lease has run out, {Timing().lease:g} seconds"),
    ("howto/presence.md", f"renew one lease each every {WORDS[int(Timing().lease / BEATS)]} seconds"),
    ("howto/presence.md", f"about {MAX_IDS} ids is one script"),
    ("howto/authenticate.md", f"takes longer than `Authentication(timeout={Authentication().timeout:g})`"),
    ("howto/authenticate.md", f"Clocks may differ by {LEEWAY:g} seconds"),
    ("howto/authenticate.md", f"again every {JWKS_LIFETIME / 60:g} minutes"),
    ("howto/authenticate.md", f"at most every {JWKS_COOLDOWN:g} seconds"),
    ("howto/log-out.md", f"refuses such logins for {ORDERS.ttl / HOUR:g} hours"),
    ("howto/log-out.md", f"1 to {MAX_ORDERED // 1000} 000 ids"),
    ("howto/log-out.md", f"after {WORDS[int(ORDER_PATIENCE)]} second at most"),
    ("howto/log-out.md", f"its lease holds, {Timing().lease:g} seconds"),
    ("howto/log-out.md", f"the {LEEWAY:g} seconds by which clocks may differ".capitalize()),
    ("explanation/delivery.md", f"An order is kept for {ORDERS.ttl / HOUR:g} hours, and so is a revocation"),
    (
        "explanation/delivery.md",
        f"{ORDERS.max_messages // 1000} 000 orders and {ORDERS.max_bytes // MIB} MiB",
    ),
    ("../spec/protocol.md", f"for {ORDERS.ttl / HOUR:g} hours an attempt with such a login"),
    ("reference/http-api.md", f"Both need `ids`, 1 to {MAX_ORDERED // 1000} 000"),
    ("howto/browser.md", f"are kept for {SYNC.resume_window:g} seconds"),
    ("howto/client.md", f"`ClientLimits(max_queued={CLIENT_LIMITS.max_queued})`"),
    ("howto/client.md", f"`queue_size={default(Client, 'queue_size')}`"),
    ("howto/client.md", f"lasted for more than {Reconnection().max_pause:g} seconds"),
    ("howto/client.md", f"{Reconnection().max_pause:g} seconds at most"),
    ("howto/client.md", f"`Keepalive(interval={KEEPALIVE.interval:g}, timeout={KEEPALIVE.timeout:g})`"),
    ("howto/deploy.md", f"after {KEEPALIVE.interval:g} seconds of silence"),
    ("howto/deploy.md", f"A server ends within {END:g} seconds"),
    ("howto/deploy.md", f"and it ends within {END:g} seconds"),
    ("howto/deploy.md", f"{COMING_BACK} in a second and all within {SENDING_AWAY:g} seconds"),
    ("howto/deploy.md", f"gives handlers {WORDS[int(GRACE)]} seconds"),
    ("howto/dispatch.md", f"no answer within `timeout` ({default(Dispatcher, 'timeout'):g} seconds)"),
    ("howto/request.md", f"within `timeout` seconds ({PATIENCE:g} by default)"),
    ("howto/request.md", f"requests to one client that wait | {LIMITS.max_requests} |"),
    ("howto/request.md", f"requests it answers at a time | {CLIENT_LIMITS.max_requests} |"),
    ("howto/request.md", f"| {MAX_REQUESTS}; over HTTP {MAX_HTTP_REQUESTS} |"),
    ("howto/request.md", f"of one `Dispatcher` that wait | {MAX_BLOCKING_REQUESTS} threads |"),
    ("howto/request.md", f"up to {WORDS[MORE]} times `max_queued` of `Limits`"),
    ("howto/request.md", f"up to {WORDS[MORE_OF_CLIENT]} times `max_queued`"),
    ("howto/portals.md", f"its lease is over, {DEFAULT_LEASE:g} seconds"),
    ("howto/portals.md", f"Of one id {MAX_ACCOUNT_WEIGHT} events wait"),
    ("howto/portals.md", f"{WORDS[PARTITIONS].capitalize()} queues hold the events"),
    ("howto/portals.md", f"after {HAND_OVER:g} seconds in any case"),
    ("howto/portals.md", f"what it has begun within {WORDS[int(PORTAL_GRACE)]} seconds"),
    ("howto/portals.md", f"kept for {WORDS[int(BACKLOG_LIFE / DAY)]} days after the last event"),
    ("howto/portals.md", f"after {FIRST_PAUSE:g} seconds, and then three times as long"),
    ("howto/portals.md", f"After {WORDS[MAX_DELIVERIES]} deliveries it is a *dead letter*"),
    ("howto/portals.md", f"The {MAX_DEAD // 1000} 000 newest dead letters are kept"),
    ("howto/deploy.md", f"Mesa waits {HOLD:g} seconds and asks the Sentinels"),
    ("explanation/delivery.md", f"asked {HOLD:g} seconds later"),
    ("howto/portals.md", f"{MAX_KEPT // MIB} MiB of them at most, for {DEAD_LIFE / DAY:g} days"),
    ("howto/portals.md", f"more than {MAX_OBSERVED // 1000} 000 events or {MAX_KEPT // MIB} MiB behind"),
    ("explanation/delivery.md", f"`backlog_max` ({Portals().backlog_max // 1000} 000)"),
    ("explanation/delivery.md", f"`backlog_bytes` ({Portals().backlog_bytes // (1024 * MIB)} GiB)"),
    ("explanation/delivery.md", f"but always {GUARANTEED_EVENTS} in each of {PARTITIONS} queues"),
    (
        "explanation/delivery.md",
        f"| in each queue {MAX_ACCOUNT_WEIGHT}, where each {KIB[WEIGHT_UNIT]} of a message counts as one more"
        f"; fewer when others wait, but {FEW} while",
    ),
    (
        "explanation/delivery.md",
        f"{MAX_WAITING} events; from {MAX_BYTES // MIB} MiB on no more are read, {MAX_READ} at once",
    ),
    ("howto/migrate-from-npm.md", f"{HEARD // 1000} 000 events or {HEARD_BYTES // MIB} MiB waiting"),
    ("howto/migrate-from-npm.md", f"if no portal listens, it waits {WORDS[int(SILENCE)]} second for one"),
    ("howto/migrate-from-npm.md", f"taken out of the pool after {WORDS[int(POOL_PATIENCE)]} seconds"),
    ("reference/http-api.md", f"how many seconds to wait, {PATIENCE:g} if absent"),
    ("../spec/protocol.md", f"need not take more than {MAX_TEXT} characters"),
    ("reference/cli.md", f"handlers get {WORDS[int(GRACE)]} seconds to finish"),
    ("reference/http-api.md", f"`batch` holds 1 to {MAX_BATCH} dispatches"),
    ("reference/http-api.md", f"A dispatch to more than {SLICE} ids"),
    ("reference/http-api.md", f"more than {Api().head_timeout:g} seconds (`head_timeout`)"),
    ("reference/http-api.md", f"its body {Api().body_timeout:g} (`body_timeout`)"),
    ("reference/http-api.md", f"more than {Api().max_connections} connections (`max_connections`)"),
    ("reference/http-api.md", f"than {Api().max_bodies >> 20} MiB of requests at once (`max_bodies`)"),
    ("reference/http-api.md", f"a body over {Api().max_body >> 20} MiB"),
    ("reference/http-api.md", f"The key has {SHORTEST_KEY} or more visible ASCII characters"),
    ("reference/http-api.md", f"are kept for {SERVER_KEEP_ALIVE} seconds"),
    ("reference/http-api.md", f"close theirs after {DISPATCHER_KEEP_ALIVE:g}"),
    ("reference/http-api.md", f"requests under way get {API_GRACE} seconds"),
    ("explanation/threat-model.md", f"{HANDSHAKE_TIMEOUT:g} seconds for TLS and HTTP together"),
    ("explanation/threat-model.md", f"a head has at most {MAX_HEAD >> 10} KiB"),
    ("explanation/threat-model.md", f"{FRAMES_AT_ONCE} frames in a turn of the event loop"),
    ("explanation/threat-model.md", f"and {TURN * 1000:g} ms for the handlers of all clients together"),
    ("explanation/threat-model.md", f"{MAX_ACCOUNT_WEIGHT} of one id in a queue"),
    *(
        (page, f"{READ_AHEAD // GUESTS_PART * PARTITIONS // 1000} 000 {rest}")
        for page, rest in (
            ("explanation/threat-model.md", "of all guests"),
            ("explanation/delivery.md", f"and {READ_AHEAD_BYTES // GUESTS_PART * PARTITIONS // MIB} MiB"),
            ("howto/portals.md", "places together"),
        )
    ),
    ("explanation/choices.md", f"of the {READ_AHEAD} events that a portal reads ahead"),
    ("explanation/threat-model.md", f"{RESERVE} of which are kept"),
    ("reference/configuration.md", f"the last {MAX_KNOWN:_} of them".replace("_", " ")),
    ("explanation/threat-model.md", f"{PREFIX_OF_IPV6} bits of an address count as one"),
    ("explanation/threat-model.md", f"about {HIGH_WATER // MIB} MiB waits on a server"),
    ("explanation/threat-model.md", f"a server that stops sends {COMING_BACK} clients away in a second"),
    ("explanation/threat-model.md", f"slices of {SLICE} ids"),
    ("explanation/threat-model.md", f"slices of {LARGE_TURN * 1000:g} ms"),
    ("explanation/threat-model.md", f"{SHORTEST_KEY} or more characters, compared in constant time"),
    ("../spec/protocol.md", f"`keepalive.interval` (default {KEEPALIVE.interval:g})"),
    ("../spec/protocol.md", f"`keepalive.timeout` (default {KEEPALIVE.timeout:g})"),
    ("../spec/protocol.md", f"all its fragments together | {LIMITS.max_message >> 20} MiB"),
    ("../spec/protocol.md", f"reached without the last one | {LIMITS.max_fragments} |"),
    ("../spec/protocol.md", f"`limits.max_buffered` (default {LIMITS.max_buffered >> 20} MiB)"),
]


@pytest.mark.parametrize(("page", "text"), PROMISES)
def test_a_number_on_a_page_is_that_of_the_code(page: str, text: str) -> None:
    assert text in " ".join((DOCS / page).read_text().split())


@pytest.mark.parametrize("limit", [servers.LIMIT, portals.PORTAL_LIMIT])
def test_a_process_ends_within_the_time_that_pages_promise(limit: float) -> None:
    assert END - 5 <= limit + 3 * CANCEL_GRACE + THREAD_GRACE <= END
