"""Remove each limit in turn, and see whether a test notices: `python -m tests.security.mutants [LIMIT]...`.

The limits are removed in copies of the project. The exit code is 1 if no test notices a removal, or if the
code has another text now than the table below.
"""

import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[2]

COPIED = ("src", "tests", "bench", "spec", "docs", "examples", "scripts", "pyproject.toml", "README.md")

LIMIT = 600.0
"""Seconds for the tests of one limit."""

TEST = 60
"""Seconds for one test, after which it has failed; some wait for what the limit would have ended."""


class Group(NamedTuple):
    """Limits in one file, and the tests of them.

    Attributes:
        file: below `src/mesa_ws`.
        tests: files below `tests`, or single tests; one of them has to fail.
        removals: name of each limit, which is that of its setting, its text in the code, and the replacement.
    """

    file: str
    tests: tuple[str, ...]
    removals: Mapping[str, tuple[str, str]]


GROUPS = (
    Group(
        "server/large_deliveries.py",
        ("unit/server/test_large_deliveries.py",),
        {
            "writes at once": ("* (1 + len(self._waiting)) > AT_ONCE:", "< 0:"),
            "seconds of a slice": ("while self._waiting and loop.time() < until:", "while self._waiting:"),
            "deliveries that wait": ("if len(self._waiting) >= MOST:", "if False:"),
            "a direct message overtakes no message to everybody": (
                "                    self.settle(connection)\n",
                "                    pass\n",
            ),
            "a new connection gets nothing that began before": (
                "connection.large_delivery = self._number",
                "pass",
            ),
            "each message once": ("if connection.large_delivery < number:", "if True:"),
            "a burst overtakes no other message": ("if len(self._waiting) > 1 or not", "if not"),
            "each joined message once": (" or connection.large_delivery >= self.first:", ":"),
            "bytes of one write": (" and size <= self.room", ""),
            "messages of one write": (" and len(self.writes) < MOST_JOINED", ""),
            "ids that a joined message excludes": (" in self.excluding:\n", " in ():\n"),
        },
    ),
    Group(
        "server/fanout.py",
        ("unit/server/test_large_deliveries.py",),
        {
            "a slice of clients that are sent away": (
                "if early >= TOGETHER or now >= at + TURN:",
                "if False:",
            ),
            "nothing after a disconnection": ("connection.large_delivery = DONE  # what comes", "pass  #"),
        },
    ),
    Group(
        "server/recovery.py",
        ("unit/server/test_large_deliveries.py",),
        {"a page overtakes no message to everybody": ("self._settle(subscription)", "pass")},
    ),
    Group(
        "server/acknowledgements.py",
        ("unit/server/test_acknowledgements.py",),
        {
            "ids passed on at once": ("tuple(islice(self._acked, AT_ONCE))", "tuple(self._acked)"),
            "clients asked at once": ("range(min(AT_ONCE, len(self._due)))", "range(len(self._due))"),
        },
    ),
    Group(
        "concurrency/deadlines.py",
        ("unit/concurrency/test_deadlines.py",),
        {
            "seconds of deadlines that are met together": ("if clock() >= until:", "if False:"),
            "a deadline that was taken back": ("            owners.discard(owner)", "            pass"),
        },
    ),
    Group(
        "http_server/slices.py",
        ("unit/http_server/test_slices.py",),
        {
            "the order of a caller": (
                "if lock is not None:\n            async with lock:",
                "if lock is None:\n            async with asyncio.Lock():",
            )
        },
    ),
    Group(
        "transports/frame_feed.py",
        ("unit/transports/test_frame_feed.py", "security/test_lessons.py"),
        {
            "frames in a turn": (
                "while at < len(block) and frames < FRAMES_AT_ONCE:",
                "while at < len(block):",
            ),
            "short frames in a turn": (
                "while frames < FRAMES_AT_ONCE and at + _SHORTEST <= size:",
                "while at + _SHORTEST <= size:",
            ),
            "parts of large frames": ("if PART < length <= self._max_frame and", "if False and"),
            "growth of the read buffer": ("fits if fits > len(head) else len(room))", "len(room))"),
            "frames beyond the limit are not passed on": ("<= self._max_frame and second", "and second"),
            "bytes of a head": ("if end < 0 and len(head) < MAX_HEAD:", "if end < 0:"),
            "nothing is passed on while reading is paused": (
                "        self._is_held = True\n",
                "        self._is_held = False\n",
            ),
            "nothing is passed on after the end": (
                "while (block or head) and not self._transport.is_closing():",
                "while block or head:",
            ),
        },
    ),
    Group(
        "transports/server_socket.py",
        ("security/test_waiting_frames.py", "system/server/test_limits.py"),
        {
            "buffers of TLS": ("TLS_BUFFER = 16 * 1024 + 64", "TLS_BUFFER = 16 * (16 * 1024 + 64)"),
            "Pongs while something waits": (
                "        if not self.buffered:\n            self._send_late",
                "        if True:\n            self._send_late",
            ),
        },
    ),
    Group(
        "server/connection.py",
        ("security/test_waiting_frames.py", "system/server/test_limits.py"),
        {
            "a turn of the handlers": ("if self._events and turn.is_over():", "if False:"),
            "bytes of waiting messages": ("self._waiting_size += event.size", "self._waiting_size += 0"),
            "a bad frame ends what waits": (
                "            self._drop_frames()\n            self.obey(event)",
                "            self.obey(event)",
            ),
            "parts of a guest's message": ("            self.obey(self._guest.objection(size))\n", ""),
            "a user's limits after the login": (
                "        self._forget_guest()\n        if self._flow is not None:\n"
                "            self._flow.most = self._host.most_waiting\n",
                "        if self._flow is not None:\n",
            ),
        },
    ),
    Group(
        "server/connection.py",
        ("system/server/test_freed_connections.py",),
        {
            "a cycle of connection and flow control": (
                "        self._flow = None  # it refers",
                "        # it refers",
            )
        },
    ),
    Group(
        "transports/frame_feed.py",
        ("system/server/test_freed_connections.py",),
        {"a cycle of feed and protocol": ("        del self.protocol  #", "        #")},
    ),
    Group(
        "transports/listening.py",
        ("system/server/test_freed_connections.py",),
        {"a cycle of error and transport": ("            error.__traceback__ = None", "            pass")},
    ),
    Group(
        "transports/server_socket.py",
        ("system/server/test_freed_connections.py",),
        {"a cycle of connection and transport": ("        del self._connection  #", "        #")},
    ),
    Group(
        "transports/run.py",
        ("system/server/test_lifecycle.py::test_run_makes_the_garbage_collector_run_rarely",),
        {
            "runs of the collector": ("                gc.set_threshold(threshold, *_GC_FACTORS)\n", ""),
            "the collector leaves out what was there": ("                gc.freeze()\n", ""),
        },
    ),
    Group(
        "messages/frames.py",
        ("unit/messages/test_frames.py", "security/test_waiting_frames.py"),
        {
            "syntax at the arrival": (
                '            str(payload, "utf-8")  # msgspec',
                "            pass  # msgspec",
            ),
            "waiting frames are bytes": (
                "        return _RAW_DECODER.decode(payload)",
                '        _DECODER.decode(str(payload, "utf-8"))\n        return _RAW_DECODER.decode(payload)',
            ),
        },
    ),
    Group(
        "protocol/server.py",
        ("unit/protocol/test_server.py", "unit/protocol/test_vectors.py"),
        {
            "authentication.timeout": ("        if now >= self._authentication_due:", "        if False:"),
        },
    ),
    Group(
        "protocol/timers.py",
        ("unit/protocol/test_server.py", "unit/protocol/test_vectors.py"),
        {
            "heartbeat.max_attempts": ("if self._tries > self._settings.max_attempts:", "if False:"),
            "keepalive.timeout": ("self._pinged_at + self._settings.timeout", "self._pinged_at + 1e9"),
        },
    ),
    Group(
        "server/flow_control.py",
        ("unit/server/test_flow_control.py",),
        {
            "limits.max_queued": ("self.events >= times * most.events or ", ""),
            "limits.max_queued_bytes": (" or self.size > times * most.size", ""),
            "a client that owes an answer": (
                "owes_answer and not waiting.is_too_much(self.most, PATIENCE)",
                "owes_answer",
            ),
        },
    ),
    Group(
        "server/pending_requests.py",
        ("unit/server/test_pending_requests.py",),
        {"limits.max_requests": ("if len(self) >= self._most:", "if False:")},
    ),
    Group(
        "server/send_queue.py",
        (
            "system/server/test_limits.py",
            "system/server/test_write_limit.py",
            "security/test_slow_readers.py",
        ),
        {
            "limits.max_buffered": ("if size <= self._max_buffered + self._spared:", "if True:"),
            "what waits is counted for the node": (
                "            self._readers.count(self, size)",
                "            pass",
            ),
        },
    ),
    Group(
        "server/slow_readers.py",
        ("unit/server/test_slow_readers.py", "security/test_slow_readers.py"),
        {
            "limits.max_node_buffer": ("if self._open.sum > self._mark:", "if False:"),
            "memory of clients that are closing": ("if self.waiting > self._full:", "if False:"),
            "closed slow clients are counted": ('        self.closed["max_node_buffer"] += 1\n', ""),
            "what clients have read since": ("self._open.set(queue, queue.measure())", "pass"),
            "room after clients were closed": ("<= self._mark * 15 // 16:", "<= self._mark:"),
            "one choice of slow clients at a time": ("if self._is_choosing:", "if False:"),
        },
    ),
    Group(
        "server/send_queue.py",
        ("unit/server/test_send_queue.py", "security/test_slow_readers.py"),
        {
            "volatile messages are dropped": ("elif policy == VOLATILE:", "elif False:"),
            "a newer message replaces one": ("            self._replace(policy)\n", ""),
            "memory of messages that were replaced": (
                "if self._replaced > len(self._frames) // 2:",
                "if False:",
            ),
            "the newest message is forgotten when it is written": (
                "if self._latest and self._latest.get(held.policy) is held:",
                "if False:",
            ),
            "a message that may be replaced waits": ("self._transport.hold_back()", "pass"),
        },
    ),
    Group(
        "messages/envelope.py",
        ("unit/messages/test_envelope.py",),
        {"stored messages are neither dropped nor replaced": ("    if is_stored:\n", "    if False:\n")},
    ),
    Group(
        "transports/server_socket.py",
        ("security/test_slow_readers.py",),
        {
            "memory of short frames": ("size * self._frames * WRITE_COST // self._written if", "0 if"),
            "bytes that are added are counted": ("        self._write_by(self._write_and_count)\n", ""),
        },
    ),
    Group(
        "server/fanout.py",
        ("security/test_slow_readers.py",),
        {
            "hooks learn who got a message": (
                "                missed.add(connection)\n",
                "                pass\n",
            )
        },
    ),
    Group(
        "server/failed_logins.py",
        ("unit/server/test_failed_logins.py", "security/test_failed_logins.py"),
        {
            "limits.max_failed_logins_per_address": (
                "if found.failures > self._most / 2 and found.failures + found.under_way > self._most - 1:",
                "if False:",
            ),
            "wait of a login": ("            if wait > LONGEST_WAIT:\n                return None\n", ""),
            "addresses that are remembered as failing": (
                "if not oldest.is_clean and len(self._addresses) <= MOST_ADDRESSES:",
                "if not oldest.is_clean:",
            ),
            "addresses that are remembered as successful": (
                "if len(self._succeeded) > MOST_ADDRESSES:",
                "if False:",
            ),
        },
    ),
    Group(
        "server/authentication.py",
        ("security/test_failed_logins.py",),
        {
            "a login asks whether its address failed": ("        if wait is None:\n", "        if False:\n"),
            "a failed login is counted": ("self._failed_logins.end(address, has_failed)", "pass"),
        },
    ),
    Group(
        "transports/proxies.py",
        ("unit/transports/test_proxies.py",),
        {
            "only trusted proxies name addresses": (
                "        if not self.trusts(peer[0]):\n",
                "        if False:\n",
            ),
            "proxies that a request passes": ('.rsplit(",", MAX_PROXIES)', '.rsplit(",")'),
            "addresses that a client adds": (
                "if client is None or not self.trusts(client[0]):",
                "if client is None:",
            ),
        },
    ),
    Group(
        "server/rates.py",
        ("unit/server/test_rates.py", "security/test_rates.py", "system/server/test_shipped_middleware.py"),
        {
            "rates.messages_per_connection": ("settings.messages_per_connection", "None"),
            "rates.bytes_per_connection": ("settings.bytes_per_connection", "None"),
            "rates.messages_per_id": ("settings.messages_per_id", "None"),
            "rates.bytes_per_id": ("settings.bytes_per_id", "None"),
            "rates.burst": ("rate * settings.burst", "rate * 1e9"),
            "connections of an id share": ("self._of_ids.setdefault(user_id, _Bucket())", "_Bucket()"),
            "another login gets no new tokens": (' if limit.per != "id"}', " if False}"),
            "another id has tokens of its own": ("if user_id != self._user_id:", "if False:"),
            "types of a limit": ("self._types is None or", "True or"),
            "tokens for later messages": (
                "            batch, batch_size = self._rates.batch\n",
                "            batch, batch_size = 1, 0\n",
            ),
            "every message asks the application's limits": (" and not self._limits:", ":"),
            "a delay": ("                await self._wait(wait)\n", "                pass\n"),
            "no delay after the end": ("            if sender.is_open:\n", "            if True:\n"),
            "requests are never dropped": ('"error" if excess == "drop" else excess', "excess"),
            "a limit that closes": ("            turn_out(Close(", "            (Close("),
            "messages beyond are counted": ("        self._rates.exceeded[excess] += 1\n", ""),
            "a message larger than a bucket": ("max(0.0, of_size - self._seconds)", "0.0"),
        },
    ),
    Group(
        "server/connection.py",
        ("security/test_rates.py", "system/server/test_shipped_middleware.py"),
        {
            "a message takes tokens": (
                "if over is not None and not await",
                "if False and over is not None and not await",
            ),
            "a delay ends with the connection": ("            self._meter.wake()\n", "            pass\n"),
            "a message that is dropped waits no longer": (
                "        self._waiting_size = max(0, self._waiting_size - waiting.size)\n",
                "",
            ),
            "a request of a guest that is refused": (
                "        if waiting.request and self._guest is not None:\n",
                "        if False and self._guest is not None:\n",
            ),
        },
    ),
    Group(
        "handlers/threads.py",
        ("unit/handlers/test_threads.py",),
        {"limits.handler_threads": (" and self._count < self._most:", ":")},
    ),
    Group(
        "server/guests.py",
        ("unit/server/test_guests.py", "security/test_waiting_frames.py"),
        {
            "limits.guest_max_message": ("if size <= self.guests.max_message or", "if True or"),
            "limits.guest_max_queued": (
                "min(limits.guest_max_queued, limits.max_queued)",
                "limits.max_queued",
            ),
            "limits.guest_max_queued_bytes": (
                "min(limits.guest_max_queued_bytes, limits.most_queued_bytes)",
                "limits.most_queued_bytes",
            ),
            "limits.guest_max_requests": ("if self.requests >= self.guests.max_requests and", "if False and"),
            "limits.guests_max_waiting": ("while self.waiting > self._max_waiting:", "while False:"),
            "what a paused transport holds of a guest": (" + (READ_AHEAD if is_paused else 0)", ""),
            "the message of a guest that arrives": (
                "queued + self.partial + self.in_turn",
                "queued + self.in_turn",
            ),
            "the message of a guest that is handled": ("+ self.partial + self.in_turn", "+ self.partial"),
        },
    ),
    Group(
        "backend/inbox.py",
        ("security/test_portal_backlog.py", "contract/test_inbox.py"),
        {
            "places of an id": ('f":{self.id}" if self.id is not None else self', "self"),
            "places of a network": ("self.network or self.connection_id", "self.connection_id"),
            "few places for each account": ("if weight < FEW:", "if False:"),
        },
    ),
    Group(
        "backend/redis/scripts/append.lua",
        ("contract/test_inbox.py",),
        {
            "places of an account in Redis": (
                "return weight < math.min(MAX_ACCOUNT_WEIGHT, free)",
                "return true",
            ),
            "places of an id in Redis": ("if event.id ~= '' then account = ':' .. event.id elseif", "if"),
            "places of a network in Redis": (
                "elseif event.network ~= '' then account = event.network end",
                "end",
            ),
            "few places for each account in Redis": ("event.is_edge or weight < FEW", "event.is_edge"),
            "a place for a login in Redis": ("event.is_edge = is_login or", "event.is_edge ="),
        },
    ),
    Group(
        "backend/memory/inbox.py",
        ("security/test_portal_backlog.py", "contract/test_inbox.py"),
        {"a place for a login": ("is_edge = is_login or", "is_edge =")},
    ),
    Group(
        "server/portal_forwarding.py",
        ("security/test_portal_backlog.py",),
        {
            "guests can log in": (' == "message" and self._limits.has_authenticator', ' == "message"'),
            "events that wait for a place are counted": (
                "self.delayed += backoff is None",
                "self.delayed += 0",
            ),
        },
    ),
    Group(
        "portal/handling.py",
        ("security/test_portal_backlog.py",),
        {
            "ids have their turn in a portal": (
                "self._slots.acquire(waiting.event.id)",
                "self._slots.acquire(None)",
            )
        },
    ),
    Group(
        "portal/mesa1.py",
        ("system/mesa1/test_portals.py::test_a_flood_of_one_client_drops_none_of_others",),
        {"places in a portal of 1.x": ("if is_full or self._weights[event.account] >=", "if is_full or 0 >")},
    ),
    Group(
        "protocol/server.py",
        ("unit/protocol/test_vectors.py", "security/test_portal_backlog.py"),
        {
            "authentication.anonymous": ("if not (self._terms.allows_anonymous or", "if not (True or"),
        },
    ),
    Group(
        "server/connection_limits.py",
        ("unit/server/test_connection_limits.py", "security/test_connection_limits.py"),
        {
            "limits.max_connections": ("limits.max_connections is not None and", "False and"),
            "limits.max_unauthenticated_per_address": ("or self._by_network[network] < most", "or True"),
            "handshakes of an address": ("most is not None and self._handshakes[network] >= most:", "False:"),
            "limits.max_connections_per_id": (
                "return most is None or others < most or self._limits.when_id_is_full",
                "return True or self._limits.when_id_is_full",
            ),
            "limits.when_id_is_full": ("else connections[:-most]", "else []"),
            "a share for addresses that have logged in": (
                "return most - most // SHARE if is_stranger else most",
                "return most",
            ),
            "a share of handshakes": ("if self.handshakes >= self._room(", "if 0 >= self._room("),
            "addresses that are remembered": ("if len(self._known) > MAX_KNOWN:", "if False:"),
            "a proxy that names no client": ("if not is_proxy and any(", "if any("),
            "networks of 64 bits": ("PREFIX_OF_IPV6 = 64", "PREFIX_OF_IPV6 = 128"),
            "refused connections are counted": ("        self.refused[limit] += 1\n", ""),
        },
    ),
    Group(
        "server/authentication.py",
        ("security/test_connection_limits.py",),
        {
            "a login asks whether its id has room": (
                "return self._limits.has_room_for_id(",
                "return True or (",
            ),
            "the oldest goes": ("                oldest.obey(Close(", "                str(Close("),
        },
    ),
    Group(
        "transports/proxies.py",
        ("unit/transports/test_proxies.py",),
        {
            "trusted_proxies": ("if not self.trusts(peer[0]):", "if False:"),
            "the rightmost address": ("in reversed(hops):", "in hops:"),
            "proxies of a request": ('.rsplit(",", MAX_PROXIES)', '.split(",")'),
            "parts of Forwarded that are malformed": (" and None not in parts", ""),
        },
    ),
    Group(
        "transports/server_socket.py",
        ("system/server/test_request_bytes.py",),
        {
            "the version of the WebSocket protocol": ("!= [WEBSOCKET_VERSION]", "== []"),
            "one host": ("(len(host), len(key)) == (1, 1)", "len(key) == 1"),
            "one key": ("(len(host), len(key)) == (1, 1)", "len(host) == 1"),
        },
    ),
    Group(
        "transports/server_socket.py",
        ("security/test_connection_limits.py",),
        {
            "a handshake asks whether its address has room": (
                "if limit is not None:\n            limits.refuse(limit, address)\n",
                "if False:\n",
            ),
            "an upgrade asks for the limits": (
                "        if limit is None:\n            return accept",
                "        if True:\n            return accept",
            ),
        },
    ),
    Group(
        "transports/listening.py",
        ("security/test_connection_limits.py",),
        {
            "limits.max_handshakes": ("if len(self._arriving) >= self._most:", "if False:"),
            "limits.max_handshakes_per_second": ("- self._loop.time() - 1) > 0:", ") < 0:"),
        },
    ),
    Group(
        "transports/listening.py",
        ("unit/transports/test_listening.py",),
        {"a server that stays busy accepts a few": ("self._loop.time() >= until", "False")},
    ),
    Group(
        "server/overload.py",
        ("security/test_overload.py", "unit/server/test_overload.py"),
        {
            "limits.max_logins": ("if self.under_way < self._most:", "if True:"),
            "limits.max_lag": ("self.is_high = lag >", "self.is_high = False and lag >"),
            "the lag has to fall by half": ("self._most / 2 if self.is_high", "self._most if self.is_high"),
            "a turn that is given up passes on": (
                "if not turn.cancelled():\n                self._leave()",
                "if not turn.cancelled():\n                pass",
            ),
        },
    ),
    Group(
        "transports/server_socket.py",
        ("security/test_overload.py",),
        {
            "limits.max_wait": ("if waited < self._limits.max_wait:", "if True:"),
            "no client is accepted while logins wait": ("or bool(self._node.logins.waiting)", ""),
            "no client is accepted while the event loop lags": ("self._node.loop_lag.is_high or", ""),
            "clients that have gone get no handshake": (
                "if peer_state(connection.fileno()) is not PeerState.PRESENT:",
                "if False:",
            ),
        },
    ),
    Group(
        "server/authentication.py",
        ("security/test_overload.py",),
        {
            "clients that have gone get no login": ("if not connection.is_open or (", "if (False and "),
            "a login waits for its turn": (
                "async with self._logins as has_waited:",
                "has_waited = False\n            if True:",
            ),
        },
    ),
    Group(
        "backend/redis_wire/lease.py",
        ("system/redis/test_lease.py", "system/redis/test_healing.py"),
        {
            "heartbeats have a connection of their own": ("pipelines.heart", "pipelines.main"),
            "heartbeats check the main connection": (
                "        self._pipeline.post([_NOTHING], self._host.on_doubt, is_repeatable=True)\n",
                "",
            ),
        },
    ),
    Group(
        "transports/server_socket.py",
        ("system/server/test_tls_strangers.py", "system/server/test_wire.py"),
        {
            "time of an HTTP handshake": ("asyncio.timeout_at(deadline)", "asyncio.timeout_at(None)"),
            "time of a TLS handshake": (
                '"ssl_handshake_timeout": HANDSHAKE_TIMEOUT',
                '"ssl_handshake_timeout": 3600.0',
            ),
            "one deadline for both": ("asyncio.timeout_at(deadline)", "asyncio.timeout(HANDSHAKE_TIMEOUT)"),
        },
    ),
    Group(
        "transports/websocket.py",
        ("security/test_log_floods.py",),
        {
            "lines about clients that have gone": (
                'logging.getLogger("aiofastnet").addFilter(_GONE)',
                "pass",
            ),
        },
    ),
    Group(
        "transports/server_socket.py",
        ("system/server/test_limits.py",),
        {
            "limits.max_message": ("Fragments(self._limits.max_message,", "Fragments(2**40,"),
            "bytes of one frame": ("max_frame_size=self._limits.max_message", "max_frame_size=2**40"),
            "limits.max_fragments": ("self._limits.max_fragments)", "2**40)"),
        },
    ),
    Group(
        "protocol/fragments.py",
        ("unit/protocol/test_fragments.py",),
        {
            "bytes of all fragments": (
                "if len(parts) + len(frame.payload) > self._max_message:",
                "if False:",
            ),
            "number of fragments": ("if self._small >= self._max_fragments:", "if False:"),
        },
    ),
    Group(
        "concurrency/limited_log.py",
        ("unit/concurrency/test_limited_log.py", "security/test_log_floods.py"),
        {
            "lines of one kind in a minute": ("        if counted is not None:\n", "        if False:\n"),
            "the others are counted": ("            counted.more += 1\n", ""),
        },
    ),
    Group(
        "http_server/service.py",
        ("security/test_http_limits.py",),
        {
            "api.max_connections": ("if len(connections) >= self._limits.connections:", "if False:"),
            "api.head_timeout": ("or (state is h11.IDLE and not is_idle)", ""),
            "api.body_timeout": ("if state is h11.SEND_BODY or", "if"),
            "an answer that is not read": (
                "self._limits.body, self.transport.abort)",
                "1e9, self.transport.abort)",
            ),
            "answers to connections beyond the limit": ("if self._refusing >= REFUSALS:", "if False:"),
            "time of such an answer": (
                "async with asyncio.timeout(REFUSAL):",
                "async with asyncio.timeout(None):",
            ),
        },
    ),
    Group(
        "http_server/service.py",
        ("system/http/test_one_port.py",),
        {
            "connections without a key end": (
                "        self.headers.append(CLOSE_HEADER)",
                "        _ = (CLOSE_HEADER)",
            ),
            "connections without a key of an address": ("if is_admitted else _REFUSED_STRANGER", ""),
        },
    ),
    Group(
        "http_server/routes.py",
        ("security/test_http_limits.py", "unit/http_server/test_routes.py"),
        {
            "api.max_body": ("if size > self._max_body:", "if False:"),
            "api.max_bodies": ("if self._counts.bodies > self._max_bodies:", "if False:"),
            "bodies count until the answer": ("self._counts.bodies -= size", "self._counts.bodies -= 0"),
        },
    ),
    Group(
        "http_server/routes.py",
        ("system/http", "unit/http_server"),
        {"rights of keys": ("if not key.allows(right):", "if False:")},
    ),
    Group(
        "http_server/slices.py",
        ("unit/http_server/test_slices.py",),
        {
            "slices of a dispatch": (
                "if sum(len(envelope.recipients.ids) for envelope in envelopes) <= SLICE:",
                "if True:",
            ),
            "slices of the check": (
                "isinstance(recipients, list) and len(recipients) > SLICE and",
                "False and",
            ),
            "others have their turn between slices": (
                "        if some:\n            await asyncio.sleep(0)",
                "        if False:\n            await asyncio.sleep(0)",
            ),
        },
    ),
    Group(
        "backend/memory/outbox.py",
        ("contract/test_outbox_limits.py",),
        {
            "sync.max_messages": ("len(self._messages) > retention.max_messages or", "False or"),
            "sync.max_bytes": ("self._size > retention.max_bytes and", "False and"),
        },
    ),
    Group(
        "backend/redis/scripts/outbox.lua",
        ("contract/test_outbox_limits.py",),
        {
            "sync.max_messages in Redis": ("math.max(0, box.len - max_messages)", "0"),
            "sync.max_bytes in Redis": (" and box.t - box.before <= entry.max_bytes then", " then"),
        },
    ),
    Group(
        "backend/memory/inbox.py",
        ("contract/test_inbox.py",),
        {
            "portals.backlog_max": ("if length >= capacity.events or (", "if ("),
            "portals.backlog_bytes": ("and self.size >= capacity.bytes)", "and False)"),
            "places of one account": ("return not has_place(", "return False and has_place("),
        },
    ),
    Group(
        "backend/inbox.py",
        ("contract/test_inbox.py",),
        {
            "an account gets no more than is free": ("min(MAX_ACCOUNT_WEIGHT, free)", "MAX_ACCOUNT_WEIGHT"),
            "most of one account": ("min(MAX_ACCOUNT_WEIGHT, free)", "free"),
        },
    ),
    Group(
        "concurrency/queues.py",
        ("unit/concurrency/test_queues.py", "security/test_portal_backlog.py"),
        {
            "turns of ids": (
                "self._waiting.setdefault(key, deque())",
                "self._waiting.setdefault(None, deque())",
            )
        },
    ),
    Group(
        "server/portal_forwarding.py",
        ("security/test_portal_backlog.py",),
        {
            "guests have a part of the backlog": (
                "capacity = self._guests_capacity if is_of_guest else self._capacity",
                "capacity = self._capacity",
            ),
        },
    ),
    Group(
        "server/origins.py",
        ("unit/server/test_origins.py",),
        {
            "pages of another site with cookies": (
                'if not headers.getall("Cookie", []) or not _is_of_another_site(origin, headers):',
                "if True:",
            ),
            "handshakes without cookies": ('if not headers.getall("Cookie", []) or not', "if not"),
            "sites whose pages may connect": ("return origin is None or not any(", "return False and any("),
            "one origin in a handshake": ("if len(named) == 1 else None", "if True else None"),
            "the host of an origin": (
                "(self.scheme, self.host, self.port) ==",
                "(self.scheme, host, self.port) ==",
            ),
            "the scheme of an origin": (
                "(self.scheme, self.host, self.port) ==",
                "(other.scheme, self.host, self.port) ==",
            ),
            "the port of an origin": (
                "(self.scheme, self.host, self.port) ==",
                "(self.scheme, self.host, other.port) ==",
            ),
            "one label for a wildcard": (
                'host = "*." + host.partition(".")[2]',
                'host = self.host if host.endswith(self.host[1:]) else ""',
            ),
            "what browsers say of the site": ("    if said:\n", "    if False:\n"),
            "pages of subdomains": ("or _is_below(host, origin.host))", "or False)"),
            "pages of a domain above": ("not (_is_below(origin.host, host) or", "not (False or"),
            "a host that ends like another": ('host.endswith(f".{other}")', "host.endswith(other)"),
            "ports of the request": (
                'urlsplit(f"//{fields[0]}").hostname',
                'urlsplit(f"//{fields[0]}").netloc',
            ),
            "one warning of pages that are refused": ("        self._log.warning(\n", "        len(\n"),
        },
    ),
    Group(
        "transports/server_socket.py",
        ("browser/test_origins.py",),
        {
            "a handshake asks for its origin": (
                "and self._node.origins.refuse(request.headers):",
                "and False:",
            )
        },
    ),
    Group(
        "tokens/authenticator.py",
        ("unit/tokens",),
        {
            "the signature of a token": (
                '"verify_sub": False}',
                '"verify_sub": False, "verify_signature": False}',
            ),
            "the end of a token": ('"verify_sub": False}', '"verify_sub": False, "verify_exp": False}'),
            "the beginning of a token": ('"verify_sub": False}', '"verify_sub": False, "verify_nbf": False}'),
            "the issue of a token": ('"verify_sub": False}', '"verify_sub": False, "verify_iat": False}'),
            "the audience of a token": ('"verify_sub": False}', '"verify_sub": False, "verify_aud": False}'),
            "the issuer of a token": ("issuer=self._issuer,", "issuer=None,"),
            "the leeway of a token": ("leeway=self._leeway,", "leeway=0,"),
            "the bounds of the leeway": ("leeway=self._leeway,", "leeway=50 + self._leeway,"),
            "the claim that is the id": ("claims[self._id_claim], claims", 'claims["sub"], claims'),
            "a token without an id": ('"require": [self._id_claim]', '"require": []'),
            "numbers as ids": ("if type(id) is int:", "if False:"),
            "truth values as ids": ("if type(id) is int:", "if isinstance(id, int):"),
            "the end of the login by a token": (
                "expires_at = None if ends is None else",
                "expires_at = None and",
            ),
            "the leeway of a login's end": ("else int(ends) + self._leeway", "else int(ends)"),
            "the time of issue by a token": ("issued_at=None if begins is None else", "issued_at=None and"),
            "tokens of a key that is replaced": (
                "                    problem = error\n",
                "                    raise\n",
            ),
        },
    ),
    Group(
        "tokens/keys.py",
        ("unit/tokens",),
        {
            "each key has its algorithm": ("in self._keys if key.algorithm == algorithm]", "in self._keys]"),
            "published keys have their algorithms": (
                "if key.algorithm == algorithm and (id is None or key.id == id)]",
                "if (id is None or key.id == id)]",
            ),
            "keys have names": ("and (id is None or key.id == id)]", "]"),
            "published secrets": ("if key.algorithm_name in PUBLIC_ALGORITHMS", "if True"),
            "short keys": ("and key.key_size >= _SHORTEST_RSA:", "and True:"),
            "private keys": ('if "PRIVATE" in label:', "if False:"),
            "addresses of keys without TLS": (
                'if parts.scheme != "https" and not',
                "if False and not",
            ),
            "published keys that are old": ("elif age >= LIFETIME:", "elif False:"),
            "published keys that are new": ("if not found and age >= COOLDOWN:", "if False:"),
            "readings for invented keys": ("if not found and age >= COOLDOWN:", "if not found:"),
            "keys whose provider is away": (
                "if not self._keys:\n                raise",
                "if True:\n                raise",
            ),
        },
    ),
    Group(
        "protocol/server.py",
        ("unit/protocol/test_vectors.py", "system/server/test_expiry.py"),
        {
            "the end of a login": ("        if now >= self._expires:\n", "        if False:\n"),
            "the end of a login while nothing is read": (
                "        due = self._expires\n",
                "        due = _NEVER\n",
            ),
        },
    ),
    Group(
        "server/authentication.py",
        ("system/server/test_expiry.py",),
        {
            "logins that have ended before": ("user.expires_at <= unix_time():", "False:"),
            "clients hear when a login ends": (
                "None if user is None or user.expires_at is None else user.expires_at - unix_time()",
                "None",
            ),
        },
    ),
    Group(
        "client/connection.py",
        ("system/client/test_expiring_logins.py",),
        {"a client renews its login": ("        if expires:\n", "        if False:\n")},
    ),
    Group(
        "messages/order.py",
        ("unit/messages", "unit/server/test_orders.py", "system/server/test_orders.py"),
        {
            "logins of the same second are revoked": (
                "math.floor(issued_at) <= until",
                "math.floor(issued_at) < until",
            ),
            "fractions of a second of a login": ("math.floor(issued_at) <= until", "issued_at <= until"),
            "logins without a time are revoked": (
                "return issued_at is None or math",
                "return issued_at is not None and math",
            ),
            "ids of an order": ("if not 0 < len(checked) <= MAX_IDS:", "if False:"),
            "times that are none": ('    check_time("issued_before", issued_before)\n', ""),
        },
    ),
    Group(
        "server/orders.py",
        ("unit/server/test_orders.py",),
        {
            "in doubt messages wait": (
                "            self.waiting = deque()\n",
                "            self.waiting = None\n",
            ),
            "messages that wait for orders": (" or len(self.waiting) >= MAX_WAITING or", " or"),
            "bytes that wait for orders": (" or self._size > MAX_WAITING_BYTES:", ":"),
            "bytes of messages that were refused": (
                "            self._size -= len(envelope.body)\n            raise",
                "            raise",
            ),
            "bytes of messages that waited": (
                "            self._size -= len(envelope.body)\n            try",
                "            try",
            ),
            "an order behind a gap": ("        elif not self._has(position):\n", "        elif False:\n"),
            "an order that comes again": ("        elif not self._has(position):\n", "        else:\n"),
            "a doubt while orders are read": (
                "while self._is_doubted or held:",
                "while held:",
            ),
            "orders that cannot be read": (
                "            self._is_doubted = True\n            await",
                "            await",
            ),
            "a message that fails": ("        self.waiting = None\n        while held", "        while held"),
            "a node that stops": ("        if self._is_closed:\n            return\n", ""),
            "reading that ends with a node": ("            self._worker.cancel()\n", "            pass\n"),
            "a place that is gone": (
                '            page = page._replace(status="reset")\n',
                "            pass\n",
            ),
            "a cluster without orders": ("position.sequence == page.top == 0:", "False:"),
            "a place that is gone ends clients": (
                "self._carry_out, self._end_all, log)",
                "self._carry_out, lambda: None, log)",
            ),
            "a login after an order": (
                "known is not None and position.sequence <= known.sequence:",
                "False and known is not None:",
            ),
            "numbers of another epoch": (
                "if known.epoch == position.epoch or is_older:",
                "if True:",
            ),
            "numbers that two epochs share": (
                "if known.epoch == position.epoch or is_older:",
                "if known.epoch == position.epoch:",
            ),
            "where two epochs part": (
                "known.epoch == epoch and position.sequence <= ended",
                "known.epoch == epoch",
            ),
            "an order during a login": (
                "if subscription is not None and subscription.orders_from is None:",
                "if False:",
            ),
            "a login again keeps its place": (
                "        if subscription.orders_from is None:\n            subscription.orders_from =",
                "        if True:\n            subscription.orders_from =",
            ),
            "orders that came during a login": (
                "            if self._concerns(connection, position, order):\n",
                "            if False:\n",
            ),
            "messages behind an order during a login": (
                "                connection.send_queue.drop()\n",
                "                pass\n",
            ),
            "a login is held against revocations": (
                "        if until is None or not is_revoked(until, user.issued_at):\n",
                "        if True:\n",
            ),
            "messages for a login that is refused": (
                "        connection.send_queue.drop()\n        self._end(connection, CloseCode.REFUSED",
                "        self._end(connection, CloseCode.REFUSED",
            ),
            "a revocation spares newer logins": ("return order.concerns(user.issued_at)", "return True"),
            "guests and orders for all": ("return not order.ids", "return False"),
            "guests and orders for ids": (
                "self._for_each(\n                order.ids,",
                "self._for_each(\n                (),",
            ),
            "what is read waits for orders": (
                "        while not self._settled.is_set():\n",
                "        while False:\n",
            ),
            "orders that were given before a page": (
                "if position is not None and not self._has(position):",
                "if False:",
            ),
            "logins that ended while the machine slept": (
                "        if user.expires_at <= time.time():\n",
                "        if False:\n",
            ),
            "an event that its order stands for": ("        self._known.append(entry.message_id)\n", ""),
            "what is carried out is noted": (
                "            self._backend.carried_out(self._reader.position)",
                "            pass",
            ),
        },
    ),
    Group(
        "server/fanout.py",
        ("unit/server/test_orders.py", "system/server/test_orders.py"),
        {
            "messages before an order": (
                "            self._large.deliver(do, self._connections_of(ids), lambda: None)",
                "            for each in self._connections_of(ids):\n                do(each)",
            ),
            "messages to everybody that are read wait for orders": (
                "        await self.orders.settled(page.standing.position)\n",
                "",
            ),
        },
    ),
    Group(
        "server/authentication.py",
        ("unit/server/test_orders.py",),
        {
            "a login again asks for revocations": (
                "if _stays(connection, user, sync) and not await self._is_allowed(connection, user):",
                "if False:",
            ),
            "another id asks for revocations": (
                "        if not self._fanout.orders.admit(connection, page.standing):\n            return\n",
                "",
            ),
            "another id during a login": (
                "if (current := _stays(connection, user, sync)) is not None:",
                "if (current := connection.subscription) is not None and current.is_started:",
            ),
        },
    ),
    Group(
        "server/recovery.py",
        ("system/server/test_orders.py",),
        {
            "stored messages that are read wait for orders": (
                "        await self._ready(pages[0].standing.position)\n",
                "",
            ),
        },
    ),
    Group(
        "backend/redis/members.py",
        ("system/server/test_orders.py", "contract/test_orders.py"),
        {
            "a page says which orders were given before": (
                "about = Standing(position=read_newest_order(known))",
                "about = Standing()",
            ),
            "a login learns of orders": ("answer, read_standing(known))", "answer, Standing())"),
        },
    ),
    Group(
        "backend/redis/scripts/heartbeat.lua",
        ("system/redis/test_orders.py",),
        {
            "messages that skipped a node": (
                "missed = not lease_reader(leases, now)(node)",
                "missed = false",
            ),
            "messages that skipped a node while Redis was away": ("missed or passed_over == 1", "missed"),
        },
    ),
    Group(
        "backend/redis/backend.py",
        ("system/redis/test_orders.py",),
        {
            "a node that others skipped is in doubt": (
                "on_missed=self._watcher.doubted,",
                "on_missed=lambda: None,",
            )
        },
    ),
    Group(
        "backend/redis/node_commands.py",
        ("system/redis/test_orders.py",),
        {
            "numbers of orders on quiet days": (
                "(self.keys.orders_position, self.keys.broadcast_position)",
                "()",
            ),
            "what was carried out on quiet days": (
                "(self.keys.meta, self.keys.carried_out)",
                "(self.keys.meta,)",
            ),
            "numbers that live longer": (
                'self._expiry_ms, "GT")\n                for',
                "self._expiry_ms)\n                for",
            ),
        },
    ),
    Group(
        "backend/redis/scripts/revoke.lua",
        ("system/redis/test_orders.py",),
        {
            "the later of two revocations": (
                "until_then and until_then > tonumber(ARGV[2]) and known or",
                "",
            ),
            "life of a revocation": (", 'PX', ARGV[1])", ")"),
        },
    ),
    Group(
        "backend/redis/wire.py",
        ("system/redis/test_orders.py", "contract/test_orders.py"),
        {
            "orders that went with a Redis": (
                "is_done = is_known and epoch == current",
                "is_done = epoch == current",
            ),
            "how far a node is": ("int(sequence) >= position.sequence", "True"),
        },
    ),
    Group(
        "backend/memory/cluster.py",
        ("unit/backend/memory/test_outbox.py", "contract/test_orders.py"),
        {
            "revocations that are forgotten": (
                "        while self.revocations and self.revocation(",
                "        while False and self.revocation(",
            ),
            "revocations that are renewed": (
                "            self.revocations.pop(id, None)",
                "            pass",
            ),
            "the later of two revocations in memory": (
                "(max(until, order.issued_before),",
                "(order.issued_before,",
            ),
        },
    ),
    Group(
        "server/fanout.py",
        (
            "system/server/test_lifecycle.py::test_clients_are_sent_away_one_after_another_and_served_until_then",
        ),
        {
            "clients that are sent away in a second": (
                "seconds = min(wanted, SENDING_AWAY)",
                "seconds = 0.0",
            ),
            "time that clients are asked to stay away": (
                "min(wanted - seconds, self._grace / 2)",
                "wanted - seconds",
            ),
        },
    ),
    Group(
        "backend/redis/scripts/append.lua",
        ("contract/test_inbox.py",),
        {
            "portals.backlog_max in Redis": ("return length >= event.max_events or", "return"),
            "portals.backlog_bytes in Redis": ("and size_of(queue) >= event.max_bytes)", "and false)"),
            "places of one account in Redis": (
                "if has_place(queue, event, before) then return true end",
                "if true then return true end",
            ),
        },
    ),
)


