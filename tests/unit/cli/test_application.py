"""Finding the server of an application."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mesa_ws.cli.config import GivenValue, resolve
from mesa_ws.cli.serve import application_server
from mesa_ws.errors import InvalidInput, InvalidSettings

NOTHING = resolve({}, {})

APPLICATION = """
from mesa_ws.transports.run import Server

server = Server(namespace="app")

class holder:
    inner = server
"""


@pytest.fixture(autouse=True)
def fresh_imports(empty_directory: Path) -> Iterator[None]:
    """Modules of a test are its own."""
    known, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]
    sys.path[:] = path


def module(name: str, text: str) -> None:
    Path(f"{name}.py").write_text(text, encoding="utf-8")


def test_the_server_is_found_in_a_module_of_the_working_directory() -> None:
    module("app_one", APPLICATION)
    assert application_server("app_one:server", NOTHING).namespace == "app"


def test_the_server_may_be_an_attribute_of_an_attribute() -> None:
    module("app_one", APPLICATION)
    assert application_server("app_one:holder.inner", NOTHING).namespace == "app"


def test_the_server_may_be_in_a_package() -> None:
    Path("package").mkdir()
    module("package/app_one", APPLICATION)
    assert application_server("package.app_one:server", NOTHING).namespace == "app"


@pytest.mark.parametrize("name", ["app_one", "app_one:", ":server", ""])
def test_a_name_of_another_form_is_a_usage_error(name: str) -> None:
    with pytest.raises(click.UsageError, match="expected module:name, such as main:server, got"):
        application_server(name, NOTHING)


@pytest.mark.parametrize("name", ["nowhere:server", "nowhere.at.all:server"])
def test_a_module_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere.*: expected a module in .* got none of that name"):
        application_server(name, NOTHING)


def test_a_module_that_the_application_misses_is_the_applications_own_error() -> None:
    module("app_two", "import nowhere_else")
    with pytest.raises(ModuleNotFoundError, match="nowhere_else"):
        application_server("app_two:server", NOTHING)


def test_a_name_that_is_not_there_is_told() -> None:
    module("app_one", APPLICATION)
    with pytest.raises(InvalidInput, match=r"app_one:sever: expected a Server.*no 'sever' in app_one"):
        application_server("app_one:sever", NOTHING)


def test_what_is_no_server_is_told() -> None:
    module("app_one", APPLICATION)
    with pytest.raises(InvalidInput, match="app_one:holder: expected a Server, got type"):
        application_server("app_one:holder", NOTHING)


def test_wrong_settings_of_the_application_stay_what_they_are() -> None:
    module("app_three", "from mesa_ws.transports.run import Server\nserver = Server(heartbeat=5)")
    with pytest.raises(InvalidSettings, match="heartbeat"):
        application_server("app_three:server", NOTHING)


def test_a_flag_about_the_server_contradicts_the_application() -> None:
    flags = {"heartbeat.interval": GivenValue("--heartbeat-interval", 5.0)}
    with pytest.raises(
        click.UsageError, match=r"--heartbeat-interval: .* app:server has settings of its own"
    ):
        application_server("app:server", resolve(flags, {}))


def test_a_setting_of_the_server_in_the_file_contradicts_the_application() -> None:
    Path("mesa.toml").write_text('redis = "redis://localhost"', encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"mesa.toml: redis: .* app:server has settings of its own"):
        application_server("app:server", resolve({}, {}))


def test_where_to_listen_and_what_to_log_is_not_the_applications() -> None:
    module("app_one", APPLICATION)
    Path("mesa.toml").write_text('port = 0\n[api]\nport = 0\n[log]\nlevel = "error"', encoding="utf-8")
    resolved = resolve({"path": GivenValue("--path", "/ws")}, {"MESA_REDIS": "redis://localhost"})
    assert application_server("app_one:server", resolved).namespace == "app"
