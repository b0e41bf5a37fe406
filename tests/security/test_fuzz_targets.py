"""Each target of the fuzzer, on its seeds and on a few hundred inputs that are made of them."""

from random import Random

import pytest

from tests.fuzz.targets import TARGETS

INPUTS = 300
LONGEST = 2000


def mutated(random: Random, seeds: tuple[bytes, ...]) -> bytes:
    """Return a seed with some of its bytes changed, cut out, doubled, or replaced by those of another."""
    data = bytearray(random.choice(seeds)[:LONGEST])
    for _ in range(random.randint(1, 8)):
        start = random.randint(0, len(data))
        end = min(len(data), start + random.randint(0, 20))
        other = random.choice(seeds)[:LONGEST]
        place = random.randint(0, len(other))
        piece = random.choice(
            [
                b"",
                random.randbytes(random.randint(1, 4)),
                bytes(data[start:end]) * 2,
                other[place : place + 40],
            ]
        )
        data[start:end] = piece
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_bytes_are_read_nothing_escapes(name: str) -> None:
    target = TARGETS[name]
    random = Random(name)
    for data in [b"", *target.seeds, *(mutated(random, target.seeds) for _ in range(INPUTS))]:
        try:
            target.read(data)
        except Exception as error:
            error.add_note(f"target {name!r}, input {data[:200]!r}")
            raise
