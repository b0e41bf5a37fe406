"""A log that strangers cannot flood."""

import asyncio
import gc
import logging
import weakref

import pytest

from mesa_ws.concurrency import limited_log
from mesa_ws.concurrency.limited_log import MINUTE, LimitedLog

LOGGER = logging.getLogger("mesa_ws.server")


class Clock:
    """Time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock, caplog: pytest.LogCaptureFixture) -> LimitedLog:
    caplog.set_level(logging.INFO, LOGGER.name)
    return LimitedLog(LOGGER, clock)


def test_the_first_line_of_each_kind_is_logged_in_full(
    log: LimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        log.info("closing %d: %s", number, "bad frame", kind=1007)
        log.info("closing %d: %s", number, "too large", kind=1009)
        log.warning("refused %d", number)
    assert caplog.messages == ["closing 0: bad frame", "closing 0: too large", "refused 0"]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert {record.filename for record in caplog.records} == {"test_limited_log.py"}


def test_a_traceback_is_logged_once(log: LimitedLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        try:
            raise ValueError(number)
        except ValueError as error:
            log.exception("failed", kind=type(error))
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "0"


def test_the_others_are_counted_and_the_next_minute_begins_with_a_line_in_full(
    log: LimitedLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1235):
        log.warning("refused %d", number)
    clock.now += MINUTE - 1
    log.sum_up()
    assert caplog.messages == ["refused 0"]
    clock.now += 1
    log.warning("refused %d", 2000)
    assert caplog.messages[1:] == ["1 234 more like this in the last minute: refused 0", "refused 2000"]
    assert caplog.records[1].levelno == logging.WARNING


def test_a_kind_without_more_lines_is_forgotten_silently(
    log: LimitedLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    log.info("once")
    clock.now += MINUTE
    log.sum_up()
    log.close()
    assert caplog.messages == ["once"]
    log.info("once")
    assert caplog.messages == ["once", "once"]


def test_lines_below_the_level_of_the_log_cost_nothing(
    log: LimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.debug("invisible")
    log.debug("invisible")
    log.close()
    assert not caplog.messages


def test_closing_logs_the_counts(log: LimitedLog, caplog: pytest.LogCaptureFixture) -> None:
    log.info("refused %r", "x" * 300)
    log.info("refused %r", "y")
    log.close()
    log.close()
    assert caplog.messages[1:] == [f"1 more like this in the last minute: refused '{'x' * 191}"]


async def test_a_timer_sums_up_and_ends_when_nothing_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, LOGGER.name)
    monkeypatch.setattr(limited_log, "MINUTE", 0.02)
    log = LimitedLog(LOGGER)
    log.info("refused")
    log.info("refused")
    log.info("closed")
    async with asyncio.timeout(10):
        while len(caplog.messages) < 3:
            await asyncio.sleep(0.005)
    assert caplog.messages == ["refused", "closed", "1 more like this in the last minute: refused"]
    gone = weakref.ref(log)
    gc.disable()
    try:
        del log  # no timer holds it
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
