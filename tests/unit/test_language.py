"""Words that the texts of the project avoid: they hide who does something, or are no plain English."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLACES = (
    "src",
    "docs",
    "spec",
    "examples",
    "bench",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "clients/js/src",
    "tests",
)

DATA = {
    "tests/interop/harness.py": {"anybody", "is told", "nobody", "somebody"},  # names of its cases
    "tests/system/cli/test_dispatch.py": {"nobody"},  # an id
    "tests/system/cli/test_outbox.py": {"nobody"},  # an id
    "tests/system/cli/test_request.py": {"nobody"},  # an id
    "tests/system/client/conftest.py": {"somebody"},  # the name of a user
    "tests/system/client/test_authenticating.py": {"somebody"},  # the name of a user
    "tests/system/mesa1/test_declaring.py": {"meanwhile"},  # a message
    "tests/system/mesa1/test_nodes.py": {"meanwhile"},  # a message
    "tests/system/mesa1/test_strange_keys.py": {"meanwhile"},  # a message
    "tests/system/portal/test_handling.py": {"nobody"},  # an id
    "tests/system/redis/test_bounds.py": {"nobody"},  # an id
    "tests/system/redis/test_bus.py": {"nobody"},  # a user of Redis
    "tests/system/redis/test_changes.py": {"nobody"},  # a password
    "tests/system/redis/test_healing.py": {"nobody"},  # a password
    "tests/system/redis/test_import.py": {"nobody"},  # an id
    "tests/unit/http_server/test_routes.py": {"nobody"},  # an id
}
"""Words that are data of tests, in which names and comments avoid them."""

TEXTS = {".css", ".html", ".js", ".json", ".lua", ".md", ".mjs", ".py", ".ts", ".tsx"}

AVOIDED = re.compile(
    r"\b(whoever|somebody|anybody|nobody|meanwhile|anew|is_told|lets?_go_of|once_more)\b".replace(
        "_", r"[\s#*/-]+"
    ),
    re.IGNORECASE,
)
"""Words may stand on two lines of a comment."""


def texts() -> Iterator[Path]:
    """Yield all files with texts but this one, whose words are its subject."""
    for place in PLACES:
        path = ROOT / place
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in files if file.suffix in TEXTS and file != Path(__file__))


def avoided(text: str) -> list[tuple[int, str]]:
    """Return the line of each match, and its words."""
    return [
        (text.count("\n", 0, found.start()) + 1, " ".join(re.findall(r"\w+", found[0])))
        for found in AVOIDED.finditer(text)
    ]


def test_the_texts_avoid_these_words() -> None:
    found = [
        f"{file}:{line} says {words!r}; name who does it, and use plain words"
        for path in texts()
        for line, words in avoided(path.read_text("utf-8"))
        if words.lower() not in DATA.get(file := path.relative_to(ROOT).as_posix(), ())
    ]
    assert not found, "\n".join(found)


def test_the_data_of_tests_has_these_words() -> None:
    used = {file: {words for _, words in avoided((ROOT / file).read_text("utf-8"))} for file in DATA}
    assert {file: {word.lower() for word in words} for file, words in used.items()} == DATA


def test_every_place_has_texts() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in texts()]
    assert [place for place in PLACES if not any(file.startswith(place) for file in files)] == []
    assert len(files) > 800


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\n# Nobody waits.\n", [(2, "Nobody")]),
        ("it lets\n    # go of it, once\n * more", [(1, "lets go of"), (2, "once more")]),
        (
            "what the client is told, and whoever let go of it",
            [(1, "is told"), (1, "whoever"), (1, "let go of")],
        ),
        ("the client is_told, renewed, nobodys, analysis told, once moreover", []),
    ],
)
def test_a_word_to_avoid_is_found_with_its_line(text: str, complaint: list[tuple[int, str]]) -> None:
    assert avoided(text) == complaint
