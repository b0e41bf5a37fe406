"""`manage.py runmesa`: the server that users are connected to."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ..... import Endpoint
from .....errors import BackendError, ListenFailed
from ...configuration import make_server


class Command(BaseCommand):
    """Run the server of the setting `MESA`."""

    help = "Serve WebSockets, by the setting MESA. Run as many as you like on one Redis."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where to listen."""
        parser.add_argument("--host", default="127.0.0.1", help="Default: 127.0.0.1")
        parser.add_argument("--port", type=int, default=4000, help="0 for a free one. Default: 4000")
        parser.add_argument("--path", default=None, help="The path of WebSockets. Default: any")

    def handle(self, *_: Any, host: str, port: int, path: str | None, **__: Any) -> None:
        """Run until a signal."""
        try:
            make_server().run(host, port, path=path, on_start=self._announce)
        except (BackendError, ListenFailed) as error:
            raise CommandError(str(error)) from error

    def _announce(self, endpoint: Endpoint) -> None:
        self.stdout.write(f"clients at {endpoint.url}")
        self.stdout.flush()
