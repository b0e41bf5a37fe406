"""A dispatcher in a Flask application.

```python
mesa = Mesa()


def create_app():
    app = Flask(__name__)
    app.config["MESA"] = {"url": "redis://localhost:6379", "namespace": "shop", "sync": True}
    mesa.init_app(app)
    return app
```

A view calls `mesa.dispatcher.dispatch(...)`.
"""

from collections.abc import Mapping

from flask import Flask, current_app

from .. import Dispatcher
from ..errors import InvalidInput, MesaError

NAME = "mesa"
"""Of the extension, in `app.extensions`."""


class Mesa:
    """The extension: one dispatcher for each application.

    `app.config["MESA"]` are the arguments of `Dispatcher`, or a dispatcher, such as a recording one in tests.
    In the environment they are `FLASK_MESA__url` and so on, for an application that calls
    `app.config.from_prefixed_env()`.

    Args:
        app: the application; None to call `init_app` later.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make the dispatcher of an application. It connects with its first dispatch, also after a fork.

        Raises:
            InvalidInput: its configuration cannot be used.
        """
        given = app.config.get("MESA", {})
        try:
            app.extensions[NAME] = Dispatcher(**given) if isinstance(given, Mapping) else given
        except (InvalidInput, TypeError) as error:
            raise InvalidInput(
                f'app.config["MESA"]: expected the arguments of Dispatcher; {error}'
            ) from error

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of the current application.

        Raises:
            MesaError: `init_app` was not called with it.
        """
        dispatcher: Dispatcher | None = current_app.extensions.get(NAME)
        if dispatcher is None:
            raise MesaError(f"expected init_app to be called with {current_app.name!r}, got no call")
        return dispatcher
