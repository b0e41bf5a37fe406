"""No loss, no duplicate and no disorder outside the stated bounds, whatever happens.

`make test` tries the same examples every time. With MESA_CHAOS_SECONDS set, as `make chaos` does,
other examples are tried for so long; MESA_CHAOS_SEED, any text, says which. MESA_MODEL_EXAMPLES
sets how many `make test` tries on each release of Redis.
"""

import os
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.model.machine import STEPS, Faults, explore
from tests.faults.model.mutants import MUTANTS, Mutant
from tests.faults.model.store import SnapshotServer, Store, shipped_scripts

EXAMPLES = int(os.environ.get("MESA_MODEL_EXAMPLES") or 60)

MUTANT_EXAMPLES = 200
"""Within which the model has to notice that something is broken."""

SECONDS = float(os.environ.get("MESA_CHAOS_SECONDS") or 0)

CHAOS_SEED = os.environ.get("MESA_CHAOS_SEED") or secrets.token_hex(4)


@contextmanager
def running(folder: Path, release: str) -> Iterator[SnapshotServer]:
    server = SnapshotServer(folder, release)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SnapshotServer]:
    """The Redis on the PATH: whether the model notices what is broken is no question of its release."""
    with running(tmp_path_factory.mktemp("model"), "redis") as server:
        yield server


@pytest.fixture(scope="module")
def either_server(tmp_path_factory: pytest.TempPathFactory, release: str) -> Iterator[SnapshotServer]:
    """A Redis of each release."""
    with running(tmp_path_factory.mktemp("model"), release) as server:
        yield server


def model_of(server: SnapshotServer, mutant: Mutant | None = None) -> type[Faults]:
    """A machine over the shipped scripts, or over ones with something broken."""
    scripts = shipped_scripts()

    class Model(Faults):
        store = Store(server, mutant.of(scripts) if mutant else scripts)
        is_split = mutant is not None and mutant.is_split

    return Model


@pytest.mark.timeout(300)
def test_whatever_happens_nothing_is_lost(either_server: SnapshotServer) -> None:
    examples = explore(model_of(either_server), EXAMPLES, 1)
    print(f"\nmodel: {examples} examples of up to {STEPS} steps, nothing to object to")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_what_is_broken_is_noticed(server: SnapshotServer, mutant: Mutant) -> None:
    model = model_of(server, mutant)
    with pytest.raises(AssertionError) as objection:
        explore(model, MUTANT_EXAMPLES, 1)
    print(f"\nmodel: {mutant.name}: noticed after {model.examples} examples: {objection.value}")


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.skipif(not SECONDS, reason="for make chaos: MESA_CHAOS_SECONDS says how long")
def test_whatever_else_happens_nothing_is_lost(server: SnapshotServer) -> None:
    print(f"\nmodel: MESA_CHAOS_SEED={CHAOS_SEED}")
    first = zlib.crc32(CHAOS_SEED.encode())
    end, examples, batch = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < end:
        examples += explore(model_of(server), 100, first + batch)
        batch += 1
    print(f"model: {examples} examples of up to {STEPS} steps, nothing to object to")
