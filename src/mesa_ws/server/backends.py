"""Which backend a node shares with others."""

from ..backend.base import Backend
from ..backend.memory import MemoryBackend
from ..backend.redis import Given, RedisBackend
from ..errors import InvalidSettings
from ..settings import ServerSettings


def backend_of(given: Backend | Given | None, settings: ServerSettings) -> Backend:
    """The backend that a user gave, or said where it is.

    Raises:
        InvalidSettings: it is none, and says none.
    """
    if given is None:
        return MemoryBackend(namespace=settings.namespace)
    if isinstance(given, Backend):
        return given
    try:
        return RedisBackend(given, namespace=settings.namespace)
    except InvalidSettings as error:
        if error.field != "redis":
            raise
        raise InvalidSettings("backend", f"None, a Backend, or {error.expected}", error.got) from None
