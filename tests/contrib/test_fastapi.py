"""`mesa_ws.contrib.fastapi`: one dispatcher for each run of an application."""

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request

from mesa_ws import AsyncDispatcher, MemoryHub, MesaError, Message
from mesa_ws.contrib.fastapi import dispatcher_lifespan, dispatcher_of


def request(state: Any) -> Request:
    return Request({"type": "http", "headers": [], "state": state})


async def test_each_run_of_an_application_has_a_dispatcher_which_is_closed_at_its_end() -> None:
    lifespan, made = dispatcher_lifespan(MemoryHub(), namespace="shop", sync=True), []
    for _ in range(2):
        async with lifespan(FastAPI()) as state:
            dispatcher = dispatcher_of(request(state))
            assert isinstance(dispatcher, AsyncDispatcher)
            receipt = await dispatcher.dispatch(Message(0, None, "HI"), ["1"])
            assert receipt.deliveries["1"].stored
            made.append(dispatcher)
        with pytest.raises(MesaError):
            await dispatcher.dispatch(Message(0, None, "HI"), ["1"])
    assert made[0] is not made[1]


async def test_an_application_without_a_dispatcher_says_what_to_do() -> None:
    with pytest.raises(MesaError, match=r"FastAPI\(lifespan=dispatcher_lifespan\(...\)\)"):
        dispatcher_of(request({}))
