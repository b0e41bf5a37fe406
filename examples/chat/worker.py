"""A portal: what people say is saved, and sent to everybody in the room. Run as many as you like."""

import os

from rooms import Rooms

from mesa_ws import Dispatcher, Message, Portal, PortalEvent

redis = os.environ.get("REDIS", "redis://localhost:6379")
portal = Portal(redis, namespace="chat")
dispatcher = Dispatcher(redis, namespace="chat", sync=True)
rooms = Rooms(os.environ.get("DATABASE", "chat.db"))


@portal.on_message("JOIN")
def join(event: PortalEvent) -> None:
    if event.id is None or event.message is None:
        return
    room = event.message.data["room"]
    rooms.join(room, event.id)
    dispatcher.dispatch(Message(0, {"room": room, "id": event.id}, "JOINED"), rooms.members(room))
    event.reply_blocking(Message(0, rooms.history(room), "HISTORY"))


@portal.on_message("SAY")
def say(event: PortalEvent) -> None:
    if event.id is None or event.message is None:
        return
    room, text = event.message.data["room"], event.message.data["text"]
    rooms.save(event.key, room, event.id, text)
    said = Message(0, {"room": room, "author": event.id, "text": text}, "SAID")
    dispatcher.dispatch(said, rooms.members(room))


if __name__ == "__main__":
    portal.run(lambda: print("portal", portal.portal_id, flush=True))
