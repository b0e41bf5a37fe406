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
)

TEXTS = {".css", ".html", ".js", ".json", ".lua", ".md", ".mjs", ".py", ".ts", ".tsx"}

AVOIDED = re.compile(
    r"\b(whoever|somebody|anybody|nobody|meanwhile|anew|is_told|lets?_go_of|once_more)\b".replace(
        "_", r"[\s#*/-]+"
    ),
    re.IGNORECASE,
)
"""Words may stand on two lines of a comment."""


def texts() -> Iterator[Path]:
    for place in PLACES:
        path = ROOT / place
        yield from (
            (file for file in sorted(path.rglob("*")) if file.suffix in TEXTS) if path.is_dir() else [path]
        )


def avoided(text: str) -> list[tuple[int, str]]:
    """Return the line of each match, and its words."""
    return [
        (text.count("\n", 0, found.start()) + 1, " ".join(re.findall(r"\w+", found[0])))
        for found in AVOIDED.finditer(text)
    ]


def test_the_texts_avoid_these_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} says {words!r}; name who does it, and use plain words"
        for path in texts()
        for line, words in avoided(path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


def test_every_place_has_texts() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in texts()]
    assert [place for place in PLACES if not any(file.startswith(place) for file in files)] == []
    assert len(files) > 250


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
