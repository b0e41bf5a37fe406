"""The page about threats names every limit of the code, with its default, and the metric that counts it."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from mesa_ws import Server
from mesa_ws.cli.config import SETTINGS, Setting
from mesa_ws.close import CloseCode
from mesa_ws.http_server import counts
from mesa_ws.http_server.counts import ApiCounts
from mesa_ws.middleware.prometheus import PrometheusMetrics
from mesa_ws.server import connection_limits, send_queue, slow_readers
from mesa_ws.settings import ClientSettings, Settings, features

PAGE = (Path(__file__).parents[3] / "docs/explanation/threat-model.md").read_text(encoding="utf-8")
THREATS, BOUNDS, _ = re.split(r"^## (?:The bounds|What is not bounded)$", PAGE, flags=re.MULTILINE)
ROWS = {
    path: [cell.strip() for cell in cells.split(" | ")]
    for path, cells in re.findall(r"^\| `([a-z_.]+)` \|(.*)\|$", BOUNDS, re.MULTILINE)
}
LINKS = set(re.findall(r"\[`([a-z_.]+)`\]\(\.\./reference/configuration\.md#([a-z]+)\)", THREATS))

COUNTING = (connection_limits, send_queue, slow_readers, counts)

CLASSES = ("Limits", "Rates")
"""Ends of the names of classes whose numbers are all limits."""

NAMES = re.compile(r"(?:^|_)(?:max|most|timeout|bytes)(?:_|$)")
"""Words in the names of limits that are settings of other classes."""


def is_limit(setting: Setting) -> bool:
    """Whether a setting is a number beyond which something is refused, closed, dropped or not read."""
    declared = [
        each.__name__ for each in setting.owner.__mro__ if setting.name in each.__dict__.get("__slots__", ())
    ]
    return _is_number(setting.type) and (declared[-1].endswith(CLASSES) or bool(NAMES.search(setting.name)))


def _is_number(kind: object) -> bool:
    kinds = msgspec.inspect.type_info(kind)
    parts = kinds.types if isinstance(kinds, msgspec.inspect.UnionType) else (kinds,)
    plain = [part.type if isinstance(part, msgspec.inspect.Metadata) else part for part in parts]
    return any(isinstance(part, msgspec.inspect.IntType | msgspec.inspect.FloatType) for part in plain)


LIMITS = {path for path, setting in SETTINGS.items() if is_limit(setting)}


def classes(base: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for each in base.__subclasses__():
        yield each
        yield from classes(each)


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """Names of all metrics, as Prometheus gets them."""
    registry = CollectorRegistry()
    PrometheusMetrics(Server(), registry)
    families = list(registry.collect())
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    return names | {family.full_name for family in ApiCounts().families()}


def test_every_limit_of_the_code_has_a_row() -> None:
    assert set(ROWS) == LIMITS


def test_every_limit_bounds_what_somebody_can_cost() -> None:
    assert {path for path, _ in LINKS} >= LIMITS


def test_every_class_of_limits_can_be_configured() -> None:
    of_servers = set(classes()) - set(features(ClientSettings).values())
    limits = {each for each in of_servers if each.__name__.endswith(CLASSES)}
    assert {each.__name__ for each in limits} >= {"Limits", "ApiLimits"}
    names = {setting.name for setting in SETTINGS.values()}
    assert {field for each in limits for field in each.__struct_fields__} <= names


def test_every_setting_that_is_named_exists_and_is_linked_to_its_table() -> None:
    assert {path for path, _ in LINKS} <= set(SETTINGS)
    assert {path.partition(".")[0] for path, _ in LINKS} >= {"limits", "api"}
    tables = {path: path.rpartition(".")[0] or "server" for path, _ in LINKS}
    assert {(path, table) for path, table in LINKS if tables[path] != table} == set()


@pytest.mark.parametrize("path", ROWS)
def test_a_row_has_the_default_of_the_code(path: str) -> None:
    default = SETTINGS[path].default
    assert ROWS[path][0].strip("`") == ("" if default is None else json.dumps(default))


@pytest.mark.parametrize("path", ROWS)
def test_a_row_names_a_metric_that_exists_or_says_why_there_is_none(path: str, metrics: set[str]) -> None:
    _, beyond, counted = ROWS[path]
    found = re.findall(r'`(mesa_\w+)(?:\{(\w+)="(\w+)"\})?`', counted)
    assert found or re.fullmatch(r"none: .{9,}", counted)
    assert {name for name, _, _ in found} <= metrics
    for _, label, value in found:
        if label == "code":
            assert int(value) in set(CloseCode)
            assert value in beyond
        if label == "limit":
            assert value == SETTINGS[path].name
            assert any(f'"{value}"' in inspect.getsource(module) for module in COUNTING)
