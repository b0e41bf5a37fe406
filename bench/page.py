"""Writes the figures of a run into the documentation: `python -m bench.page [RESULTS]`.

It reads what `python -m bench targets` has written, and puts tables and plots between two marks of the
page about speed. Plots are drawn by matplotlib, which is installed for that; where it cannot be, the page
keeps the plots it has.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import catchup, fanout, latency, throughput
from .cost_table import spread
from .errors import Skipped
from .figures import SERVER, Sample, Series, Target
from .install import python_with
from .options import FULL
from .peer import OURS
from .report import BY_CHOICE, TARGETS, target_row
from .synced import longest, script_time
from .throughput import DISPATCHER, REDIS

PAGE = Path(__file__).parents[1] / "docs/explanation/performance.md"
IMAGES = PAGE.parents[1] / "images"
BEGIN, END = "<!-- figures: python -m bench.page -->", "<!-- end of figures -->"

PROMISED = (
    *(fanout.NAME, fanout.JOINED, throughput.NAME, throughput.STORED, throughput.BLOCKING),
    *(throughput.BATCHES, latency.NAME, latency.STORED, catchup.NAME, script_time.NAME, longest.NAME),
)
"""Benchmarks whose targets the page shows."""

_MATPLOTLIB = "matplotlib==3.11.2"
_SYNC = f"{OURS}, sync"


class Results:
    """The outcomes in a folder of results."""

    def __init__(self, folder: Path) -> None:
        self.outcomes: dict[str, dict[str, Any]] = {
            name: json.loads((folder / f"{name}.json").read_text())
            for name in PROMISED
            if (folder / f"{name}.json").exists()
        }

    def series(self, name: str) -> Series:
        """Return the rounds of a benchmark; none if it has not run."""
        raw = self.outcomes.get(name, {}).get("raw", {})
        return Series("message", {peer: [Sample(**each) for each in rounds] for peer, rounds in raw.items()})

    def latencies(self) -> Mapping[str, Sequence[Mapping[str, float]]]:
        """Return the percentiles of each round, by peer."""
        return {
            peer: rounds
            for name in (latency.NAME, latency.STORED)
            for peer, rounds in self.outcomes.get(name, {}).get("raw", {}).items()
        }


def page(results: Results) -> str:
    """Return the figures in Markdown."""
    return "\n".join(
        [
            *_about(results),
            *_to_all(results.series(fanout.NAME), results.series(fanout.JOINED)),
            *_through_redis(results.series(throughput.NAME), results.series(throughput.STORED)),
            *_callers(results.series(throughput.BLOCKING), results.series(throughput.BATCHES)),
            *_latencies(results.latencies()),
            *_logins(results.series(catchup.NAME)),
            *_targets(results),
        ]
    )


def charts(results: Results) -> Iterator[dict[str, Any]]:
    """Yield the plots; see `bench.plots`."""
    for name, turn in ((fanout.NAME, "one a turn"), (fanout.JOINED, "16 a turn")):
        series = results.series(name)
        bars = {peer: {SERVER: series.cost(peer).median} for peer in series.rounds}
        yield _chart(name, f"A message to everybody, {turn}", "µs of the server's CPU, each delivery", bars)
    series = Series("message")
    for name in (throughput.NAME, throughput.STORED):
        series.rounds |= results.series(name).rounds
    roles = {SERVER: SERVER, "Redis": REDIS, "caller": DISPATCHER}
    bars = {
        peer: {part: series.cost(peer, role).median for part, role in roles.items()} for peer in series.rounds
    }
    yield _chart("redis", "A message to one id through Redis", "µs of CPU", bars)
    p50 = {
        peer: {"p50": sorted(each["p50"] for each in rounds)[len(rounds) // 2]}
        for peer, rounds in results.latencies().items()
    }
    yield _chart("latency", "A message to one id through Redis, 1 000 a second, p50", "ms", p50)


def _chart(name: str, title: str, unit: str, bars: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {"file": str(IMAGES / f"speed-{name}"), "title": title, "unit": unit, "bars": bars}


def _about(results: Results) -> Iterator[str]:
    last = max(results.outcomes.values(), key=lambda each: each["machine"]["date"])
    yield ", ".join(f"{name} {value}" for name, value in last["machine"].items() if name != "load before")
    yield ""
    left_out = {why for each in results.outcomes.values() for why in each["left out"]}
    missing = sorted(why for why in left_out if not why.endswith(BY_CHOICE))
    yield f"Left out: {'; '.join(missing)}." if missing else "All peers could be set up."
    yield from (f" {note[0].upper()}{note[1:]}." for note in _notes(results))


def _notes(results: Results) -> list[str]:
    notes = [note for each in results.outcomes.values() for note in each["notes"]]
    return [note for note in notes if " failed: " in note or "the load generator was" in note]


def _to_all(single: Series, joined: Series) -> Iterator[str]:
    rows = [
        [
            peer,
            *_cost(single, peer, OURS),
            *(_cost(joined, peer, OURS) if peer in joined.rounds else ["", ""]),
        ]
        for peer in single.rounds
    ]
    header = ["server", "one a turn, µs", f"{OURS} / it", "16 a turn, µs", f"{OURS} / it"]
    yield from _table("100 bytes to everybody, the server's CPU for each delivery", header, rows)
    yield from _images(fanout.NAME, fanout.JOINED)


def _through_redis(plain: Series, stored: Series) -> Iterator[str]:
    rows = [
        [
            peer,
            *_cost(series, peer, ours),
            *(f"{series.cost(peer, role).median:.1f}" for role in (REDIS, DISPATCHER)),
            spread(series.ratios(ours, peer, SERVER, REDIS, DISPATCHER)),
            f"{series.speed(peer):,.0f}" if series is plain else "",
        ]
        for series, ours in ((plain, OURS), (stored, _SYNC))
        for peer in series.rounds
    ]
    header = [
        "",
        "server, µs",
        f"{OURS} / it",
        "Redis, µs",
        "caller, µs",
        "all: ours / it",
        "messages a second",
    ]
    yield from _table("100 bytes to one id through Redis, 64 under way", header, rows)
    yield from _images("redis")


def _callers(blocking: Series, batches: Series) -> Iterator[str]:
    peers = dict.fromkeys([*blocking.rounds, *batches.rounds])
    rows = [
        [
            peer,
            *(_cost(blocking, peer, OURS, DISPATCHER) if peer in blocking.rounds else ["", ""]),
            *(_cost(batches, peer, OURS, DISPATCHER) if peer in batches.rounds else ["", ""]),
        ]
        for peer in peers
    ]
    header = ["", "blocking, µs", f"{OURS} / it", "100 in a call, µs", f"{OURS} / it"]
    yield from _table("The caller's CPU for each message", header, rows)


def _latencies(latencies: Mapping[str, Sequence[Mapping[str, float]]]) -> Iterator[str]:
    rows = []
    for peer, rounds in latencies.items():
        ours = latencies[_SYNC if peer.endswith(("sync", "history")) else OURS]
        row = [peer]
        for part in ("p50", "p99"):
            row.append(f"{sorted(each[part] for each in rounds)[len(rounds) // 2]:.2f}")
            row.append(spread([mine[part] / each[part] for mine, each in zip(ours, rounds, strict=False)]))
        rows.append(row)
    header = ["", "p50, ms", f"{OURS} / it", "p99, ms", f"{OURS} / it"]
    yield from _table("One id through Redis, 1 000 a second, from due to read", header, rows)
    yield from _images("latency")


def _logins(series: Series) -> Iterator[str]:
    rows = [[peer, *_cost(series, peer, _SYNC)] for peer in series.rounds]
    header = ["", "server, µs a message", f"{OURS} / it"]
    title = f"Logins with {catchup.WAITING} messages waiting for each; a message has its share of the login"
    yield from _table(title, header, rows)


def _targets(results: Results) -> Iterator[str]:
    rows = [
        target_row(Target(*(each[field] for field in Target._fields)))
        for outcome in results.outcomes.values()
        for each in outcome["targets"]
    ]
    yield from _table("Against the targets", TARGETS, rows)


def _cost(series: Series, peer: str, ours: str, role: str = SERVER) -> list[str]:
    return [f"{series.cost(peer, role).median:.2f}", spread(series.ratios(ours, peer, role))]


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from ("", f"**{title}**", "")
    for row in (header, ["---", *["--:"] * (len(header) - 1)], *rows):
        yield f"| {' | '.join(row)} |"


def _images(*names: str) -> Iterator[str]:
    for name in names:
        if (IMAGES / f"speed-{name}.svg").exists():
            yield ""
            yield f"![Bars of the table above: {name}](../images/speed-{name}.svg)"


def main() -> None:
    """Draw the plots, then write the page."""
    results = Results(Path(sys.argv[1]) if len(sys.argv) > 1 else FULL.results)
    if not results.outcomes:
        sys.exit("there are no results; run `python -m bench targets` first")
    try:
        python = python_with("plots", _MATPLOTLIB)
    except Skipped as skip:
        print(f"SKIPPED {skip}")
    else:
        command = (python, str(Path(__file__).with_name("plots.py")))
        subprocess.run(command, input=json.dumps(list(charts(results))), text=True, check=True)
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE} has no lines {BEGIN!r} and {END!r}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{page(results)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
