"""The command: `python -m bench [BENCHMARK...] [--quick]`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from . import (
    attacks,
    catchup,
    fanout,
    latency,
    memory,
    over_asgi,
    recovery,
    single,
    storm,
    through_portal,
    throughput,
    turns,
)
from .errors import Failed, Skipped
from .figures import Outcome
from .limits import raise_limit
from .machine import facts
from .options import FULL, QUICK, Options
from .peer import BASIC, OTHERS, Peer, find_peers, python_peers
from .redis_server import redis_server
from .report import BY_CHOICE, Report
from .rig import rigged
from .synced import cost, dispatch, idle, login, longest, script_time, stored

Run = Callable[[Options, Sequence[Peer]], Outcome]

BENCHMARKS: Mapping[str, tuple[Run, ...]] = {
    fanout.NAME: (fanout.run, fanout.run_joined),
    over_asgi.NAME: (over_asgi.run,),
    single.NAME: (single.run,),
    throughput.NAME: (throughput.run, latency.run),
    throughput.BLOCKING: (throughput.run_blocking, throughput.run_batches),
    throughput.STORED: (throughput.run_stored, latency.run_stored),
    catchup.NAME: (catchup.run,),
    storm.NAME: (storm.run,),
    through_portal.NAME: (through_portal.run,),
    memory.NAME: (memory.run, idle.run, stored.run),
    cost.NAME: (cost.run,),
    script_time.NAME: (script_time.run,),
    longest.NAME: (longest.run,),
    login.NAME: (login.run_single, login.run),
    dispatch.NAME: (dispatch.run,),
    attacks.NAME: (attacks.run,),
    turns.NAME: (turns.run,),
    recovery.NAME: (recovery.run,),
}

TARGETS = "targets"
"""Stands for the benchmarks of what has been promised about speed."""

_PROMISED = (
    *(fanout.NAME, throughput.NAME, throughput.BLOCKING, throughput.STORED),
    *(catchup.NAME, script_time.NAME, longest.NAME),
)

_OF_ALL: tuple[Run, ...] = (
    *BENCHMARKS[fanout.NAME],
    *BENCHMARKS[throughput.NAME],
    *BENCHMARKS[catchup.NAME],
    *BENCHMARKS[throughput.BLOCKING],
    *BENCHMARKS[throughput.STORED],
)
"""Benchmarks that peers of others take part in."""


@click.command(context_settings={"show_default": True})
@click.argument("names", nargs=-1, type=click.Choice([*BENCHMARKS, TARGETS]), metavar="[BENCHMARK]...")
@click.option("--quick", is_flag=True, help="Less of everything: about three minutes, less exact.")
@click.option("--rounds", type=click.IntRange(1), help="How often every peer does the work.")
@click.option("--connections", type=click.IntRange(10), help="Clients of each peer.")
@click.option("--messages", type=click.IntRange(1), help="Messages to everybody in each round of fanout.")
@click.option("--singles", type=click.IntRange(1), help="Messages to single clients in each round.")
@click.option("--crowd", type=click.IntRange(10), help="Clients of turns.")
@click.option("--returning", type=click.IntRange(10), help="Clients that come back at once in recovery.")
@click.option("--busy", type=click.FloatRange(0), help="Seconds of other work on the server's core there.")
@click.option("--peers", default="all", help=f"all, none, or some of {', '.join(OTHERS)}, with commas.")
@click.option("--results", type=click.Path(path_type=Path), help="Folder for JSON; bench/results by default.")
def main(names: Sequence[str], quick: bool, peers: str, **given: Any) -> None:
    """Compare speed and memory with a bare picows loop, @cryb/mesa on npm, and servers of others.

    BENCHMARK is one of fanout, one, asgi, redis, blocking, storm, portal, memory, attacks, turns, recovery,
    and for message sync one of stored, catchup, sync, outbox, longest, login and dispatch. `targets` stands
    for those that have been promised a speed. Without any, all run.
    """
    if sys.platform != "linux":
        raise click.ClickException("the benchmarks read /proc and use epoll, so they need Linux")
    chosen = {name: value for name, value in given.items() if value is not None}
    options = replace(QUICK if quick else FULL, peers=_names(peers), **chosen)
    try:
        _run(_expanded(names), options)
    except Failed as error:
        raise click.ClickException(str(error)) from error


def _expanded(names: Sequence[str]) -> list[str]:
    expanded = [each for name in names for each in (_PROMISED if name == TARGETS else (name,))]
    return list(dict.fromkeys(expanded)) or list(BENCHMARKS)


def _run(names: Sequence[str], options: Options) -> None:
    peers, skipped = _peers(options)
    missing = raise_limit(options.connections)
    if missing:
        raise Failed(missing)
    report = Report(facts(peers), options)
    report.begin()
    for why in skipped:
        report.skip(why)
    failures: list[str] = []
    basic = [peer for peer in peers if peer.name in BASIC]
    for run in (run for name in names for run in BENCHMARKS[name]):
        try:
            report.add(run(options, peers if run in _OF_ALL else basic))
        except Skipped as skip:
            report.skip(str(skip))
        except Failed as error:
            failures.append(str(error))
            report.skip(f"the rest of this benchmark, which failed: {error}")
    report.end()
    if failures:
        raise Failed("; ".join(failures))


def _names(peers: str) -> tuple[str, ...]:
    names = {"all": OTHERS, "none": ()}.get(peers, tuple(peers.split(",")))
    for name in names:
        if name not in OTHERS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(OTHERS)}", param_hint="--peers")
    return names


def _peers(options: Options) -> tuple[list[Peer], list[str]]:
    found = [_tried(each) for each in find_peers(options.peers)]
    left_out = [f"{name}: {BY_CHOICE}" for name in OTHERS if name not in options.peers]
    peers = [each for each in found if isinstance(each, Peer)]
    return python_peers() + peers, [*left_out, *(str(each) for each in found if isinstance(each, Skipped))]


def _tried(found: Peer | Skipped) -> Peer | Skipped:
    """Return the peer if its server starts and takes a client."""
    if isinstance(found, Skipped):
        return found
    try:
        with ExitStack() as running:
            arguments = [running.enter_context(redis_server()).url] if found.needs_redis else []
            running.enter_context(rigged(found, *arguments)).listen(1)
    except (Failed, Skipped) as error:
        return Skipped(f"{found.name}: its server does not work here: {error}")
    return found


if __name__ == "__main__":
    main()
