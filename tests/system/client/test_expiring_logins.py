"""A client whose login ends authenticates again before, if a function makes it another token."""

import asyncio

from .conftest import meet, meet_user
from .scripted import ScriptedServer, Visitor, message
from .test_refused_tokens import Tokens


async def accept(guest: Visitor, expires: float | None = None) -> int:
    """Accept the authentication that comes next; return its token."""
    token: int = (await guest.authentication())["token"]
    await guest.send(op=22, d={"id": "1", "token": token}, x={} if expires is None else {"expires": expires})
    return token


async def test_it_authenticates_again_in_place_with_new_tokens(scripted: ScriptedServer) -> None:
    client, tokens = scripted.client(), Tokens()
    guest = await meet(scripted, client, v=2)
    attempt = asyncio.create_task(client.authenticate(tokens))
    assert [await accept(guest, 0.01) for _ in range(3)] == [1, 2, 3]
    assert await accept(guest) == 4
    assert (await attempt)["token"] == 1
    await guest.dispatch("AFTER")
    assert (await anext(client)).type == "AFTER"
    assert tokens.made == 4
    await client.aclose()


async def test_a_fixed_token_is_not_sent_again(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client, v=2)
    attempt = asyncio.create_task(client.authenticate({"token": 1}))
    await accept(guest, 0.01)
    await attempt
    await client.send(message("LAST"))
    assert (await guest.receive())["t"] == "LAST"
    await guest.close(4004)
    assert await accept(await scripted.guest(v=2)) == 1
    await client.aclose()


async def test_a_function_that_fails_costs_no_connection(scripted: ScriptedServer) -> None:
    client, errors = scripted.client(), asyncio.Queue[Exception]()
    client.on_error(errors.put_nowait)
    tokens = Tokens()

    def make() -> dict[str, int]:
        if tokens.made == 1:
            tokens()
            raise RuntimeError("the identity provider is away")
        return tokens()

    guest = await meet(scripted, client, v=2)
    attempt = asyncio.create_task(client.authenticate(make))
    await accept(guest, 0.01)
    await attempt
    assert "the identity provider is away" in str(await errors.get())
    await client.send(message("STILL HERE"))
    assert (await guest.receive())["t"] == "STILL HERE"
    await guest.close(4004)
    assert await accept(await scripted.guest(v=2)) == 3
    await client.aclose()


async def test_after_the_end_it_comes_back_with_another_token(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, Tokens())
    await guest.close(4004, "login expired")
    assert await accept(await scripted.guest(v=2)) == 2
    await client.aclose()
