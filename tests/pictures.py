"""Drawn pictures of the documentation: `.venv/bin/python -m tests.pictures` writes them into `docs/images`.

`layers.svg` shows the layers that `tests/unit/test_layers.py` checks, `cluster.svg` a cluster's parts.
"""

from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby
from pathlib import Path

from tests.unit.test_layers import LAYERS

IMAGES = Path(__file__).parents[1] / "docs/images"

ABOUT: Mapping[str, str] = {
    "root": "no clock, no sockets, no other part",
    "concurrency": "tasks, retries, and the differences between event loops",
    "messages": "messages and their bytes",
    "redis_client": "ordered pipelines, Sentinel, durability",
    "handlers": "calls the application's functions",
    "protocol": "one connection: bytes in, events out",
    "backend": "the ports between processes: redis, memory, mesa1, http",
    "server": "one node, without sockets",
    "dispatcher": "sends messages",
    "portal": "handles what clients send",
    "middleware": "logs, metrics, rate limits",
    "tokens": "JSON Web Tokens",
    "transports": "WebSockets on sockets",
    "client": "the Python client",
    "http_server": "the HTTP API",
    "public": "the names that applications import",
    "cli": "the program mesa",
    "contrib": "parts for web frameworks",
    "testing": "tests of applications: dispatchers that record, servers in memory",
}
"""Captions of the parts of the picture."""

WIDTH = 760
ROW = 48
GAP = 8
STYLE = """<style>
text { font: 12px system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #444 }
.name { font-weight: 600; font-size: 14px; fill: #1a237e }
.box { fill: #e8eaf6; stroke: #5c6bc0 }
.store { fill: #fbe9e7; stroke: #d84315 }
.line { fill: none; stroke: #5c6bc0; stroke-width: 1.5; marker-end: url(#head) }
.back { stroke-dasharray: 5 4 }
</style>"""
HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#5c6bc0"/></marker>'
)


def box(x: float, y: float, width: float, name: str, about: str, kind: str = "box") -> str:
    """Draw a box with a name and a caption."""
    middle = x + width / 2
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{ROW - GAP}" rx="6"/>'
        f'<text class="name" x="{middle:g}" y="{y + 17:g}" text-anchor="middle">{escape(name)}</text>'
        f'<text x="{middle:g}" y="{y + 32:g}" text-anchor="middle">{escape(about)}</text>'
    )


def picture(title: str, height: int, parts: Iterator[str]) -> str:
    """Put elements on a white sheet."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            STYLE,
            HEAD,
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def layers() -> str:
    """Draw the layers, with the lowest at the bottom."""
    rows = [list(parts) for _, parts in groupby(LAYERS, key=LAYERS.__getitem__)]

    def parts() -> Iterator[str]:
        for number, row in enumerate(reversed(rows)):
            width = (WIDTH - GAP) / len(row)
            for place, part in enumerate(row):
                name = {"public": "mesa_ws", "root": "errors, settings, close codes"}.get(part, part)
                yield box(GAP + place * width, GAP + number * ROW, width - GAP, name, ABOUT[part])

    return picture("The layers of mesa_ws; each imports lower ones only", GAP + len(rows) * ROW, parts())


def cluster() -> str:
    """Draw processes, and the routes of messages between them."""
    return picture("Dispatchers, Redis, servers, users and portals", 220, _cluster())


def _cluster() -> Iterator[str]:
    yield box(8, 12, 160, "Dispatcher", "Django, FastAPI")
    yield box(8, 76, 160, "Dispatcher", "Celery, scripts, cron")
    yield box(8, 160, 160, "Portal", "workers: handle events")
    yield box(244, 76, 126, "Redis", "outboxes, queues", "store")
    yield box(446, 12, 110, "Server", "node A")
    yield box(446, 140, 110, "Server", "node B")
    yield box(632, 12, 120, "user 0", "phone")
    yield box(632, 96, 120, "user 0", "laptop")
    yield box(632, 160, 120, "user 1", "browser")
    for way in (
        "M168 32L244 86",
        "M168 96L244 96",
        "M370 86L446 36",
        "M370 102L446 152",
        "M556 32L632 32",
        "M556 154L632 118",
        "M556 164L632 176",
    ):
        yield f'<path class="line" d="{way}"/>'
    yield '<path class="line back" d="M446 172L346 172Q310 172 310 116"/>'
    yield '<path class="line back" d="M290 116Q290 180 168 180"/>'
    yield '<text x="326" y="190">what clients send</text>'


PICTURES = {"layers.svg": layers, "cluster.svg": cluster}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (IMAGES / name).write_text(draw())
