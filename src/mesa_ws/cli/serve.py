"""`mesa serve` and `mesa check-config`: run a server as a process, or check its settings."""

import logging
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from os import getcwd
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click
import msgspec

from ..backend.redis import Address
from ..errors import BackendError, InvalidInput
from ..http_server.metrics import MetricsServer
from ..http_server.server import DispatchApi
from ..middleware.logs import MessageLogging
from ..transports.run import Endpoint, Portal, Server, Service
from ..version import __version__
from .config import DEFAULT_FILE, SECRETS, SETTINGS, Configuration, Resolved, resolve
from .options import given_flags, setting_flags
from .output import escaped, report
from .process import start_logging
from .tokens import authenticator_of

log = logging.getLogger("mesa_ws.server")

Found = TypeVar("Found", Server, Portal)

_OURS = frozenset({"host", "port", "path", "one_port", "gc_threshold", "metrics"})
"""Settings of the command itself, in addition to those of the tables below."""

_OUR_TABLES = ("api.", "log.")


def application_server(name: str, resolved: Resolved) -> Server:
    """Import the server of an application; the other settings must not change those of the server."""
    advice = f"{name} has settings of its own; set it there"
    for layer, problem in ((resolved.flags, click.UsageError), (resolved.file, InvalidInput)):
        for path, given in layer.items():
            if path not in _OURS and not path.startswith(_OUR_TABLES):
                raise problem(f"{given.where}: expected no setting of the server, got one; {advice}")
    return application(name, Server, "main:server")


