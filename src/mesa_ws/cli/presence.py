"""`mesa presence`: show which ids are online."""

from collections.abc import Iterator
from typing import Any

import click
from rich.table import Table

from ..backend.presence import BlockingClusterPresence
from ..backend.queries import ConnectionCount, Online, OnlineCount
from .options import address_options, connect
from .output import console, escaped, from_command_line, plain, print_json


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "all_ids", is_flag=True, help="Print every id that is online, one a line.")
@click.option("--connections", is_flag=True, help="Count connections, authenticated or not.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@address_options
def presence(ids: tuple[str, ...], all_ids: bool, connections: bool, as_json: bool, **address: Any) -> None:
    """Show how many connections each ID has, or without an ID how many ids are online.

    \b
      mesa presence 0 1
      mesa presence
      mesa presence --all
      mesa presence --connections
    """
    if bool(ids) + all_ids + connections > 1:
        raise click.UsageError("expected IDs, --all or --connections, got more than one of them")
    with from_command_line():
        bus = connect(**address)
    try:
        with from_command_line():
            online = bus.query(Online(ids)) if ids else None
        if online is not None:
            _show_online(online, as_json=as_json)
        elif all_ids:
            _show_ids(BlockingClusterPresence(bus).ids(), as_json=as_json)
        elif connections:
            _show_connections(bus.query(ConnectionCount()), as_json=as_json)
        else:
            _show_count(bus.query(OnlineCount()), as_json=as_json)
    finally:
        bus.close()


def _show_online(online: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"online": online})
        return
    table = Table("id", "connections")
    for id, connections in online.items():
        table.add_row(plain(id), str(connections))
    console().print(table)


def _show_ids(ids: Iterator[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"ids": list(ids)})
        return
    for id in ids:
        click.echo(escaped(id))


def _show_connections(connections: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"connections": connections})
    else:
        console().print(f"{connections} {'connection is' if connections == 1 else 'connections are'} open")


def _show_count(count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"count": count})
    else:
        console().print(f"{count} {'id is' if count == 1 else 'ids are'} online")
