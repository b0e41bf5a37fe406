"""The handlers of one kind, in the order in which they are called."""

from typing import TypeVar

T = TypeVar("T")


class Calls(list[T]):
    """The application's own handlers, then those of middleware; each in the order of registration.

    Looked into while the server runs, so that what nobody listens to costs nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_middleware = 0

    def append(self, handler: T) -> None:
        """Add a handler of the application's."""
        self.insert(len(self) - self._of_middleware, handler)

    def append_last(self, handler: T) -> None:
        """Add a hook of a middleware's."""
        self._of_middleware += 1
        super().append(handler)
