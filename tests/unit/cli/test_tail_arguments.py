"""The arguments of `mesa tail`, as far as they are wrong without any server."""

import pytest

from .conftest import Command


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--id", "1", "--token", "t"], "expected one of --id, --token and --auth, got --id and --token"),
        (["--auth", "{"], "Invalid value for --auth: expected JSON, got the beginning of it"),
        (["--auth", "[1]"], "Invalid value for --auth: expected a JSON object, got [1]"),
        (["--url", "http://x"], "url: expected a URL such as ws://localhost:4000"),
        (["--count", "0"], "Invalid value for '--count'"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(mesa: Command, arguments: list[str], problem: str) -> None:
    result = mesa("tail", *arguments)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_server_that_is_away_is_one_line_and_exit_code_1(mesa: Command) -> None:
    result = mesa("tail", "--url", "ws://127.0.0.1:1")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: cannot connect to ws://127.0.0.1:1")
