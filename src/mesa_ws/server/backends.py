"""Which backend a node shares with others."""

from ..backend.base import Backend
from ..backend.memory import MemoryBackend
from ..backend.mesa1 import ImportingBackend, Mesa1Backend
from ..backend.redis import Given, RedisBackend
from ..errors import InvalidSettings
from ..settings import ServerSettings


def backend_of(given: Backend | Given | None, settings: ServerSettings) -> Backend:
    """The backend that a user gave, or said where it is.

    Raises:
        InvalidSettings: it is none, and says none; or it is not of the wire that was asked for.
    """
    _check_wire(given, settings)
    backend = _found(given, settings)
    if isinstance(backend, Mesa1Backend):
        backend.distribute_load = settings.portals.distribute_load
    return backend


def _found(given: Backend | Given | None, settings: ServerSettings) -> Backend:
    if given is None:
        return MemoryBackend(namespace=settings.namespace)
    if isinstance(given, Backend):
        return given
    try:
        return _kind(settings)(given, namespace=settings.namespace)
    except InvalidSettings as error:
        if error.field != "redis":
            raise
        raise InvalidSettings("backend", f"None, a Backend, or {error.expected}", error.got) from None


def _kind(settings: ServerSettings) -> type[RedisBackend] | type[Mesa1Backend]:
    if settings.wire == "mesa1":
        return Mesa1Backend
    return ImportingBackend if settings.import_from_1x else RedisBackend


def _check_wire(given: Backend | Given | None, settings: ServerSettings) -> None:
    is_address = given is not None and not isinstance(given, Backend)
    if settings.import_from_1x and (settings.wire != "native" or not is_address):
        raise InvalidSettings("import_from_1x", "False without wire 'native' and a Redis", True)
    if settings.wire == "mesa1" and not (is_address or isinstance(given, Mesa1Backend)):
        raise InvalidSettings("backend", "a Redis URI (--redis), or a Mesa1Backend, with wire 'mesa1'", given)
    if settings.wire == "mesa1" and settings.portals.types is not None:
        raise InvalidSettings(
            "portals.types",
            "None with wire 'mesa1', which tells portals of everything",
            settings.portals.types,
        )
    if settings.wire == "native" and isinstance(given, Mesa1Backend):
        raise InvalidSettings("wire", "'mesa1' with a Mesa1Backend", settings.wire)
