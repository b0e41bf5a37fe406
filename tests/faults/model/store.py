"""A real redis-server whose time, memory and snapshots the model controls, and the shipped scripts on it.

The scripts run unchanged but for two things: their pages are small, so that there often is a next one, and
the expression by which they ask for the time, `call('TIME')`, reads a key that the model writes. Keys expire
by Redis's own clock, so `Store.pass_time` shortens the life of every key by the same amount.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from mesa_ws.backend.redis.scripts import CONSTANTS, SCRIPTS
from mesa_ws.backend.redis_client.command import Command
from mesa_ws.backend.redis_wire.scripts import script
from tests.redis_server import LIMIT, RedisServer

CLOCK = "model:clock"
"""Key with the microseconds of the model's time; not a key of Mesa."""

ASK_TIME = "call('TIME')"

MODEL_TIME = f"""
local function model_time()
  local now = redis.call('GET', '{CLOCK}')
  return {{string.sub(now, 1, -7), string.sub(now, -6)}}
end
"""

SET_TIME = f"""#!lua flags=allow-oom
redis.call('SET', '{CLOCK}', ARGV[1], 'PX', 86400000)
"""

PASS_TIME = f"""#!lua flags=allow-oom
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key) - tonumber(ARGV[1])
  if key ~= '{CLOCK}' and redis.call('PTTL', key) >= 0 then redis.call('PEXPIRE', key, left) end
end
"""

INSPECT = """#!lua flags=no-writes
local endless, found = {}, {}
local leases = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('PTTL', key) < 0 then endless[#endless + 1] = key end
end
for i = 2, #KEYS, 3 do
  found[#found + 1] = {
    redis.call('HGETALL', KEYS[i]),
    redis.call('LRANGE', KEYS[i + 1], 0, -1),
    redis.call('HGETALL', KEYS[i + 2]),
  }
end
return {endless, leases, found}
"""

DAY_MS = 86_400_000


PAGE_ENTRIES = 2

PAGE_BYTES = 4096

PAGED = ("attach", "broadcasts")
"""Scripts that read pages."""


def shipped_scripts() -> dict[str, str]:
    """The sources that Mesa ships, by name, with small pages."""
    small = {**CONSTANTS, "MAX_ENTRIES": PAGE_ENTRIES, "MAX_BYTES": PAGE_BYTES}
    paged = [script("mesa_ws.backend.redis", name, "prelude", "outbox", constants=small) for name in PAGED]
    return {each.name: each.source.decode() for each in (*SCRIPTS, *paged)}


def on_model_time(source: str) -> str:
    """Let a script read the model's clock instead of Redis's."""
    flags, body = source.split("\n", 1)
    asked = body.replace(ASK_TIME, "")
    assert "'TIME'" not in asked, "every script asks for the time in the same way, or not at all"
    return f"{flags}\n{MODEL_TIME}{body.replace(ASK_TIME, 'model_time()')}"


class SnapshotServer(RedisServer):
    """A redis-server that can go back to any of its snapshots.

    Args:
        directory: where it writes.
        release: which redis-server.
    """

    def __init__(self, directory: Path, release: str) -> None:
        super().__init__(directory, "--enable-debug-command", "yes", release=release)
        self._snapshots = directory / "snapshots"
        self._dump = directory / "dump.rdb"
        self._snapshots.mkdir()

    def keep_snapshot(self, name: str) -> None:
        """Keep a copy of the last snapshot."""
        shutil.copyfile(self._dump, self._snapshots / name)

    def restart(self, name: str) -> None:
        """Kill Redis, and start it with the data of a snapshot."""
        self.stop()
        shutil.copyfile(self._snapshots / name, self._dump)
        self.start()