def application(name: str, kind: type[Found], example: str) -> Found:
    """Import an object of an application, from the working directory first.

    Raises:
        UsageError: `name` is not `module:name`, as in `example`.
        InvalidInput: there is no such object, or it is of another kind.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        what = f"APP:{example.partition(':')[2]}"
        raise click.UsageError(f"{what}: expected module:name, such as {example}, got {name!r}")
    found: object = _module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InvalidInput(
                f"{name}: expected a {kind.__name__}, got nothing: there is no {part!r} in {module_name}"
            )
        found = getattr(found, part)
    if not isinstance(found, kind):
        raise InvalidInput(f"{name}: expected a {kind.__name__}, got {type(found).__name__}")
    return found


def _module(name: str) -> ModuleType:
    sys.path.insert(0, getcwd())
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise InvalidInput(
            f"{name}: expected a module in {getcwd()} or on the path, got none of that name"
        ) from error


@click.command()
@click.argument("name", metavar="[APP:server]", required=False)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar="MESA_CONFIG",
    help="TOML file with any of the settings; a flag beats the environment, which beats the file.  "
    "[MESA_CONFIG; default: mesa.toml, if it is there]",
)
@setting_flags
@click.option("--json", "as_json", is_flag=True, help="Print where it listens as JSON.")
@click.pass_context
def serve(context: click.Context, name: str | None, file: Path | None, as_json: bool) -> None:
    """Run a server until SIGINT, SIGTERM or SIGQUIT.

    APP:server is the Server object of your application, such as main:server; its own settings
    apply. Without it, clients authenticate by a token that you sign with a shared secret
    ({"token": "..."}; its sub is their id), or with --insecure-demo-auth by naming their id
    ({"id": "..."}).

    \b
    Try it:
      mesa serve --insecure-demo-auth --api-key 0123456789abcdef
      mesa tail --id 1
      mesa dispatch HELLO '{"text": "hi"}' --to 1 --key 0123456789abcdef
    """
    resolved = resolve(given_flags(context), os.environ, file)
    configuration = resolved.configuration
    # An application is imported first: the logging that it sets up is left alone.
    found = application_server(name, resolved) if name is not None else None
    log_everything = start_logging(configuration.log)
    key = _key_of(configuration)
    server, api = build(configuration, found, key)
    metrics = metrics_server(configuration, server)

    def announce(endpoint: Endpoint) -> None:
        if api and key != configuration.api.key:
            click.echo(f"dispatch key of this run: {key}  (MESA_API_KEY sets one that stays)", err=True)
        redis = Address.of(configuration.redis).label if configuration.redis and not name else None
        _announce(endpoint, api, metrics, redis, as_json)
        log_everything()
        _warn_of_guests(server, configuration)

    redis_from = resolved.given["redis"].where if "redis" in resolved.given and not name else None
    _run(server, configuration, [each for each in (api, metrics) if each], announce, redis_from)


def build(
    configuration: Configuration, found: Server | None, key: str | None
) -> tuple[Server, DispatchApi | None]:
    """Make the server, unless an application has made it, and its dispatch API; start neither."""
    if found is None:
        authenticator = authenticator_of(configuration)
        server = Server(configuration.redis, **configuration.server_options)
        server.authenticator(authenticator)
    else:
        server = found
    if configuration.log.messages:
        server.use(MessageLogging)
    api = configuration.api
    if not api.enabled:
        return server, None
    return server, DispatchApi(
        server,
        key=key,
        keys_file=api.keys_file,
        host=api.host,
        port=None if configuration.one_port else api.port,
        max_body=api.max_body,
        limits=api,
    )


def metrics_server(configuration: Configuration, server: Server) -> MetricsServer | None:
    """Make what serves Prometheus and probes on a port of their own, if that is wanted; do not start it."""
    if configuration.metrics is None:
        return None
    host, _, port = configuration.metrics.rpartition(":")
    return MetricsServer(server, host.strip("[]"), int(port))


def _key_of(configuration: Configuration) -> str | None:
    """Return the key with all rights: a random one where neither a key nor a file is given."""
    api = configuration.api
    return api.key if api.key or api.keys_file else secrets.token_urlsafe(24)


def _run(
    server: Server,
    settings: Configuration,
    services: Sequence[Service],
    announce: Callable[[Endpoint], None],
    redis_from: str | None,
) -> None:
    try:
        server.run(
            settings.host,
            settings.port,
            *services,
            path=settings.path,
            on_start=announce,
            gc_threshold=settings.gc_threshold,
        )
    except BackendError as error:
        # `problem` leaves out whether a message was sent: none is sent while a server starts.
        where = f" (address: {redis_from})" if redis_from else ""
        raise click.ClickException(escaped(error.problem) + where) from error


def _announce(
    endpoint: Endpoint,
    api: DispatchApi | None,
    metrics: MetricsServer | None,
    redis: str | None,
    as_json: bool,
) -> None:
    api_url, metrics_url = api.url if api else None, metrics.url if metrics else None
    parts = [f"clients at {endpoint.url}", f"dispatch at {api_url}" if api_url else "no dispatch API"]
    if metrics_url:
        parts.append(f"metrics at {metrics_url}")
    if redis:
        parts.append(f"through {redis}")
    document = {"url": endpoint.url, "api_url": api_url, "redis": redis, "version": __version__}
    if metrics_url:
        document["metrics_url"] = metrics_url
    report(f"mesa {__version__}: {', '.join(parts)}", document, as_json=as_json)


def _warn_of_guests(server: Server, configuration: Configuration) -> None:
    """Warn of messages to everybody that clients get without a login, unless any login is believed anyway."""
    is_demo = configuration.insecure_demo_auth or configuration.insecure_demo_auth_anywhere
    has_authenticator = server.handlers.authenticator is not None
    if has_authenticator and not server.settings.authentication.required and not is_demo:
        log.warning(
            "clients that have not logged in get messages to everybody, too; --auth-required keeps these for "
            "users, in an application Authentication(required=True)"
        )


_MASK = "***"


@click.command("check-config", short_help="Check the settings that `mesa serve` reads.")
@click.argument("name", metavar="[APP:server]", required=False)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar="MESA_CONFIG",
    help="The TOML file.  [MESA_CONFIG; default: mesa.toml, if it is there]",
)
@setting_flags
@click.option("--json", "as_json", is_flag=True, help="Print every setting as it would be, secrets masked.")
@click.pass_context
def check_config(context: click.Context, name: str | None, file: Path | None, as_json: bool) -> None:
    """Check the settings of `mesa serve`: the TOML file, the environment, and flags.

    Takes the same arguments as `mesa serve`, and imports the application if one is named. Prints ok, or
    what is wrong and where. It starts nothing and connects to nothing; only `mesa serve` finds out
    whether a port is free and whether Redis answers.
    """
    resolved = resolve(given_flags(context), os.environ, file)
    configuration = resolved.configuration
    found = application_server(name, resolved) if name is not None else None
    server, _ = build(configuration, found, _key_of(configuration))
    metrics_server(configuration, server)
    report(f"ok: {_sources(resolved, file)}", shown(configuration), as_json=as_json)


def shown(configuration: Configuration) -> dict[str, Any]:
    """Return the configuration as builtin types, without secrets."""
    settings: dict[str, Any] = msgspec.to_builtins(configuration)
    for path in SECRETS:
        table, _, name = path.partition(".")
        if settings[table][name] is not None:
            settings[table][name] = _MASK
    if configuration.redis is not None:
        settings["redis"] = Address.of(configuration.redis).label
    return settings


def _sources(resolved: Resolved, file: Path | None) -> str:
    named = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    variables = sum(1 for setting in SETTINGS.values() if os.environ.get(setting.variable))
    in_file = f"{len(resolved.file)} settings from {named}" if named else f"no {DEFAULT_FILE} here"
    flags = f", {len(resolved.flags)} from flags" if resolved.flags else ""
    return f"{in_file}, {variables} from the environment{flags}"
