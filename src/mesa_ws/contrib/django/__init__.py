"""Mesa in a Django project.

`"mesa_ws.contrib.django"` in `INSTALLED_APPS` adds checks and `manage.py runmesa`. The setting `MESA` says
how the project's processes and servers meet:

```python
MESA = {
    "URL": "redis://localhost:6379",
    "NAMESPACE": "shop",
    "SYNC": True,
    "SERVER": {"authentication": {"required": True}},
}
```

`URL`: what `Dispatcher` and `Server` take. Defaults to a Redis on this machine.
`NAMESPACE`, `SYNC`, `WIRE`: as of both.
`DISPATCHER`: further arguments of `Dispatcher`; or a dispatcher, such as a `RecordingDispatcher` in tests.
`SERVER`: further arguments of `Server`; or the dotted path of a server that the project has made.
`AUTHENTICATOR`: the dotted path of the function that authenticates clients; by default
    `mesa_ws.contrib.django.authenticate_session`.
`TOKEN_AGE`: seconds for which a token counts. Defaults to a day.
"""

from .authentication import authenticate_session, authenticate_token, token_for, user_of_token
from .configuration import database, make_server
from .dispatching import dispatch_on_commit, dispatcher

__all__ = [
    "authenticate_session",
    "authenticate_token",
    "database",
    "dispatch_on_commit",
    "dispatcher",
    "make_server",
    "token_for",
    "user_of_token",
]
