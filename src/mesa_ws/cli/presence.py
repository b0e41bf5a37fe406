"""`mesa presence`: who is online."""

from typing import Any

import click
from rich.table import Table

from .address import address_options, connect
from .output import console, plain, print_json
from .usage import from_command_line


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@address_options
def presence(ids: tuple[str, ...], as_json: bool, **address: Any) -> None:
    """Tell how many connections each ID has, or without any how many ids are online.

    \b
      mesa presence 0 1
      mesa presence
    """
    with from_command_line():
        bus = connect(**address)
    try:
        if ids:
            with from_command_line():
                online = bus.online(ids)
            _show_online(online, as_json=as_json)
        else:
            _show_count(bus.count(), as_json=as_json)
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


def _show_count(count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"count": count})
    else:
        console().print(f"{count} {'id is' if count == 1 else 'ids are'} online")
