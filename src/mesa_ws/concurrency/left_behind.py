"""The log line that names tasks and threads which go on although they were asked to end."""

import asyncio
import gc
import inspect
import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any
from weakref import WeakSet

MOST_NAMED = 10
"""Places that one log line names; it counts the others."""

_OURS = __name__.partition(".")[0]

_named: WeakSet["asyncio.Task[Any]"] = WeakSet()


def report_tasks(log: logging.Logger, tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Log the tasks that are not done, each task once in its life."""
    stuck = [task for task in tasks if not task.done() and task not in _named]
    _named.update(stuck)
    if stuck:
        log.error(
            "%s although cancelled, and %s left behind: %s",
            "1 task goes on" if len(stuck) == 1 else f"{len(stuck)} tasks go on",
            "is" if len(stuck) == 1 else "are",
            _listed(map(_place_of_task, stuck)),
        )


def report_threads(log: logging.Logger, threads: Iterable[threading.Thread]) -> None:
    """Log the threads that are still at work."""
    busy = list(threads)
    if busy:
        log.error(
            "%s still at work, and %s left behind: %s",
            "1 thread is" if len(busy) == 1 else f"{len(busy)} threads are",
            "is" if len(busy) == 1 else "are",
            _listed(map(_place_of_thread, busy)),
        )


def _listed(places: Iterable[str]) -> str:
    counted = Counter(places)
    named = [f"{place} ({count} times)" if count > 1 else place for place, count in counted.items()]
    rest = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _place_of_task(task: "asyncio.Task[Any]") -> str:
    """Return the application's outermost line in which the task waits."""
    return _place(list(_awaited(task.get_coro()))) or task.get_name()


def _place_of_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    places = []
    while frame is not None:
        places.append((frame.f_globals.get("__name__", ""), frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return _place(places[::-1]) or thread.name


def _awaited(coroutine: Any) -> Iterator[tuple[str, CodeType, int]]:
    """Yield the lines in which a coroutine waits, outermost first, through coroutines and generators."""
    while coroutine is not None:
        frame = next((each for name in _FRAMES if (each := getattr(coroutine, name, None))), None)
        if frame is not None:
            yield frame.f_globals.get("__name__", ""), frame.f_code, frame.f_lineno
        coroutine = _awaited_by(coroutine)


def _awaited_by(coroutine: Any) -> Any:
    """Return the coroutine or generator that another one waits for.

    Only the garbage collector knows it of the objects that `await` makes in between.
    """
    if type(coroutine).__name__ in _BETWEEN:
        return next((each for each in gc.get_referents(coroutine) if _has_frame(each)), None)
    return next((each for name in _WAITS if (each := getattr(coroutine, name, None))), None)


def _has_frame(value: object) -> bool:
    return inspect.iscoroutine(value) or inspect.isasyncgen(value) or inspect.isgenerator(value)


_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_WAITS = ("cr_await", "gi_yieldfrom", "ag_await")
_BETWEEN = {"coroutine_wrapper", "async_generator_asend", "async_generator_athrow"}


def _place(places: list[tuple[str, CodeType, int]]) -> str:
    """Describe the outermost place in the application, or else the innermost place."""
    for module, code, line in places:
        top = module.partition(".")[0]
        if top != _OURS and top not in sys.stdlib_module_names:
            return f"{code.co_qualname} ({code.co_filename}:{line})"
    return f"{places[-1][1].co_qualname} ({places[-1][1].co_filename}:{places[-1][2]})" if places else ""
