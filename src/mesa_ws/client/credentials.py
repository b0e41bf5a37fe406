"""What a client authenticates with, now and whenever it comes back."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..calling import Handler
from ..errors import InvalidMessage

AuthenticationData = Mapping[str, Any] | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""The data itself, or a function that makes it anew each time: `def` or `async def`."""

Call = Callable[[Handler], Awaitable[Any]]
"""Calls a function of the application, and waits for its result."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One way to authenticate; equal ones make the same user.

    Args:
        data: for the authenticator of the server.
        should_sync: whether messages stored for this user shall be delivered.
        timeout: seconds to wait for the answer.
    """

    data: AuthenticationData
    should_sync: bool
    timeout: float = field(compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.data, Mapping):
            object.__setattr__(self, "data", dict(self.data))
        elif not callable(self.data):
            raise InvalidMessage(
                f"authentication data: expected a mapping or a function, got {type(self.data).__name__}"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether the data is the same at every attempt."""
        return isinstance(self.data, Mapping)

    async def resolve(self, call: Call) -> Mapping[str, Any]:
        """Return the data to send, as of now; errors of the application's function are its caller's.

        Args:
            call: calls that function.
        """
        if isinstance(self.data, Mapping):
            return self.data
        data: Mapping[str, Any] = await call(self.data)
        return data
