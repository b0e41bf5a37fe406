"""One setting: its names in the file and in the environment, and how text becomes its value."""

from typing import Any, NamedTuple, get_args

import msgspec

from ...settings import Hosts, Settings, Types
from .schema import TABLES, Configuration


class Setting(NamedTuple):
    """A value that `mesa serve` can be given.

    Attributes:
        path: its name in the file and in errors, such as `heartbeat.interval`.
        owner: the class it is a field of.
        name: the name of that field.
        type: what the field holds.
        default: its value where none of the settings of its table is given.
    """

    path: str
    owner: type[Settings]
    name: str
    type: Any
    default: Any

    @property
    def variable(self) -> str:
        """Its name in the environment, such as `MESA_HEARTBEAT_INTERVAL`."""
        return f"MESA_{self.path.upper().replace('.', '_')}"

    def check(self, value: object) -> None:
        """Check one value for itself.

        Raises:
            InvalidSettings: it is wrong.
            Unsupported: this version does not have what it asks for.
        """
        self.owner.of({self.name: value})

    def read(self, text: str) -> object:
        """Make a value of what stands on a command line or in the environment.

        `none` is no value, where a setting that is not text may have none. Text that makes no
        value is returned as it is, for `check` to refuse. Hosts and types have commas between them.
        """
        if self.clears_with(text):
            return None
        if self.type == (Types | None) or (self.type == Hosts and "," in text):
            return tuple(each.strip() for each in text.split(","))
        try:
            return msgspec.convert(text, self.type, strict=False)
        except msgspec.ValidationError:
            return text

    def clears_with(self, value: object) -> bool:
        """Whether `value` is the word for no value here; TOML has no other."""
        kinds = get_args(self.type)
        return type(None) in kinds and value == "none" and not any(_is_text(kind) for kind in kinds)


def _is_text(kind: Any) -> bool:
    return kind is str or getattr(kind, "__origin__", None) is str


def _settings() -> dict[str, Setting]:
    owners: dict[str, type[Settings]] = {"": Configuration, **TABLES}
    found = {}
    for table, owner in owners.items():
        defaults = owner()
        for field in msgspec.structs.fields(owner):
            path = f"{table}.{field.name}" if table else field.name
            if path not in TABLES:
                found[path] = Setting(path, owner, field.name, field.type, getattr(defaults, field.name))
    return found


SETTINGS = _settings()
"""Every setting by its path."""
