"""`manage.py realtime`: the server that users are connected to. Run as many as you like."""

from typing import Any

from django.conf import settings
from django.contrib.auth import models
from django.core.management.base import BaseCommand, CommandParser
from django.core.signing import BadSignature
from django.db import close_old_connections

from mesa_ws import Connection, Refused, Server, User
from orders.realtime import NAMESPACE, user_id_of

server = Server(
    settings.REDIS, namespace=NAMESPACE, sync=True, portals=True, authentication={"required": True}
)


@server.authenticator
def authenticate(data: dict[str, str], _: Connection) -> User:  # `def`: the ORM may be used, in a thread
    close_old_connections()
    try:
        user = models.User.objects.get(pk=user_id_of(data["token"]), is_active=True)
    except (KeyError, TypeError, BadSignature, models.User.DoesNotExist) as error:
        raise Refused("sign in again") from error
    finally:
        close_old_connections()
    return User(str(user.pk), {"name": user.username})


class Command(BaseCommand):
    help = "Serve WebSockets."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=4000)

    def handle(self, *_: Any, port: int, **__: Any) -> None:
        server.run("127.0.0.1", port, on_start=lambda endpoint: print("clients at", endpoint.url, flush=True))
