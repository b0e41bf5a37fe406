"""A Mesa server: who clients are, and what happens with what they send."""

from mesa_ws import Connection, Message, Server, User

server = Server()  # alone; Server("redis://localhost:6379") is one of many


@server.authenticator
async def authenticate(data: dict[str, str], _: Connection) -> User | None:
    # Look the token up in your own system here. None turns the client away.
    return User(data["id"]) if data.get("token") == "let me in" else None


@server.on_message("PING")
async def ping(message: Message, connection: Connection) -> None:
    connection.send(Message(0, {"hello": connection.id}, "PONG"))


if __name__ == "__main__":
    server.run("127.0.0.1", 4000)
