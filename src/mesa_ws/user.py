"""Who a client is after authentication."""

from dataclasses import dataclass, field
from typing import Any

from .recipients import check_id


@dataclass(frozen=True, slots=True)
class User:
    """What an authenticator returns.

    Args:
        id: who this is; recipients are matched against it.
        data: the user object, sent to the client if `send_user_object` is on. Defaults to
            `{"id": id}`.

    Raises:
        InvalidRecipients: `id` cannot name a client.
    """

    id: str
    data: Any = field(default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", check_id(self.id))
        if self.data is None:
            object.__setattr__(self, "data", {"id": self.id})
