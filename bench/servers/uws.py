"""uWebSockets through socketify: each client subscribes to the topic of all.

It runs the loop of uWebSockets alone. With `App.run`, socketify turns asyncio's loop and this one by
polling, without a pause while there is work and for some time afterwards, which would count as CPU time.
"""

import json
import select
import sys
from typing import Any

from socketify import App, AppListenOptions, OpCode, WebSocket

from .. import wire

TOPIC = "everybody"
PAUSE = 0.001
"""Seconds between two turns of the loop while there is no order."""

app = App()


def on_open(client: WebSocket) -> None:
    client.send(wire.HELLO, OpCode.TEXT)


def on_message(client: WebSocket, message: str, opcode: OpCode) -> None:
    id = json.loads(message)["d"]["id"]
    client.subscribe(TOPIC)
    client.send(wire.acknowledgement(id), OpCode.TEXT)


def everybody(messages: int, data: Any, type: str, each: int = 1) -> None:
    for _turn in range(messages // each):
        for _ in range(each):
            body = json.dumps({"op": 0, "d": data, "t": type}, separators=(",", ":")).encode()
            app.publish(TOPIC, body, OpCode.TEXT)
        app.loop.uv_loop.run_nowait()


def main() -> None:
    app.ws("/ws", {"open": on_open, "message": on_message, "idle_timeout": 0, "max_backpressure": 1 << 20})
    app.listen(
        AppListenOptions(host="127.0.0.1", port=0),
        lambda config: print(json.dumps({"port": config.port}), flush=True),
    )
    while True:
        if select.select([sys.stdin], [], [], PAUSE)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            details = json.loads(line)
            {"everybody": everybody}[details.pop("order")](**details)
            print("{}", flush=True)
        app.loop.uv_loop.run_nowait()


main()
