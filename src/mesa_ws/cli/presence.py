"""`mesa presence`: show which ids are online."""

from collections.abc import Iterator
from typing import Any

import click
from rich.table import Table

from ..backend.presence import BlockingClusterPresence
from ..backend.queries import ConnectionCount, Online, OnlineCount
from .options import address_options, connected
from .output import console, counted, escaped, plain, print_json, report


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
    with connected(**address) as bus:
        if ids:
            _show_online(bus.query(Online(ids)), as_json=as_json)
        elif all_ids:
            _show_ids(BlockingClusterPresence(bus).ids(), as_json=as_json)
        elif connections:
            count = bus.query(ConnectionCount())
            text = f"{counted(count, 'connection is', 'connections are')} open"
            report(text, {"connections": count}, as_json=as_json)
        else:
            count = bus.query(OnlineCount())
            report(f"{counted(count, 'id is', 'ids are')} online", {"count": count}, as_json=as_json)


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
