"""What the rest of the project needs of Mesa: a dispatcher, and tokens for the WebSocket."""

from django.conf import settings
from django.core import signing

from mesa_ws import Dispatcher, Message

from .models import Order

NAMESPACE = "shop"
DAY = 24 * 60 * 60

# One for each process. It connects with its first dispatch, so workers may be forked after this.
dispatcher = Dispatcher(settings.REDIS, namespace=NAMESPACE, sync=True)


def token_for(user_id: int) -> str:
    """What a client shows to be this user, to views and to the server."""
    return signing.dumps(user_id, salt="realtime")


def user_id_of(token: str) -> int:
    """Whom a token was made for.

    Raises:
        signing.BadSignature: it is none of ours, or a day old.
    """
    user_id: int = signing.loads(token, salt="realtime", max_age=DAY)
    return user_id


def tell(order: Order, key: str) -> None:
    """Tell the owner how an order is; by the same key only once."""
    message = Message(0, {"order": order.pk, "status": order.status}, "STATUS_UPDATE")
    dispatcher.dispatch(message, [str(order.owner_id)], idempotency_key=key)
