"""What handlers raise, sent to Sentry with who it happened to and never with what they said."""

import sentry_sdk

from mesa_ws import Connection, Middleware, Server


class SentryErrors(Middleware):
    async def on_error(self, error: Exception, connection: Connection | None) -> None:
        with sentry_sdk.new_scope() as scope:
            scope.set_tag("mesa.node", "chat")
            if connection is not None and connection.id is not None:
                scope.set_user({"id": connection.id})
            sentry_sdk.capture_exception(error)


server = Server()
server.use(SentryErrors)
