"""The arguments of `mesa dispatch`, as far as they are wrong without any server."""

import pytest

from .conftest import Command

TO_NOBODY = ("--all", "--key", "0123456789abcdef", "--url", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": }', """invalid character at line 1, column 7, after '{"a": '"""),
        ('{\n"a": 1,\n"b" 2}', "expected ':' at line 3, column 5"),
        ('{"a": 1', """the beginning of it: '{"a": 1' ends too early"""),
        ('{"long": "0123456789"', """the beginning of it: '...g": "0123456789"' ends too early"""),
        ("", "nothing"),
        ("nan", "the beginning of it: 'nan' ends too early"),
        ("hello", "invalid character at line 1, column 1, after ''; text needs double quotes of its own"),
        ("[" * 200_000, "it nested too deep"),
        ("'\udcff'", "invalid character at line 1, column 1, after ''"),
        ('"\udcff"', "bytes that are not UTF-8, such as 0xff"),
    ],
)
def test_json_that_is_none_is_shown_where_it_is_wrong(mesa: Command, text: str, problem: str) -> None:
    result = mesa("dispatch", "TYPE", "-", *TO_NOBODY, stdin=text.encode("utf-8", "surrogateescape"))
    assert result.exit_code == 2
    assert f"Invalid value for JSON: expected JSON, got {problem}" in result.stderr


def test_json_with_a_name_that_stands_twice_is_refused(mesa: Command) -> None:
    result = mesa("dispatch", "TYPE", '{"a": {"7": 1, "7": 2}}', *TO_NOBODY)
    assert result.exit_code == 2
    assert "Invalid value for JSON: expected each name once in an object, got '7' twice" in result.stderr


def test_json_stands_on_the_command_line(mesa: Command) -> None:
    result = mesa("dispatch", "TYPE", "{", *TO_NOBODY)
    assert "Invalid value for JSON" in result.stderr


def test_without_recipients_nothing_is_sent_and_the_choices_are_told(mesa: Command) -> None:
    result = mesa("dispatch", "TYPE", "1", "--key", "0123456789abcdef")
    assert result.exit_code == 2
    assert "expected recipients, got none; --to 1,2 names clients by their id, --all means" in result.stderr


def test_everybody_and_some_is_a_contradiction(mesa: Command) -> None:
    result = mesa("dispatch", "TYPE", "1", "--all", "--to", "1", "--key", "0123456789abcdef")
    assert result.exit_code == 2
    assert "expected --to or --all, got both" in result.stderr


@pytest.mark.parametrize(
    ("option", "text", "problem"),
    [
        ("--to", "", "expected an id of 1 to 255 bytes of UTF-8, got 0 bytes"),
        ("--to", "1,,2", "expected an id of 1 to 255 bytes of UTF-8, got 0 bytes"),
        ("--to", '["a", 5]', "expected a JSON list of ids as text"),
        ("--to", "[", "expected a JSON list of ids as text"),
        ("--excluding", "*", "expected an id, got '*', which stands for everybody"),
    ],
)
def test_ids_that_are_none_are_told(mesa: Command, option: str, text: str, problem: str) -> None:
    result = mesa("dispatch", "TYPE", "1", *TO_NOBODY, option, text)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
    assert problem in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--opcode", "-1"], "opcode: expected an integer from 0 to"),
        (["--opcode", "2"], "opcode: expected one that the protocol does not use, got 2"),
        (["--namespace", "a b"], "namespace: expected 1 to 64 of"),
        (["--url", "http://"], "url: expected the http:// or https:// URL"),
    ],
)
def test_what_the_library_refuses_is_a_usage_error(mesa: Command, arguments: list[str], problem: str) -> None:
    result = mesa("dispatch", "TYPE", "1", *TO_NOBODY, *arguments)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_the_dispatch_api_needs_a_key(mesa: Command) -> None:
    result = mesa("dispatch", "TYPE", "1", "--all")
    assert result.exit_code == 2
    assert "Invalid value for '--key': expected the key that the server was started with" in result.stderr


def test_a_key_that_is_typed_for_redis_is_a_usage_error(mesa: Command) -> None:
    result = mesa(
        "dispatch", "TYPE", "1", "--all", "--url", "redis://127.0.0.1:1", "--key", "0123456789abcdef"
    )
    assert result.exit_code == 2
    assert "key: expected None with Redis" in result.stderr


def test_a_key_of_the_environment_is_not_meant_for_redis(
    mesa: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESA_API_KEY", "0123456789abcdef")
    result = mesa("dispatch", "TYPE", "1", "--all", "--url", "redis://127.0.0.1:1")
    assert result.exit_code == 1
    assert "no connection" in result.stderr


def test_a_server_that_is_away_is_one_line_and_exit_code_1(mesa: Command) -> None:
    result = mesa("dispatch", "TYPE", "1", *TO_NOBODY)
    assert result.exit_code == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: cannot connect to the dispatch API at http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["disconnect", "--all", "--code", "4100"],
            "ids with --to for a code or a reason, got --all or",
        ),
        (
            ["disconnect", "--to", "*", "--reason", "out"],
            "expected ids with --to for a code or a reason, got",
        ),
        (["disconnect", "--to", "1", "--excluding", "2", "--code", "4100"], "or --excluding"),
        (["disconnect", "--to", "1", "--code", "2999"], "code: expected 1000 to 1014"),
        (["disconnect", "--to", "1", "--reason", "x" * 124], "reason: expected text of up to 123 bytes"),
        (["disconnect", "--code", "4100"], "expected recipients, got none"),
        (["revoke"], "Missing option '--to'"),
        (["revoke", "--to", "*"], "ids: expected an id, got '*', which stands for everybody"),
        (["revoke", "--to", "1", "--issued-before", "nan"], "issued_before: expected seconds since 1970"),
        (["revoke", "--to", "1", "--issued-before", "now"], "'now' is not a valid float"),
        (["revoke", "--to", "1", "--reason", "x" * 124], "reason: expected text of up to 123 bytes"),
    ],
)
def test_an_order_that_cannot_be_given_is_a_usage_error(
    mesa: Command, arguments: list[str], problem: str
) -> None:
    result = mesa(*arguments, "--key", "0123456789abcdef", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert problem in result.stderr


@pytest.mark.parametrize("arguments", [["disconnect", "--code", "4100"], ["revoke"]])
def test_an_order_on_the_wire_of_1x_is_one_line_and_exit_code_1(mesa: Command, arguments: list[str]) -> None:
    result = mesa(*arguments, "--to", "1", "--wire", "mesa1", "--url", "redis://127.0.0.1:1")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: wire 'mesa1' has no disconnect and no revoke")