class Outcome(NamedTuple):
    """What came of a removal.

    Attributes:
        limit: what was removed.
        noticed: the test that failed, or how the tests ended; empty if nothing failed.
        seconds: that the tests took.
    """

    limit: str
    noticed: str
    seconds: float


def stale() -> list[str]:
    """Return the limits whose text does not stand exactly once in the code."""
    found = []
    for group in GROUPS:
        text = (ROOT / "src/mesa_ws" / group.file).read_text(encoding="utf-8")
        found += [
            f"{group.file}: {limit}" for limit, (old, _) in group.removals.items() if text.count(old) != 1
        ]
    return found


class Copies:
    """Copies of the project, one for each job.

    Args:
        folder: folder of the copies.
        jobs: number of them.
    """

    def __init__(self, folder: Path, jobs: int) -> None:
        self._free: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            copy = folder / str(number) / "mesa"
            copy.mkdir(parents=True)
            for name in COPIED:
                source = ROOT / name
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
            self._free.put(copy)

    def try_out(self, group: Group, limit: str) -> Outcome:
        """Remove a limit, and run its tests."""
        copy = self._free.get()
        file = copy / "src/mesa_ws" / group.file
        whole, began = file.read_text(encoding="utf-8"), time.monotonic()
        file.write_text(whole.replace(*group.removals[limit]), encoding="utf-8")
        try:
            return Outcome(limit, test(copy, group.tests), time.monotonic() - began)
        finally:
            file.write_text(whole, encoding="utf-8")
            self._free.put(copy)

    def check(self, tests: Sequence[str]) -> str:
        """Run tests with every limit in place; return what failed."""
        copy = self._free.get()
        try:
            return test(copy, tests)
        finally:
            self._free.put(copy)


