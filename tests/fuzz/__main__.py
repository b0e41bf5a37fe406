"""Fuzz the readers of foreign bytes with atheris: `make fuzz`, or `python -m tests.fuzz [TARGET]...`.

Each target runs in a process of its own, guided by the coverage of `mesa_ws`. The inputs are divided among
the targets by their speed. An escape is printed, its input is kept in `.cache/fuzz`, and the exit code is 1.
"""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".cache/fuzz"

MAX_LENGTH = 4096
"""Bytes of the longest input that is made; the seeds of deep nesting are longer."""

SHARES = {"frame feed": 0.1, "http bodies": 0.25, "http heads": 0.25, "server protocol": 0.5}
"""Inputs of the slow targets, of a fast one's 1."""

_FUZZ = """
import logging
import sys
import atheris
logging.getLogger("mesa_ws").setLevel(logging.CRITICAL)
with atheris.instrument_imports(include=["mesa_ws"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS
atheris.Setup(sys.argv, TARGETS[{name!r}].read)
atheris.Fuzz()
"""


def fuzz(name: str, inputs: int, seed: int) -> tuple[int, str]:
    """Run one target; return the number of inputs, and the end of its output if it failed."""
    from tests.fuzz.targets import TARGETS  # only this process needs it not instrumented

    folder = KEPT / name.replace(" ", "-")
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [
        f"-runs={inputs}",
        f"-seed={seed}",
        f"-max_len={MAX_LENGTH}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        "-verbosity=0",
        str(corpus),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _FUZZ.format(name=name), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = done.stdout + done.stderr
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    return int(executed[1]) if executed else 0, "" if done.returncode == 0 else said[-4000:]


@click.command(context_settings={"show_default": True})
@click.argument("names", nargs=-1, metavar="[TARGET]...")
@click.option("--inputs", default=5_000_000, help="Inputs in all.")
@click.option("--seed", default=1, help="Seed of the random numbers.")
@click.option("--jobs", default=2, help="Targets at a time.")
def main(names: tuple[str, ...], inputs: int, seed: int, jobs: int) -> None:
    """Feed random bytes to everything that reads bytes of strangers."""
    from tests.fuzz.targets import TARGETS

    chosen = names or tuple(TARGETS)
    shares = {name: SHARES.get(name, 1.0) for name in chosen}
    each = {name: round(inputs * share / sum(shares.values()) + 0.5) for name, share in shares.items()}

    def run(name: str) -> tuple[str, int, str, float]:
        began = time.monotonic()
        executed, problem = fuzz(name, each[name], seed)
        return name, executed, problem, time.monotonic() - began

    total, escapes = 0, 0
    with ThreadPoolExecutor(jobs) as pool:
        for name, executed, problem, took in pool.map(run, chosen):
            total += executed
            escapes += bool(problem)
            print(
                f"{name:<20} {executed:>10} inputs  {took:7.1f} s  {'ESCAPED' if problem else 'held'}",
                flush=True,
            )
            if problem:
                print(problem)
    print(f"{total} inputs, {escapes} escapes")
    sys.exit(1 if escapes else 0)


if __name__ == "__main__":
    main()
