"""Tasks of Celery that dispatch, and may run more than once.

```python
class ShopTask(DispatchingTask):
    dispatcher = Dispatcher("redis://localhost:6379", namespace="shop", sync=True)


@app.task(base=ShopTask, bind=True)
def ship(self, order, owner):
    self.dispatch(Message(0, {"order": order}, "SHIPPED"), [owner], step="shipped")
```
"""

from collections.abc import Iterable
from typing import ClassVar

from celery import Task

from .. import BackendUnavailable, Dispatcher, DispatchEvent, Message, Receipt
from ..errors import InvalidInput
from ..messages.recipients import EVERYBODY
from ..settings import Durability


class DispatchingTask(Task):
    """The base of tasks that dispatch; `app.task(base=..., bind=True)`.

    When the backend is away, Celery runs the task again: after 1 second, then 2, 4 and so on up to 10
    minutes, each less by chance, 20 times. A worker that dies leaves its task to another one. Whenever the
    task runs again, messages that were sent are not sent again.

    Attributes:
        dispatcher: of the process, which all tasks share; a subclass sets it. It connects with its first
            dispatch, so the worker may fork after it was made.
    """

    abstract = True
    acks_late = True
    reject_on_worker_lost = True  # or a process that is killed would take its task with it
    autoretry_for = (BackendUnavailable,)
    max_retries = 20
    retry_backoff = True
    retry_backoff_max = 600
    retry_jitter = True

    dispatcher: ClassVar[Dispatcher]

    def dispatch(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
        *,
        step: str,
        durability: Durability = "memory",
    ) -> Receipt:
        """Send a message, once for each `step` of a task, however often that runs.

        Args:
            message: as of `Dispatcher.dispatch`, like the following.
            recipients: ids, or `"*"` for everybody.
            excluding: ids that do not receive it.
            step: names this message within the task; another message with the same step is not sent.
            durability: where the message is stored when this returns.

        Raises:
            InvalidInput: an argument cannot be used, or the task has no id, as its function was called.
            BackendUnavailable: the backend is away; Celery runs the task again.
            BackendRefused: the backend refuses.
        """
        task = self.request.id
        if task is None:
            raise InvalidInput(
                f"{self.name}: expected a task with an id, got a call of its function; use apply()"
            )
        key = f"{task}-{step}"
        return self.dispatcher.dispatch(
            message, recipients, excluding, idempotency_key=key, durability=durability
        )