def test(copy: Path, tests: Sequence[str]) -> str:
    """Run tests in a copy until one fails; return its name, or how they ended; empty if all passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--timeout={TEST}"]
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *(f"tests/{name}" for name in tests)],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the tests did not end"
    if done.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else f"exit code {done.returncode}: {(done.stdout + done.stderr)[-300:]}"


@click.command(context_settings={"show_default": True})
@click.argument("limits", nargs=-1, metavar="[LIMIT]...")
@click.option("--jobs", default=2, help="Limits that are tried at a time.")
def main(limits: tuple[str, ...], jobs: int) -> None:
    """Remove each limit in turn, or those whose names contain a LIMIT, and see whether a test notices."""
    if found := stale():
        sys.exit("the code has another text now:\n" + "\n".join(found))
    chosen = [
        (group, limit)
        for group in GROUPS
        for limit in group.removals
        if not limits or any(part in limit for part in limits)
    ]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies = Copies(Path(folder), jobs)
        tests = sorted({test for group, _ in chosen for test in group.tests})
        if failed := copies.check(tests):
            sys.exit(f"a test fails with every limit in place: {failed}")
        outcomes = []
        for outcome in pool.map(lambda each: copies.try_out(*each), chosen):
            outcomes.append(outcome)
            noticed = f"noticed by {outcome.noticed}" if outcome.noticed else "NOT NOTICED"
            click.echo(f"{outcome.limit:46} {outcome.seconds:4.0f} s  {noticed}")
    missed = [outcome.limit for outcome in outcomes if not outcome.noticed]
    click.echo(f"{len(outcomes) - len(missed)} of {len(outcomes)} removed limits were noticed")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
