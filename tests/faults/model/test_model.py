"""No loss, no duplicate and no disorder outside the stated bounds, under random events.

`make test` runs the same examples every time. With MESA_CHAOS_SECONDS, as in `make chaos`, it runs
other examples for so long; MESA_CHAOS_SEED, any text, selects them. MESA_MODEL_EXAMPLES
sets the number of examples of `make test` on each release of Redis.
"""

import os
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.model.machine import STEPS, Faults, explore
from tests.faults.model.mutants import MUTANTS, Mutant
from tests.faults.model.store import SnapshotServer, Store, shipped_scripts

EXAMPLES = int(os.environ.get("MESA_MODEL_EXAMPLES") or 20)

MUTANT_EXAMPLES = 200
"""Examples within which the model has to notice a mutant."""

SECONDS = float(os.environ.get("MESA_CHAOS_SECONDS") or 0)

CHAOS_SEED = os.environ.get("MESA_CHAOS_SEED") or secrets.token_hex(4)


Servers = tuple[SnapshotServer, SnapshotServer]
"""A master, and its successor."""


@contextmanager
def running(folder: Path, release: str) -> Iterator[Servers]:
    with ExitStack() as stack:
        servers = []
        for name in ("one", "other"):
            (folder / name).mkdir()
            server = SnapshotServer(folder / name, release)
            stack.callback(server.stop)
            server.start()
            servers.append(server)
        yield servers[0], servers[1]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Stores on the Redis on the PATH; its release does not matter for noticing mutants."""
    with running(tmp_path_factory.mktemp("model"), "redis") as servers:
        yield servers


@pytest.fixture(scope="module")
def either_servers(tmp_path_factory: pytest.TempPathFactory, release: str) -> Iterator[Servers]:
    """Stores on a Redis of each release."""
    with running(tmp_path_factory.mktemp("model"), release) as servers:
        yield servers


def model_of(servers: Servers, mutant: Mutant | None = None) -> type[Faults]:
    """Return a machine over the shipped scripts, or over a mutant."""
    scripts = shipped_scripts()

    chosen = mutant.of(scripts) if mutant else scripts

    class Model(Faults):
        stores = (Store(servers[0], chosen), Store(servers[1], chosen))
        is_split = mutant is not None and mutant.is_split
        is_scattered = mutant is not None and mutant.is_scattered

    return Model


@pytest.mark.timeout(300)
def test_whatever_happens_nothing_is_lost(either_servers: Servers, release: str) -> None:
    """Return the seed of a release: each release has its own examples, as few faults depend on it."""
    examples = explore(model_of(either_servers), EXAMPLES, zlib.crc32(release.encode()))
    print(f"\nmodel: {examples} examples of up to {STEPS} steps, nothing to object to")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_what_is_broken_is_noticed(servers: Servers, mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutant.broken is not None:
        monkeypatch.setattr(*mutant.broken)
    model = model_of(servers, mutant)
    with pytest.raises(AssertionError) as objection:
        explore(model, MUTANT_EXAMPLES, 1)
    print(f"\nmodel: {mutant.name}: noticed after {model.examples} examples: {objection.value}")


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.skipif(not SECONDS, reason="for make chaos: MESA_CHAOS_SECONDS says how long")
def test_whatever_else_happens_nothing_is_lost(servers: Servers) -> None:
    print(f"\nmodel: MESA_CHAOS_SEED={CHAOS_SEED}")
    first = zlib.crc32(CHAOS_SEED.encode())
    end, examples, batch = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < end:
        examples += explore(model_of(servers), 100, first + batch)
        batch += 1
    print(f"model: {examples} examples of up to {STEPS} steps, nothing to object to")
