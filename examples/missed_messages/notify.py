"""Send notes to a user who may be away, and print what has become of them."""

import os
import sys

from mesa_ws import Dispatch, Dispatcher, Message

url = os.environ.get("MESA_URL", "http://127.0.0.1:4001")
id, *notes = sys.argv[1:]

with Dispatcher(url, key=os.environ.get("MESA_API_KEY"), sync=True) as dispatcher:
    receipts = dispatcher.dispatch_many([Dispatch(Message(0, note, "NOTE"), [id]) for note in notes])
    for note, receipt in zip(notes, receipts, strict=True):
        delivery = receipt.deliveries[id]
        state = dispatcher.status(receipt).ids[id].state
        print(f"{note}: stored={delivery.stored} online={delivery.online} {state}", flush=True)
