"""How results look."""

import io
import json
import logging
import sys

import pytest

from mesa_ws.cli.config import Log
from mesa_ws.cli.output import compact, console, escaped, print_receipt, receipt_document
from mesa_ws.cli.process import JsonFormatter, start_logging
from mesa_ws.messages.receipt import Delivery, Receipt

RECEIPT = Receipt(
    "abc",
    {"[red]1": Delivery(False, 2, None), "2": Delivery(False, 0, "offline"), "3": Delivery(True, 0, None)},
    1,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_characters_from_outside_are_shown_as_escapes() -> None:
    assert escaped("a\x1b[31m\nb\x9b") == "a\\x1b[31m\\nb\\x9b"


def test_data_from_outside_is_shown_on_one_line() -> None:
    assert compact({"a": "ä\n\x9b"}) == '{"a":"ä\\n\\x9b"}'


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert console().color_system is not None
    assert not console().no_color


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert console().no_color


def test_a_file_gets_neither_colours_nor_cut_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[red]" + "x" * 100)
    assert capsys.readouterr().out == "x" * 100 + "\n"


def test_a_receipt_is_a_row_for_each_id(capsys: pytest.CaptureFixture[str]) -> None:
    print_receipt(RECEIPT, 1.26)
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows == [["[red]1", "2", "sent"], ["2", "0", "dropped: offline"], ["3", "0", "stored"]]
    assert text.endswith("message abc handed to 1 server in 1.3 ms\n")


def test_a_receipt_for_everybody_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_receipt(Receipt("abc", {}, 2), 1.0)
    assert capsys.readouterr().out == "message abc handed to 2 servers in 1.0 ms\n"


def test_a_receipt_as_json() -> None:
    document = receipt_document(Receipt("abc", {"2": Delivery(False, 0, "offline")}, 0), 5.0, 1.23456)
    assert document == {
        "message_id": "abc",
        "nodes": 0,
        "deliveries": {
            "2": {"stored": False, "online": 0, "dropped": "offline", "position": None, "displaced": 0}
        },
        "dispatched_at": 5.0,
        "took_ms": 1.235,
    }


def test_a_log_record_as_json_is_one_line() -> None:
    try:
        raise ValueError("x")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "", 1, "two\nlines %d", (5,), sys.exc_info())
    line = JsonFormatter().format(record)
    document = json.loads(line)
    assert "\n" not in line
    assert document["time"].endswith("+00:00")
    assert (document["level"], document["logger"], document["message"]) == ("error", "a.b", "two\nlines 5")
    assert document["error"].endswith("ValueError: x")


def test_logging_that_an_application_has_set_up_is_left_alone() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    assert handlers, "the test runner has its own"
    start_logging(Log(level="debug"))()
    assert (root.handlers, root.level) == (handlers, level)