class Store:
    """One Redis under the model's control.

    Args:
        server: a running server.
        scripts: the sources to run, by name.
    """

    def __init__(self, server: SnapshotServer, scripts: Mapping[str, str]) -> None:
        self._server = server
        self._sources = {name: on_model_time(source) for name, source in scripts.items()}
        self._own = {"set_time": SET_TIME, "pass_time": PASS_TIME, "inspect": INSPECT}
        self._now_us = 1_900_000_000_000_000
        self._taken: dict[str, int] = {}
        self._shas: dict[str, str] = {}
        self._inspection: Command | None = None
        self._inspected: list[Any] = []
        self._connect()

    def empty(self) -> None:
        """Reset all data and the memory limit."""
        self._client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        self._client.config_set("maxmemory", 0, "min-replicas-to-write", 0)
        self._client.flushall()
        self.hints()
        self._now_us, self._taken = 1_900_000_000_000_000, {}
        self._inspected = []

    @property
    def port(self) -> int:
        """Port of the server."""
        return self._server.port

    @property
    def now_ms(self) -> int:
        """The model's time."""
        return self._now_us // 1000

    def close(self) -> None:
        """Close the connections."""
        self._hints.close()
        self._client.close()
        self._connection.disconnect()

    def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run a script and return its reply; an error of Redis is returned, not raised."""
        self._now_us += 1  # a real clock never shows two scripts the same time
        commands = [self._set_time, ("EVALSHA", self._shas[name], len(keys), *keys, *args)]
        if self._inspection is not None:  # read the checked keys in the same round trip
            commands.append(self._inspection)
        _, reply, *self._inspected = self._talk(commands)
        return reply

    def inspect(self, leases: str, keys: Sequence[str]) -> tuple[list[bytes], list[bytes], list[Any]]:
        """Read the keys without an expiry, `leases`, and the values of each three `keys`."""
        command: Command = ("EVALSHA", self._shas["inspect"], 1 + len(keys), leases, *keys)
        if self._inspection != command or not self._inspected:
            self._inspection, self._inspected = command, self._talk([command])
        (found,) = self._inspected
        if isinstance(found, Exception):
            raise found
        self._inspected = []
        return tuple(found)

    @property
    def run_id(self) -> str:
        """The replication id of this run, as far as scripts look at it."""
        about: Any = self._client.info("replication")
        return str(about["master_replid"])[:16]

    def hash(self, key: str) -> dict[bytes, bytes]:
        """Read a hash directly."""
        found: Any = self._client.hgetall(key)
        return dict(found)

    def hints(self) -> list[tuple[str, bytes]]:
        """Return the published frames so far, with their channels."""
        self._hints.ping()
        frames: list[tuple[str, bytes]] = []
        end = time.monotonic() + LIMIT
        while (message := self._hints.get_message(timeout=end - time.monotonic())) is not None:
            if message["type"] == "pong":
                return frames
            if message["type"] == "pmessage":
                frames.append((message["channel"].decode(), message["data"]))
        raise AssertionError("Redis did not answer a PING on the subscription")

    def pass_time(self, milliseconds: int) -> None:
        """Let time pass for scripts and for the life of keys."""
        self._now_us += milliseconds * 1000
        self._talk([("EVALSHA", self._shas["pass_time"], 0, milliseconds)])  # a replica refuses it

    def set_full(self, is_full: bool) -> None:
        """Make Redis refuse what needs memory, or accept it again."""
        self._client.config_set("maxmemory", 1 if is_full else 0)

    def snapshot(self, name: str) -> None:
        """Take a snapshot of the data."""
        self._client.save()
        self._server.keep_snapshot(name)
        self._taken[name] = self._now_us

    def go_back(self, name: str) -> None:
        """Kill Redis, and restart it with the data of a snapshot; time does not go back."""
        self._hints.close()
        self._client.close()
        self._connection.disconnect()
        self._server.restart(name)
        self._connect()
        self._client.evalsha(self._shas["pass_time"], 0, (self._now_us - self._taken[name]) // 1000)

    def promote(self) -> None:
        """Make Redis a replica and a master again, as a failover does: a new run, the same data."""
        self.demote()
        self._client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]

    def change_id(self, runs: Sequence[str]) -> None:
        """Give Redis another replication id, as a first replica does, without any loss.

        Only where scripts have seen the last one, as their records in `runs` say: a first replica comes long
        after a promotion.
        """
        last = str(self._client.info("replication")["master_replid"])[:16].encode()
        if all(self._client.hget(run, "i") in {None, last} for run in runs):
            self._client.execute_command("DEBUG", "CHANGE-REPL-ID")  # type: ignore[no-untyped-call]

    def demote(self) -> None:
        """Make Redis the replica of an unreachable master, so that it refuses writes."""
        self._client.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        self._inspected = []

    def take_over(self, other: "Store") -> None:
        """Become a master with the data of another one, like its replica; that one does not notice."""
        self.empty()
        keys = other._talk([("KEYS", "*")])[0]
        held = other._talk([(word, key) for key in keys for word in ("PEXPIRETIME", "DUMP")])
        copies = zip(keys, held[::2], held[1::2], strict=True)
        replies = self._talk([("RESTORE", key, max(0, end), dump, "ABSTTL") for key, end, dump in copies])
        assert all(reply == b"OK" for reply in replies), f"a replica cannot hold {keys}: {replies}"
        self.promote()
        self._now_us = other._now_us

    def set_alone(self, is_alone: bool) -> None:
        """Make Redis refuse writes for lack of replicas, or accept them without replicas."""
        self._client.config_set("min-replicas-to-write", int(is_alone))

    def probe(self) -> Any:
        """Run a script that may write; an error of Redis is returned, not raised."""
        return self._talk([self._set_time])[0]

    @property
    def _set_time(self) -> Command:
        return ("EVALSHA", self._shas["set_time"], 0, self._now_us)

    def _talk(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands; errors of Redis are among the replies."""
        self._inspected = []
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._reply() for _ in commands]

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return error

    def _connect(self) -> None:
        self._client = redis.Redis(port=self._server.port, socket_timeout=LIMIT)
        self._connection = _connected(self._server.port)
        self._inspection, self._inspected = None, []
        self._hints = redis.Redis(port=self._server.port, socket_timeout=LIMIT).pubsub()  # type: ignore[no-untyped-call]
        self._hints.psubscribe("*")
        self._hints.get_message(timeout=LIMIT)
        sources = self._sources | self._own
        loads = self._client.pipeline(transaction=False)
        for source in sources.values():
            loads.script_load(source)
        self._shas = dict(zip(sources, loads.execute(), strict=True))


def _connected(port: int) -> Any:
    connection: Any = redis.Connection(port=port, socket_timeout=LIMIT)  # type: ignore[no-untyped-call]
    connection.connect()
    return connection
