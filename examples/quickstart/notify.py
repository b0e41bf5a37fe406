"""Any process of yours: a web application, a Celery task, a script."""

import os

from mesa_ws import Dispatcher, Message

url = os.environ.get("MESA_URL", "http://127.0.0.1:4001")
online = Message(0, {"status": "online"}, "STATUS_UPDATE")

with Dispatcher(url, key=os.environ.get("MESA_API_KEY")) as dispatcher:
    receipt = dispatcher.dispatch(online, ["0", "1"])
    for id, delivery in receipt.deliveries.items():
        print(f"user {id}: {delivery.online} online")
