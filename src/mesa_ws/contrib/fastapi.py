"""A dispatcher in a FastAPI application, for as long as it runs.

```python
app = FastAPI(lifespan=dispatcher_lifespan("redis://localhost:6379", namespace="shop", sync=True))


@app.post("/greetings/{id}")
async def greet(id: str, dispatcher: Dispatching) -> None:
    await dispatcher.dispatch(Message(0, {"text": "hi"}, "GREETING"), [id])
```
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, ParamSpec

from fastapi import Depends
from starlette.requests import HTTPConnection

from .. import AsyncDispatcher
from ..errors import MesaError

Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, AsyncDispatcher]]]
"""What FastAPI and Starlette take as `lifespan`."""

STATE = "mesa_dispatcher"
"""Where the dispatcher is in the state of the lifespan."""

_Arguments = ParamSpec("_Arguments")


def _lifespan_with(
    make: Callable[_Arguments, AsyncDispatcher],
) -> Callable[_Arguments, Lifespan]:
    def dispatcher_lifespan(*args: _Arguments.args, **options: _Arguments.kwargs) -> Lifespan:
        @asynccontextmanager
        async def lifespan(_: Any) -> AsyncIterator[dict[str, AsyncDispatcher]]:
            async with make(*args, **options) as dispatcher:
                yield {STATE: dispatcher}

        return lifespan

    return dispatcher_lifespan


dispatcher_lifespan = _lifespan_with(AsyncDispatcher)
"""Return a lifespan that makes an `AsyncDispatcher` with the same arguments, and closes it at the end.

An application with a lifespan of its own enters it there, and yields its state with its own:
`async with dispatcher_lifespan(url)(app) as state: yield {**state, "database": database}`.
"""


def dispatcher_of(connection: HTTPConnection) -> AsyncDispatcher:
    """Return the dispatcher of the application that a request or a WebSocket belongs to.

    A test replaces it: `app.dependency_overrides[dispatcher_of] = lambda: dispatcher`.

    Raises:
        MesaError: the application has none.
    """
    dispatcher: AsyncDispatcher | None = getattr(connection.state, STATE, None)
    if dispatcher is None:
        raise MesaError(
            "expected a dispatcher in the state of the application, got none; make it with "
            "FastAPI(lifespan=dispatcher_lifespan(...))"
        )
    return dispatcher


Dispatching = Annotated[AsyncDispatcher, Depends(dispatcher_of)]
"""Annotates a parameter that gets the dispatcher."""
