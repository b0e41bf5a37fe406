"""A Flask application that sends to users, whichever server they are connected to."""

from typing import Any

from flask import Flask, request

from mesa_ws import BackendError, Message
from mesa_ws.contrib.flask import Mesa

mesa = Mesa()


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config["MESA"] = {"namespace": "shop", "sync": True}
    app.config.from_prefixed_env()  # FLASK_MESA__url is the Redis
    app.config.from_mapping(config)  # of a test
    mesa.init_app(app)

    @app.post("/orders/<number>/ship")
    def ship(number: str) -> tuple[dict[str, bool], int]:
        """Tell the owner; a call that is repeated after an error sends once."""
        owner = request.form["owner"]
        message = Message(0, {"order": number, "status": "shipped"}, "STATUS_UPDATE")
        try:
            receipt = mesa.dispatcher.dispatch(message, [owner], idempotency_key=f"{number}-shipped")
        except BackendError:
            return {"sent": False}, 503
        return {"sent": True, "online": receipt.deliveries[owner].online > 0}, 202

    return app
