"""`mesa serve`: a server as a process of its own."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import click

from ..admin.api import DispatchApi
from ..backend.redis import Address
from ..errors import BackendRefused, BackendUnavailable
from ..middleware.logs import MessageLogging
from ..transports.serve import Endpoint, Server
from ..version import __version__
from .application import application_server
from .authentication import authenticator_of
from .config.resolve import resolve
from .config.schema import Api, Configuration
from .flags import given_flags, setting_flags
from .logs import start_logging
from .output import escaped, print_json


@click.command()
@click.argument("application", metavar="[APP:server]", required=False)
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
def serve(context: click.Context, application: str | None, file: Path | None, as_json: bool) -> None:
    """Run a server until SIGINT, SIGTERM or SIGQUIT.

    APP:server is the Server object of your application, such as main:server; its own settings
    stand. Without it, clients authenticate by a token that you sign with a shared secret
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
    found = application_server(application, resolved) if application is not None else None
    log_everything = start_logging(configuration.log)
    key = configuration.api.key or secrets.token_urlsafe(24)
    server, api = build(configuration, found, key)

    def announce(endpoint: Endpoint) -> None:
        if api and configuration.api.key is None:
            click.echo(f"dispatch key of this run: {key}  (MESA_API_KEY sets one that stays)", err=True)
        redis = Address.of(configuration.redis).label if configuration.redis and not application else None
        _announce(endpoint, api, redis, as_json)
        log_everything()

    redis_from = resolved.given["redis"].where if "redis" in resolved.given and not application else None
    _run(server, configuration, api, announce, redis_from)


def build(configuration: Configuration, found: Server | None, key: str) -> tuple[Server, DispatchApi | None]:
    """Make what `mesa serve` runs, without starting it.

    Args:
        configuration: what was asked for.
        found: the server of an application; None to make one.
        key: of the dispatch API.

    Raises:
        UsageError: clients have no way to say who they are, or one that would let anybody be anybody.
        InvalidInput: a setting, or two together, cannot be used.
        Unsupported: this version does not have what is asked for.
    """
    server = found or _own_server(configuration)
    if configuration.log.messages:
        server.use(MessageLogging)
    return server, _api(server, key, configuration.api)


def _own_server(configuration: Configuration) -> Server:
    authenticator = authenticator_of(configuration)
    server = Server(configuration.redis, **configuration.server_options)
    server.authenticator(authenticator)
    return server


def _api(server: Server, key: str, settings: Api) -> DispatchApi | None:
    if not settings.enabled:
        return None
    return DispatchApi(server, key=key, host=settings.host, port=settings.port, max_body=settings.max_body)


def _run(
    server: Server,
    settings: Configuration,
    api: DispatchApi | None,
    announce: Callable[[Endpoint], None],
    redis_from: str | None,
) -> None:
    services = [api] if api else []
    try:
        server.run(settings.host, settings.port, *services, path=settings.path, on_start=announce)
    except BackendUnavailable as error:
        # Whether a message was sent is no question when a server starts.
        where = f" (address: {redis_from})" if redis_from else ""
        raise click.ClickException(escaped(error.problem) + where) from error
    except BackendRefused as error:
        where = f" (address: {redis_from})" if redis_from else ""
        raise click.ClickException(escaped(str(error)) + where) from error


def _announce(endpoint: Endpoint, api: DispatchApi | None, redis: str | None, as_json: bool) -> None:
    api_url = api.url if api else None
    if as_json:
        print_json({"url": endpoint.url, "api_url": api_url, "redis": redis, "version": __version__})
        return
    parts = [f"clients at {endpoint.url}", f"dispatch at {api_url}" if api_url else "no dispatch API"]
    if redis:
        parts.append(f"through {redis}")
    click.echo(f"mesa {__version__}: {', '.join(parts)}")
